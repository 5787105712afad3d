"""What both languages read alike: tokens one after the other, numbers, escapes, and what is wrong at which place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from lateen.expressions.syntax import Expression, ExpressionError, Literal
from lateen.expressions.vocabulary import ValueType

LONGEST = 8192
DEEPEST = 50

Token = tuple[str, str, int]
"""Kind, text and place."""


def look_over(text: str) -> None:
    """Raises ExpressionError where the text is none that may be read."""
    if len(text) > LONGEST:
        raise ExpressionError(f"it is longer than {LONGEST} characters", text, 0, "write several rules")
    if not text.strip():
        raise ExpressionError("it is empty", text, 0, "write an expression, or leave the field out")


def scan(text: str, token: re.Pattern[str], wrong: Callable[[str, int], ExpressionError]) -> tuple[Token, ...]:
    """The tokens, each of the kind that its group in ``token`` is called by; space is left out, and an end follows."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = token.match(text, at)
        if match is None:
            raise wrong(text, at)
        if match.lastgroup != "space":
            found.append((match.lastgroup or "", match.group(), at))
        at = match.end()
    return (*found, ("end", "", len(text.rstrip())))


class Reader:
    """Tokens of a text, and where in them the reading is."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def _ended(self, found: Expression) -> Expression:
        """What was found, if the text ends there."""
        kind, written, at = self._peek()
        if kind != "end":
            raise self._wrong(f"{written} is not expected here", at, "join the parts by an operator such as &&")
        return found

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        if token[0] != "end":
            self._next += 1
        return token

    def _is(self, operator: str) -> bool:
        """Whether this operator is next; if so, it is taken."""
        kind, written, _ = self._peek()
        if kind != "operator" or written != operator:
            return False
        self._next += 1
        return True

    def _expect(self, wanted: str, remedy: str) -> None:
        at = self._peek()[2]
        if not self._is(wanted):
            raise self._wrong(f"{wanted} is expected", at, remedy)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong(f"it is nested deeper than {DEEPEST} levels", self._peek()[2], "write several rules")

    def _integer(self, value: int, at: int) -> Literal:
        if not -(1 << 63) <= value < 1 << 63:
            raise self._wrong("the number does not fit into 64 bits", at, "write a smaller one")
        return Literal(value, ValueType.INT64, at)

    def _double(self, written: str, at: int) -> Literal:
        if math.isinf(float(written)):
            raise self._wrong("the number is larger than can be", at, "write a smaller one")
        return Literal(float(written), ValueType.DOUBLE, at)

    def _unescaped(self, inside: str, at: int, escape: re.Pattern[str], named: Mapping[str, str]) -> str:
        """A text without its quotes, the first of which is at ``at``. ``escape`` has groups for an octal number, three
        hexadecimal ones and any other character, of which ``named`` are taken."""

        def one(found: re.Match[str]) -> str:
            octal, byte, short, long, other = found.groups()
            if other is not None:
                if other not in named:
                    raise self._wrong(f"\\{other} is no escape", at + 1 + found.start(), "write \\\\ for a backslash")
                return named[other]
            code = int(octal, 8) if octal else int(byte or short or long, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000 or (octal and code > 0xFF):
                raise self._wrong("the escape means no character", at + 1 + found.start(), "correct it")
            return chr(code)

        return escape.sub(one, inside)

    def _wrong(self, message: str, at: int, remedy: str) -> ExpressionError:
        return ExpressionError(message, self._text, at, remedy)
