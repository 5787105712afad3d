"""Mixer's expressions: reading ends in a tree or a finding, and what is known beforehand changes no value."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

from hypothesis import given, strategies as st

from lateen.expressions.check import check
from lateen.expressions.evaluate import PRESENCE, AbsentError, MapBag, RecordingBag, compile_expression, compile_match
from lateen.expressions.functions import Unusable
from lateen.expressions.parse import parse, render
from lateen.expressions.partial import partial
from lateen.expressions.syntax import Expression, ExpressionError
from tests.properties.length import examples

TEXTS = ("a", "b", "/a*", "*b", "10ms", "10.0.0.1", "x.example")
STRINGS = ("request.path", "source.namespace", "destination.workload.name", "context.reporter.kind")
MAPS = ("request.headers", "destination.labels")
NUMBERS = ("request.size", "destination.port")
texts = st.sampled_from(TEXTS)


def _string(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        texts.map(lambda text: f'"{text}"'),
        st.sampled_from(STRINGS),
        st.tuples(st.sampled_from(MAPS), st.sampled_from("ab")).map(lambda one: f'{one[0]}["{one[1]}"]'),
        st.tuples(st.sampled_from(STRINGS), texts).map(lambda one: f'({one[0]} | "{one[1]}")'),
        st.tuples(inner, st.sampled_from(STRINGS)).map(lambda one: f'conditional({one[0]}, "a", {one[1]})'),
        st.sampled_from(STRINGS).map(lambda name: f"toLower({name})"),
        st.tuples(texts, st.sampled_from(STRINGS)).map(lambda one: f'"{one[0]}" + {one[1]}'),
    )


def _boolean(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    string = _string(inner)
    number = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(["0", "80", "(request.size | 7)"]))
    return st.one_of(
        st.tuples(string, st.sampled_from(["==", "!=", "<"]), string).map(
            lambda one: f"({one[0]}) {one[1]} ({one[2]})"
        ),
        st.tuples(number, st.sampled_from(["==", ">="]), number).map(" ".join),
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda one: f"({one[0]}) {one[1]} ({one[2]})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(string, texts).map(lambda one: f'match({one[0]}, "{one[1]}")'),
        st.tuples(string, texts).map(lambda one: f'({one[0]}).startsWith("{one[1]}")'),
        st.tuples(st.sampled_from(STRINGS), texts).map(lambda one: f'"{one[1].strip("*")[:1]}.*".matches({one[0]})'),
        st.sampled_from(STRINGS).map(lambda name: f"source.ip == ip({name} | '10.0.0.1')".replace("'", '"')),
        texts.map(lambda text: f'(response.duration | "1s") < "{text if text.endswith("ms") else "2s"}"'),
    )


booleans = st.recursive(st.sampled_from(["true", "false", "connection.mtls"]), _boolean, max_leaves=12)
maybe_text = st.none() | texts
bags = st.fixed_dictionaries(
    {
        **dict.fromkeys(STRINGS, maybe_text),
        **dict.fromkeys(MAPS, st.none() | st.dictionaries(st.sampled_from("ab"), texts)),
        **dict.fromkeys(NUMBERS, st.none() | st.sampled_from([0, 7, 80])),
        "connection.mtls": st.none() | st.booleans(),
        "source.ip": st.none() | st.just(ipaddress.ip_address("10.0.0.1")),
        "response.duration": st.none() | st.just(datetime.timedelta(milliseconds=10)),
    }
)


def settled(text: str) -> Expression:
    return check(text, parse(text))[0]


def worth(tree: Expression, bag: dict[str, Any]) -> Any:
    """The value, or why there is none."""
    try:
        return compile_expression(tree)(MapBag(bag))
    except (AbsentError, Unusable):
        return "no value"


@given(st.text(alphabet='a.b[]()"`|&!=<>+-1,\\ \n\u00e9', max_size=40) | st.text(max_size=40))
@examples(200, 20_000)
def test_reading_ends_in_a_tree_or_in_a_place(text: str) -> None:
    try:
        tree = parse(text)
    except ExpressionError as problem:
        assert problem.line >= 1
        assert problem.column >= 1
        return
    assert render(parse(render(tree))) == render(tree)


@given(booleans)
@examples(200, 10_000)
def test_what_is_written_again_is_worth_the_same(text: str) -> None:
    assert render(parse(render(parse(text)))) == render(parse(text))


@given(booleans, bags, st.sets(st.sampled_from((*STRINGS, *MAPS, *NUMBERS, "connection.mtls"))))
@examples(400, 40_000)
def test_what_is_known_beforehand_changes_no_value(text: str, bag: dict[str, Any], known: set[str]) -> None:
    tree = settled(text)
    rest = partial(tree, {name: bag[name] for name in known})
    assert worth(rest, bag) == worth(tree, bag)
    assert compile_match(rest)(MapBag(bag)) == compile_match(tree)(MapBag(bag))


@given(booleans, bags, bags)
@examples(400, 20_000)
def test_a_value_depends_on_what_was_looked_at_alone(text: str, bag: dict[str, Any], other: dict[str, Any]) -> None:
    tree = settled(text)
    recording = RecordingBag(MapBag(bag))
    value = compile_match(tree)(recording)
    mixed = dict(other)
    for name, key in sorted(recording.seen, key=lambda one: one[1] == PRESENCE):
        if key is None:
            mixed[name] = bag[name]
        elif key == PRESENCE:
            mixed[name] = None if bag[name] is None else mixed[name] or {}
        else:
            entries = dict(mixed[name] or {}) if mixed[name] is not bag[name] else dict(bag[name] or {})
            entries.pop(key, None)
            if bag[name] and key in bag[name]:
                entries[key] = bag[name][key]
            mixed[name] = entries
    assert compile_match(tree)(MapBag(mixed)) == value
