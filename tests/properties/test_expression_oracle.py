"""Expressions in both languages are worth what a second, plain reading of them says; few have parentheses."""

from __future__ import annotations

import operator
from typing import Any

import re2
from hypothesis import given, strategies as st

from lateen.expressions.check import check
from lateen.expressions.evaluate import AbsentError, MapBag, compile_expression, compile_match
from lateen.expressions.functions import Unusable
from lateen.expressions.language import CEL, CEXL, parse_as
from tests.properties.length import examples

Term = tuple[Any, ...]
Bag = dict[str, Any]
TEXTS = ("", "a", "ab", "b", "/a", "é", "\U0001f600", 'a"b', "a\\b", "a\nb", "A.b", "10.0.0.1", "*a")
LARGEST = (1 << 63) - 1
NUMBERS = (0, 7, 80, -1, LARGEST, -LARGEST - 1)
PATTERNS = ("^a", "b$", "a|b", "(?i)A", "", "[^a]", ".", "é", r"\.")
STRINGS = ("request.path", "request.host", "source.namespace")
MAPS = ("request.headers", "destination.labels")
COUNTS = ("request.size", "response.code")
TRUTHS = ("connection.mtls", "context.reporter.local")
LEVELS = {"||": 1, "&&": 2, "+": 4, "|": 4}
ORDER = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Absent(Exception):
    """What is asked for is not there."""


class Useless(Exception):
    """A function can do nothing with its argument."""


# --- what may be written ---------------------------------------------------------------------------------------------

_compared = st.sampled_from(tuple(ORDER))


