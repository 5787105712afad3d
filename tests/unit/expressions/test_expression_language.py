"""Mixer's expression language: what it takes, what it is worth, and how it says what is wrong."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

import pytest

from lateen.expressions.check import check
from lateen.expressions.evaluate import AbsentError, MapBag, RecordingBag, compile_expression, compile_match
from lateen.expressions.functions import Unusable
from lateen.expressions.parse import parse, render
from lateen.expressions.syntax import ExpressionError
from lateen.expressions.vocabulary import DEFAULT_VOCABULARY, ValueType

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
BAG: dict[str, Any] = {
    "request.headers": {"x-user": "jason", "x-empty": ""},
    "request.path": "/productpage?u=normal",
    "request.size": 42,
    "response.duration": datetime.timedelta(milliseconds=10),
    "request.time": NOON,
    "source.ip": ipaddress.ip_address("10.1.2.3"),
    "source.labels": {"app": "reviews", "version": "v2"},
    "connection.mtls": True,
    "destination.service.host": "Ratings.Default.svc.cluster.local.",
    "source.namespace": "default",
}


def value_of(text: str, bag: dict[str, Any] = BAG) -> Any:
    tree, _ = check(text, parse(text))
    return compile_expression(tree)(MapBag(bag))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('request.headers["x-user"]', "jason"),
        ('request.headers["x-user"] == "jason"', True),
        ('request.headers[`x-user`] != "jason"', False),
        ('request.headers["gone"] | "nobody"', "nobody"),
        ('request.headers["gone"] | request.headers["also"] | "nobody"', "nobody"),
        ('request.headers["x-empty"] | "nobody"', ""),
        ("(response.code == 1) | true", True),
        ('request.headers["gone"]', ""),
        ('request.headers["gone"] != "x"', True),
        ('match(request.headers["gone"], "user=*") == false', True),
        ('request.headers["gone"] | request.headers["also"]', ""),
        ('destination.labels["app"] | request.headers["gone"]', ""),
        ('source.labels[request.headers["gone"]] | "none"', "none"),
        ('emptyStringMap()["a"]', ""),
        ("request.size + 0x10", 58),
        ("request.size > 41 && request.size <= 42", True),
        ("-1 < request.size", True),
        ('"a" + "b" == "ab"', True),
        ('"10" < "9"', True),
        ('response.duration == "10ms"', True),
        ('response.duration < "1m0.5s"', True),
        ('response.duration | "0ms"', datetime.timedelta(milliseconds=10)),
        ('request.time == timestamp("2026-01-31T13:00:00+01:00")', True),
        ('source.ip == ip("10.1.2.3")', True),
        ('source.ip == ip("::ffff:10.1.2.3")', True),
        ('origin.ip | ip("0.0.0.0")', ipaddress.ip_address("0.0.0.0")),
        ('match(request.path, "/productpage*")', True),
        ('match(request.path, "*normal")', True),
        ('match(request.path, "/productpage")', False),
        ('"^/product.*u=n".matches(request.path)', True),
        ('"u=n".matches(request.path)', True),
        ('request.path.startsWith("/product")', True),
        ('source.labels["version"].endsWith("2")', True),
        ("size(source.namespace)", 7),
        ('toLower("ABC")', "abc"),
        ('conditional(connection.mtls, "mutual_tls", "none")', "mutual_tls"),
        (
            'conditionalString((context.reporter.kind | "inbound") == "outbound", "source", "destination")',
            "destination",
        ),
        ("conditional(true, 1, response.code)", 1),
        ('dnsName("Bücher.example") == dnsName("xn--bcher-kva.example.")', True),
        ('email("a@Example.com") == email("a@example.com")', True),
        ('email("A@example.com") == email("a@example.com")', False),
        ('uri("HTTP://Example.com/A") == uri("http://example.com/A")', True),
        ("false && response.code == 200", False),
        ("true || response.code == 200", True),
        ("!connection.mtls || connection.mtls", True),
        ('"a" == "a" && "b" == "b" || "c" == "d"', True),
        ('"\\u00e9\\x41\\101\\n" == "éAA\\n"', True),
        ("1.5e1 == 15.0", True),
        ("010", 8),
        ("-010 == -0X8", True),
        ("-9223372036854775808 < 0", True),
        ('timestamp("2026-01-31t12:00:00.123456789z") > request.time', True),
    ],
)
def test_a_value(text: str, value: Any) -> None:
    assert value_of(text) == value
    assert value_of(render(parse(text))) == value


@pytest.mark.parametrize(
    "text",
    [
        "response.code == 200",
        'request.query_params["gone"] == "x"',
        'request.query_params["gone"] != "x"',
        "response.code == 200 && false",
        'destination.labels["app"]',
        "!context.reporter.local",
    ],
)
def test_what_is_absent_gives_no_value_and_no_match(text: str) -> None:
    with pytest.raises(AbsentError):
        value_of(text)
    tree, _ = check(text, parse(text))
    assert compile_match(tree)(MapBag(BAG)) is False


def test_a_sum_that_is_too_large_has_no_value() -> None:
    with pytest.raises(Unusable, match="does not fit into 64 bits"):
        value_of("request.size + 9223372036854775807")


def test_a_value_that_a_function_cannot_use_gives_no_match() -> None:
    text = 'ip(request.headers["x-user"]) == source.ip'
    with pytest.raises(Unusable, match="'jason' is not an IP address"):
        value_of(text)
    tree, _ = check(text, parse(text))
    assert compile_match(tree)(MapBag(BAG)) is False


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: it is empty"),
        ("request.size =  1", "1:14: = means nothing here"),
        ("a.b == 'x'", "1:8: ' means nothing here"),
        ('"open', "1:1: a text is not closed"),
        ('"a" ==', "1:7: it ends where a value is expected"),
        ("request.size\n  > > 1", "2:5: > stands where a value is expected"),
        ("request.sise == 1", "1:1: there is no attribute request.sise"),
        ('request.size == "1"', "1:14: == has INT64 at its left and STRING at its right"),
        ('source.ip == "10.0.0.1"', "1:11: == has IP_ADDRESS at its left and STRING at its right"),
        ("request.size && true", "1:1: && takes BOOL, not INT64"),
        ("source.ip < source.ip", "1:11: values of type IP_ADDRESS have no order"),
        ("source.labels == destination.labels", "1:15: maps cannot be compared"),
        ('request.path["a"]', "1:1: what stands before [ takes STRING_MAP, not STRING"),
        ('mtach(request.path, "a")', "1:1: there is no function mtach"),
        ("match(request.path)", "1:1: match() takes 2 arguments, not 1"),
        ('matches("a", request.path)', "1:1: matches is a method"),
        ('request.path.match("a")', "1:14: match is no method"),
        ('"((".matches(request.path)', "1:1: the pattern does not compile: missing ): (("),
        ('ip("a.b")', "1:4: 'a.b' is not an IP address"),
        ('response.duration > "soon"', "1:21: 'soon' is not a duration such as 10ms or 1m30s"),
        ("response.duration > request.path", "1:21: a text is not a duration"),
        ('conditional(true, 1, "a")', "1:1: conditional() is given INT64 and STRING, where both are the same"),
        ("-request.size", "1:1: - stands before numbers alone"),
        ("1 2", "1:3: 2 is not expected here"),
        ("99999999999999999999", "1:1: the number does not fit into 64 bits"),
        ("-9223372036854775809", "1:2: the number does not fit into 64 bits"),
        ("1e999 == 1.0", "1:1: the number is larger than can be"),
        ('timestamp("2026-W05-6T12:00Z")', "1:11: '2026-W05-6T12:00Z' is not a time"),
        ('timestamp("20260131T120000Z")', "1:11: '20260131T120000Z' is not a time"),
        ('ip("fe80::1%eth0")', "1:4: 'fe80::1%eth0' is not an IP address"),
        ("089", "1:1: 089 is no number of base 8"),
        ('"\\q"', "1:2: \\q is no escape"),
        ("a." + "b", "1:1: there is no attribute a.b"),
        ("(" * 60 + "1" + ")" * 60, "nested deeper than 50 levels"),
        ("!" * 5000 + "true", "nested deeper than 50 levels"),
        ('"' + "a" * 9000 + '"', "1:1: it is longer than 8192 characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ExpressionError) as told:
        check(text, parse(text))
    assert problem in str(told.value)
    assert told.value.remedy


def test_what_an_attribute_was_called_before_is_told_with_its_name() -> None:
    with pytest.raises(ExpressionError) as told:
        check("destination.service", parse("destination.service"))
    assert told.value.remedy == "write destination.service.host"


def test_a_value_of_another_type_than_the_field_takes_is_told() -> None:
    with pytest.raises(ExpressionError, match="its value is INT64, where STRING is expected"):
        check("request.size", parse("request.size"), wanted=[ValueType.STRING])
    assert check('"10ms"', parse('"10ms"'), wanted=[ValueType.DURATION])[1] is ValueType.DURATION


def test_what_was_looked_at_is_noted_and_nothing_else() -> None:
    text = 'request.headers["x-user"] == "jason" || source.namespace == "x"'
    tree, _ = check(text, parse(text))
    bag = RecordingBag(MapBag(BAG))
    assert compile_match(tree)(bag)
    assert bag.seen == {("request.headers", "x-user")}


def test_attributes_of_a_manifest_can_be_named() -> None:
    more = DEFAULT_VOCABULARY.extended({"my.level": ValueType.INT64, "request.size": ValueType.STRING})
    assert check("my.level > request.size", parse("my.level > request.size"), more)[1] is ValueType.BOOL
