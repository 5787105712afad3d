"""The two languages that an expression may be written in."""

from __future__ import annotations

from lateen.expressions.cel import parse_cel
from lateen.expressions.parse import parse
from lateen.expressions.syntax import Expression
from lateen.expressions.vocabulary import DEFAULT_VOCABULARY, Vocabulary

CEXL, CEL = "CEXL", "CEL"
LANGUAGES = (CEXL, CEL)


def parse_as(
    language: str, text: str, vocabulary: Vocabulary = DEFAULT_VOCABULARY, *, match: bool = False
) -> Expression:
    """The tree of an expression. ``match``: where it cannot be evaluated, it means false. Raises ExpressionError."""
    return parse_cel(text, vocabulary, match=match) if language == CEL else parse(text)
