"""CEL: reading ends in a tree or a finding, and logic over attributes that may be absent is CEL's own."""

from __future__ import annotations

from hypothesis import given, strategies as st

from lateen.expressions.check import check
from lateen.expressions.evaluate import AbsentError, MapBag, compile_expression, compile_match
from lateen.expressions.language import CEL, parse_as
from lateen.expressions.partial import partial
from lateen.expressions.syntax import ExpressionError
from lateen.expressions.vocabulary import ValueType
from tests.properties.length import examples

Truth = bool | None
ATOMS: dict[str, Truth] = {'"t" in request.headers': True, "true": True, "false": False}
for _key, _value in (("t", True), ("f", False), ("n", None)):
    ATOMS[f'request.headers["{_key}"] == "yes"'] = _value
    ATOMS[f"has(request.headers.{_key})"] = _value is not None
ATOMS["connection.mtls"] = True
ATOMS["context.reporter.local"] = False
ATOMS["check.cache_hit"] = None
BAG = {
    "request.headers": {"t": "yes", "f": "no"},
    "connection.mtls": True,
    "context.reporter.local": False,
}
Formula = tuple[str, Truth]


def _or(one: Truth, other: Truth) -> Truth:
    if one is True or other is True:
        return True
    return None if one is None or other is None else False


def _joined(parts: tuple[Formula, str, Formula]) -> Formula:
    (left, one), operator, (right, other) = parts
    if operator == "||":
        return f"({left}) || ({right})", _or(one, other)
    inverse = _or(None if one is None else not one, None if other is None else not other)
    return f"({left}) && ({right})", None if inverse is None else not inverse


def _chosen(parts: tuple[Formula, Formula, Formula]) -> Formula:
    (test, truth), (yes, one), (no, other) = parts
    return f"({test}) ? ({yes}) : ({no})", None if truth is None else one if truth else other


def _grown(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(_joined),
        inner.map(lambda one: (f"!({one[0]})", None if one[1] is None else not one[1])),
        st.tuples(inner, inner, inner).map(_chosen),
    )


formulas = st.recursive(st.sampled_from(sorted(ATOMS.items(), key=str)), _grown, max_leaves=10)


@given(formulas)
@examples(100, 3000)
def test_an_absent_side_does_no_harm_where_the_other_one_decides(formula: Formula) -> None:
    text, truth = formula
    tree, kind = check(text, parse_as(CEL, text))
    assert kind is ValueType.BOOL
    for form in (tree, partial(tree, {"connection.mtls": True, "check.cache_hit": None})):
        try:
            found: Truth = compile_expression(form)(MapBag(BAG))
        except AbsentError:
            found = None
        assert found is truth
    match, _ = check(text, parse_as(CEL, text, match=True))
    assert compile_match(match)(MapBag(BAG)) is (truth is True)


PIECES = (
    "request.headers",
    "source.ip",
    "(",
    ")",
    "[",
    "]",
    " in ",
    "&&",
    "||",
    "!",
    "-",
    "1",
    '"a"',
    "?",
    ":",
    ".a",
    ",",
)


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@examples(150, 5000)
def test_whatever_is_written_ends_in_a_tree_or_in_words(text: str) -> None:
    try:
        check(text, parse_as(CEL, text))
    except ExpressionError as problem:
        assert problem.message
        assert problem.remedy
        assert 1 <= problem.line <= text.count("\n") + 1
