"""CEL: what it means, and what of it is refused, with its place."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

import pytest

from lateen.expressions.check import check
from lateen.expressions.evaluate import AbsentError, MapBag, compile_expression, compile_match
from lateen.expressions.language import CEL, CEXL, parse_as
from lateen.expressions.syntax import ExpressionError

BAG = MapBag(
    {
        "request.path": "/a.b/c",
        "request.method": "GET",
        "request.headers": {"x-user": "ann", "empty": ""},
        "request.size": 7,
        "source.ip": ipaddress.ip_address("10.0.0.1"),
        "destination.labels": {"app": "reviews"},
        "response.duration": datetime.timedelta(milliseconds=20),
        "request.time": datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
    }
)


def value(text: str) -> Any:
    return compile_expression(check(text, parse_as(CEL, text))[0])(BAG)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("request.path == '/a.b/c' && request.size > 3", True),
        ("'x' + request.method + \"y\"", "xGETy"),
        ("-3 + request.size", 4),
        ("request.headers['x-user']", "ann"),
        ("destination.labels.app", "reviews"),
        ("request.method in ['PUT', 'GET']", True),
        ("request.method in []", False),
        ("request.method in ['GET', request.headers['x-user']]", True),
        ("-9223372036854775808 < -0X10 && 0X10 == 16", True),
        ("has(source.ip) && has(response.duration) && has(request.time) && !has(destination.ip)", True),
        ("ip(request.method) == source.ip || request.size == 7", True),
        ("!(ip(request.method) == source.ip && request.size == 8)", True),
        ("request.size + 9223372036854775807 > 0 || true", True),
        ("'x-user' in request.headers", True),
        ("'x-other' in request.headers", False),
        ("has(request.headers.empty)", True),
        ("has(request.headers.other)", False),
        ("has(request.host) ? request.host : 'none'", "none"),
        ("has(request.size) && !has(response.code)", True),
        ("request.path.startsWith('/a') && request.path.endsWith('c')", True),
        ("request.path.matches('^/a.b/.$')", True),
        ("request.path.contains('a.b')", True),
        ("request.path.contains('a?b')", False),
        ("size(request.method) == request.method.size()", True),
        ("source.ip == ip('10.0.0.1')", True),
        ("response.duration < duration('1s') && response.duration > duration('10ms')", True),
        ("request.time < timestamp('2027-01-01T00:00:00Z')", True),
        ("request.size == 0x7 // the size\n && true", True),
        ("r'\\d' + '\\x41\\u0042\\103\\''", "\\dABC'"),
        ("match(request.path, '/a*')", True),
        ("request.headers['none'] == 'x' || request.size == 7", True),
        ("request.size == 8 && request.headers['none'] == 'x'", False),
        ("(true ? 1 : 2) + (false ? 10 : 20)", 21),
        ("1 < 2 == true", True),
    ],
)
def test_what_expressions_are_worth(text: str, wanted: Any) -> None:
    assert value(text) == wanted


def test_an_absent_side_that_matters_is_a_failure_and_in_a_match_false() -> None:
    text = "!(request.headers['none'] == 'x' || request.size == 8)"
    with pytest.raises(AbsentError):
        value(text)
    assert compile_match(check(text, parse_as(CEL, text, match=True))[0])(BAG) is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1:1: it is empty"),
        ("a" * 9000, "1:1: it is longer than"),
        ("request.path =", "1:14: = means nothing here"),
        ("request.path |\n 'x'", "1:14: | means nothing here"),
        ("true &&\n request.pathh == ''", "2:2: there is no attribute request.pathh"),
        ("request.size == 'x'", "1:14: == has INT64"),
        ("[1, 2]", "1:1: lists stand after in alone"),
        ("request.headers.exists(x, true)", "1:17: there is no macro exists"),
        ("null == request.path", "1:1: there is no null"),
        ("request.size - 1 == 2", "1:14: there is no subtraction"),
        ("request.size * 2 == 2", "1:14: * means nothing here"),
        ("int(request.path) == 2", "1:1: there is no function int"),
        ("request.path.substring(1)", "1:14: there is no method substring"),
        ("request.path.contains(request.method)", "1:14: contains takes a text"),
        ("request.path.matches('((')", "1:22: the pattern does not compile"),
        ("duration('soon') == response.duration", "1:10: 'soon' is not a duration"),
        ("has(request.headers)", "1:1: has takes"),
        ("-9223372036854775809 == 1", "1:2: the number does not fit into 64 bits"),
        ("1e999 == 1.0", "1:1: the number is larger than can be"),
        ("-request.size == 1", "1:1: - stands before numbers alone"),
        ("true ? 1", "1:9: : is expected"),
        ("request.method in ['GET'", "1:25: ] is expected"),
        ("'open", "1:1: a text is not closed"),
        ("7u == 7", "1:1: this is no number"),
        ("(" * 60, "nested deeper than 50"),
        (" || ".join(["connection.mtls"] * 300), "1:1: it joins too many parts"),
        (f"{'(connection.mtls || !' * 20}true{')' * 20}", "1:1: it joins too many parts"),
    ],
)
def test_what_is_not_read_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(text, parse_as(CEL, text))
    assert words in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "request.method in [request.headers['none'], 'GET']",
        "request.method in ['GET', request.headers['none']]",
        "request.headers['none'] in []",
    ],
)
def test_a_list_with_an_absent_entry_is_absent(text: str) -> None:
    with pytest.raises(AbsentError):
        value(text)


def nested(times: int, form: str) -> str:
    text = "true" if "true" in form else '"a"'
    for _ in range(times):
        text = form.replace("@", text)
    return text


@pytest.mark.timeout(5)
@pytest.mark.parametrize("form", ["(@ in [true, true])", '(has(request.headers[@]) ? "a" : "b")'])
def test_what_stands_for_itself_many_times_over_is_refused_at_once(form: str) -> None:
    with pytest.raises(ExpressionError, match="joins too many parts"):
        parse_as(CEL, nested(20, form))
    assert parse_as(CEL, nested(3, form))


@pytest.mark.parametrize("operator", [" + ", " | ", " || "])
def test_chains_that_are_too_long_are_told_in_both_languages(operator: str) -> None:
    text = operator.join(["1"] * 1500)
    with pytest.raises(ExpressionError, match="joins more than 200 parts"):
        parse_as(CEXL, text)
    with pytest.raises(ExpressionError):
        parse_as(CEL, text)
