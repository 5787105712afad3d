"""Expressions of CEL: which ones Envoy takes, as we say it and as it does."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from lateen.values.envoy_attributes import in_place_of, unknown_attributes
from lateen.values.expression import find_syntax_error, without_string

GOOD = [
    "true",
    "response.code >= 400",
    "!connection.mtls && request.url_path.contains('v1beta3')",
    'request.headers["x-id"] == "a\\"b" || has(request.headers.y)',
    "a ? b : c ? d : e",
    "1.5e3 in [1, 2, 3,] && 7u in [0x1F, 0xFFFFFFFFFFFFFFFFu]",
    "{'a': 1, 'b': [2]}.a - -1",
    "- 9223372036854775808 < --1",
    "a.`b-c`.size() == size(a) && has(a.b)",
    "'\\u00e9\\U0001F600\\x41\\101\\n' != b'\\xff'",
    "request.time.getHours('UTC') > 8 ? .size(a) == 1 : matches(a, '^a+$')",
    " && ".join(["a == 1"] * 200),
    "a" + ".b" * 31,
    "r'\\d+' == '''long\n''' // and a remark",
    ".absolute.name",
]
BAD = [
    "",
    "response.code >=",
    "a b",
    "a && ",
    "f(1",
    "'open",
    "a.1",
    "(a",
    "[1, 2",
    "a ? b",
    "{1}",
    "for",
    "a = b",
    "a @ b",
    "request.path.lowerAscii() == 'a'",
    "string(response.code) == '200'",
    "request.path.matches('a', 'b')",
    "request.path.duration()",
    "[1].exists(x, x == 1)",
    "Message{field: 1}",
    "has(request)",
    "request.path.matches('[')",
    "matches(request.path, r'\\d{200}')",
    "'\\d'",
    "'\\ud83d\\ude00'",
    "b'\\u0041'",
    "9223372036854775808",
    "18446744073709551616u",
    "!-a",
    "f(1,)",
    "request.in",
    "a ? b ? c : d : e",
    "a" + ".b" * 32,
    "1" + " + 1" * 40,
    "a\x0b",
]


@pytest.mark.parametrize("text", GOOD)
def test_expressions(text: str) -> None:
    assert find_syntax_error(text) == ""


@pytest.mark.parametrize("text", BAD)
def test_no_expressions(text: str) -> None:
    assert find_syntax_error(text)


def test_deep_nesting_is_refused_not_survived() -> None:
    assert "nested" in find_syntax_error("(" * 10_000 + "a" + ")" * 10_000)


@given(st.text(alphabet="ab.()[]{}'\"!?:,&|<>=+-1 \n/\\", max_size=60))
def test_any_text_gets_an_answer(text: str) -> None:
    assert isinstance(find_syntax_error(text), str)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("response.code >= 400 && request.headers['x'] == 'a' && xds.route_name == ''", []),
        ("response.cod >= 400 || request.methd == response.flag", ["response.cod", "request.methd", "response.flag"]),
        ("has(request.headers.y) && metadata.filter_metadata['request.a'].response.b == 1", []),
        ("a.request.b == 1", ["a"]),
        (
            "downstream_peer.namespace + listener_direction + node.metadata['A']",
            ["downstream_peer", "listener_direction", "node"],
        ),
        ("filter_state.upstream_peer.labels['a'].value", ["filter_state.upstream_peer"]),
        (
            "filter_state['downstream_peer'].app + filter_state['a'].b + filter_state.c",
            ["filter_state.downstream_peer"],
        ),
        ("type(response.code) == int && 'a' in ['b'] && true", []),
        ("request", []),
    ],
)
def test_attributes_that_envoy_does_not_have(text: str, unknown: list[str]) -> None:
    assert find_syntax_error(text) == ""
    assert list(unknown_attributes(text)) == unknown


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("string(destination.port)", "destination.port"),
        (" string( request.size + 1 ) ", "request.size + 1"),
        ("string(a) + string(b)", "string(a) + string(b)"),
        ("stringy", "stringy"),
        ("(a)", "(a)"),
    ],
)
def test_a_text_of_a_value_is_the_value(text: str, within: str) -> None:
    assert without_string(text) == within


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("listener_direction", "write xds.listener_direction"),
        ("request.methd", "did you mean request.method?"),
        (
            "downstream_peer",
            "take the labels that each metric has of both sides, such as source_workload and destination_app",
        ),
        ("node", "write xds.node"),
        ("conection", "did you mean connection?"),
    ],
)
def test_what_to_write_in_place_of_an_attribute(name: str, instead: str) -> None:
    assert in_place_of(name) == instead