def _text(text: st.SearchStrategy[Term], truth: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    return st.one_of(
        st.tuples(st.just("+"), text, text),
        st.tuples(st.just("choice"), truth, text, text),
        st.tuples(st.just("or else"), st.sampled_from(MAPS), st.sampled_from("ab"), text),
        st.tuples(st.just("entry of"), st.sampled_from(MAPS), text),
        st.tuples(st.just("toLower"), text),
    )


def _truth(text: st.SearchStrategy[Term], count: st.SearchStrategy[Term], truth: st.SearchStrategy[Term]) -> Any:
    return st.one_of(
        st.tuples(st.just("compare"), _compared, text, text),
        st.tuples(st.just("compare"), _compared, count, count),
        st.tuples(st.sampled_from(("&&", "||")), truth, truth),
        st.tuples(st.just("!"), truth),
        st.tuples(st.just("choice"), truth, truth, truth),
        st.tuples(st.sampled_from(("startsWith", "endsWith", "match")), text, text),
        st.tuples(st.just("matches"), st.sampled_from(PATTERNS), text),
        st.tuples(st.just("is address"), text),
    )


_texts = st.one_of(
    st.tuples(st.just("literal"), st.sampled_from(TEXTS)),
    st.tuples(st.just("attribute"), st.sampled_from(STRINGS)),
    st.tuples(st.just("entry"), st.sampled_from(MAPS), st.sampled_from("ab")),
)
_counts = st.one_of(
    st.tuples(st.just("literal"), st.sampled_from(NUMBERS)),
    st.tuples(st.just("attribute"), st.sampled_from(COUNTS)),
    st.tuples(st.just("size"), _texts),
)
_sums = st.recursive(_counts, lambda inner: st.tuples(st.just("+"), inner, inner), max_leaves=3)
_flags = st.one_of(
    st.tuples(st.just("literal"), st.booleans()), st.tuples(st.just("attribute"), st.sampled_from(TRUTHS))
)
_deeper = st.recursive(_texts, lambda inner: _text(inner, _flags), max_leaves=4)
truths = st.recursive(
    _flags, lambda inner: _truth(st.one_of(_deeper, _text(_deeper, inner)), _sums, inner), max_leaves=8
)
maybe = st.none() | st.sampled_from(TEXTS)
bags = st.fixed_dictionaries(
    {
        **dict.fromkeys(STRINGS, maybe),
        **dict.fromkeys(MAPS, st.none() | st.dictionaries(st.sampled_from("ab"), st.sampled_from(TEXTS))),
        **dict.fromkeys(COUNTS, st.none() | st.sampled_from(NUMBERS)),
        **dict.fromkeys(TRUTHS, st.none() | st.booleans()),
    }
)

# --- how it is written -----------------------------------------------------------------------------------------------


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class Writer:
    """Writes a term, in parentheses only where they are needed: 0 is the loosest place, 6 takes what stands alone."""

    def __init__(self, language: str) -> None:
        self._is_cel = language == CEL

    def written(self, term: Term, place: int = 0) -> str:
        text, level = self._form(term)
        return f"({text})" if level < place else text

    def _form(self, term: Term) -> tuple[str, int]:
        kind, *parts = term
        if kind == "literal":
            return _quoted(parts[0]), 6 if not str(parts[0]).startswith("-") else 5
        if kind == "attribute":
            return parts[0], 6
        if kind == "entry":
            return f"{parts[0]}[{_quoted(parts[1])}]", 6
        if kind == "entry of":
            return f"{parts[0]}[{self.written(parts[1])}]", 6
        if kind == "!":
            return f"!{self.written(parts[0], 5)}", 5
        if kind in LEVELS:
            return self._binary(kind, parts[0], parts[1], LEVELS[kind])
        if kind == "compare":
            return self._binary(parts[0], parts[1], parts[2], 3)
        return self._function(kind, parts)

    def _binary(self, sign: str, left: Term, right: Term, level: int) -> tuple[str, int]:
        return f"{self.written(left, level)} {sign} {self.written(right, level + 1)}", level

    def _function(self, kind: str, parts: list[Any]) -> tuple[str, int]:
        if kind == "choice":
            test, yes, no = parts
            if self._is_cel:
                return f"{self.written(test, 1)} ? {self.written(yes, 1)} : {self.written(no)}", 0
            return f"conditional({self.written(test)}, {self.written(yes)}, {self.written(no)})", 6
        if kind == "or else":
            owner, key, other = parts
            if self._is_cel:
                return f'has({owner}.{key}) ? {owner}["{key}"] : {self.written(other)}', 0
            return f'{owner}["{key}"] | {self.written(other, 5)}', 4
        if kind in ("startsWith", "endsWith"):
            return f"{self.written(parts[0], 6)}.{kind}({self.written(parts[1])})", 6
        if kind == "matches":
            pattern, text = _quoted(parts[0]), self.written(parts[1], 6)
            return (f"{text}.matches({pattern})" if self._is_cel else f"{pattern}.matches({self.written(parts[1])})"), 6
        if kind == "is address":
            return f'ip("" + {self.written(parts[0], 5)}) == ip("10.0.0.1")', 3
        return f"{kind}({', '.join(self.written(part) for part in parts)})", 6


# --- what it is worth ------------------------------------------------------------------------------------------------


class Reader:
    """What a term is worth, read off as it stands."""

    def __init__(self, language: str, bag: Bag) -> None:
        self._is_cel, self._bag = language == CEL, bag

    def worth(self, term: Term) -> Any:
        kind, *parts = term
        if kind == "literal":
            return parts[0]
        if kind == "attribute":
            return self._there(self._bag[parts[0]])
        if kind == "entry":
            return self._entry(parts[0], parts[1])
        if kind == "entry of":
            return self._entry(parts[0], self.worth(parts[1]))
        if kind == "or else":
            found = (self._bag[parts[0]] or {}).get(parts[1])
            return self.worth(parts[2]) if found is None else found
        if kind == "choice":
            return self.worth(parts[1] if self.worth(parts[0]) else parts[2])
        if kind in ("&&", "||"):
            return self._logic(parts[0], parts[1], decides=kind == "||")
        if kind == "compare":
            return ORDER[parts[0]](self.worth(parts[1]), self.worth(parts[2]))
        if kind == "matches":
            return re2.search(parts[0], self.worth(parts[1])) is not None
        return self._applied(kind, [self.worth(part) for part in parts])

    def _logic(self, left: Term, right: Term, *, decides: bool) -> bool:
        try:
            if self.worth(left) is decides:
                return decides
        except (Absent, Useless):
            if not self._is_cel or self.worth(right) is not decides:
                raise
        return bool(self.worth(right))

    def _applied(self, kind: str, values: list[Any]) -> Any:
        one = values[0]
        if kind == "!":
            return not one
        if kind == "size":
            return len(one)
        if kind == "toLower":
            return one.lower()
        if kind == "is address":
            if one != "10.0.0.1":
                raise Useless
            return True
        other = values[1]
        if kind == "+":
            if isinstance(one, int) and not -LARGEST - 1 <= one + other <= LARGEST:
                raise Useless
            return one + other
        if kind == "match":
            exact = one == other if not other.startswith("*") else one.endswith(other[1:])
            return one.startswith(other[:-1]) if other.endswith("*") else exact
        return one.startswith(other) if kind == "startsWith" else one.endswith(other)

    def _entry(self, owner: str, key: str) -> str:
        entries = self._there(self._bag[owner])
        return self._there(entries.get(key, None if self._is_cel else ""))  # type: ignore[no-any-return]

    @staticmethod
    def _there(value: Any) -> Any:
        if value is None:
            raise Absent
        return value


def expected(language: str, bag: Bag, term: Term) -> Any:
    try:
        return Reader(language, bag).worth(term)
    except (Absent, Useless):
        return "no value"


def found(language: str, bag: Bag, text: str) -> Any:
    tree, _ = check(text, parse_as(language, text))
    try:
        return compile_expression(tree)(MapBag(bag))
    except (AbsentError, Unusable):
        return "no value"


@given(truths, bags, st.sampled_from((CEXL, CEL)))
@examples(300, 10_000)
def test_an_expression_is_worth_what_a_plain_reading_of_it_says(term: Term, bag: Bag, language: str) -> None:
    text = Writer(language).written(term)
    wanted = expected(language, bag, term)
    assert found(language, bag, text) == wanted
    match, _ = check(text, parse_as(language, text, match=True))
    assert compile_match(match)(MapBag(bag)) is (wanted is True)
