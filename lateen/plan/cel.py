"""Conditions of a plan in Envoy's own expression language, CEL.

Comes in: ``Condition`` and ``StringMatcher`` values. Goes out: text. Envoy joins headers that come twice by commas
there, as the mixer does, where its RBAC looks at one after the other. Bytes that are no UTF-8 compare like others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

import re2

from lateen.plan.access.conditions import quote
from lateen.plan.access.model import All, AnyOf, Condition, Header, Not, PeerIdentity, UrlPath
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.values.expression import LARGEST_PATTERN, find_syntax_error

LONGEST = 32_768
"""A third of what Envoy reads: formats have other parts too."""
_PEER = "connection.uri_san_peer_certificate"
_TESTS: Mapping[MatchKind, str] = {
    MatchKind.EXACT: "{0} == {1}",
    MatchKind.PREFIX: "{0}.startsWith({1})",
    MatchKind.SUFFIX: "{0}.endsWith({1})",
}


class Inexpressible(Exception):
    """The language has nothing for it; the message says why, as the rest of a sentence that begins with "because"."""


def expression(condition: Condition) -> str:
    """A condition as an expression that is true or false, and never fails. Raises Inexpressible.

    A choice may be made by it, and by one more condition.
    """
    text = _written(condition)
    if len(text) > LONGEST:
        raise Inexpressible(f"its texts come to more than {LONGEST} characters")
    if find_syntax_error(f"{text} && true ? 0 : 0"):
        raise Inexpressible("its conditions are nested deeper than Envoy takes them")
    return text


def _written(condition: Condition) -> str:
    if isinstance(condition, Not):
        return f"!({_written(condition.term)})"
    if isinstance(condition, All | AnyOf):
        word, none = ("&&", "true") if isinstance(condition, All) else ("||", "false")
        return "(" + f" {word} ".join(map(_written, condition.terms)) + ")" if condition.terms else none
    if isinstance(condition, Header):
        name = quoted(condition.name)
        there = f"{name} in request.headers"
        if condition.match.kind is MatchKind.PRESENT:
            return there
        return f"({there} && {test(f'request.headers[{name}]', condition.match)})"
    if isinstance(condition, UrlPath):
        return test("request.url_path", condition.match)
    if isinstance(condition, PeerIdentity):
        return f"(has({_PEER}) && {test(_PEER, condition.match)})"
    raise Inexpressible("it depends on the address of the client")


def test(value: str, match: StringMatcher) -> str:
    """A test of a text that is there, which ``value`` stands for; PRESENT always holds. Raises Inexpressible."""
    if match.kind is MatchKind.PRESENT:
        return "true"
    if match.kind is MatchKind.REGEX:
        return _matches(value, f"^(?:{match.value})$")
    if match.ignore_case or match.kind is MatchKind.CONTAINS:
        before = "^" if match.kind in (MatchKind.EXACT, MatchKind.PREFIX) else ""
        after = "$" if match.kind in (MatchKind.EXACT, MatchKind.SUFFIX) else ""
        case = "(?i)" if match.ignore_case else ""
        return _matches(value, f"{case}{before}{quote(match.value)}{after}")
    return _TESTS[match.kind].format(value, quoted(match.value))


def _matches(value: str, pattern: str) -> str:
    try:
        is_large = _size(pattern) > LARGEST_PATTERN
    except re2.error:
        raise Inexpressible("Envoy does not read its pattern") from None
    if is_large:
        raise Inexpressible("its pattern is too large for Envoy")
    return f"{value}.matches({quoted(pattern)})"


@lru_cache(maxsize=4096)
def _size(pattern: str) -> int:
    """How large its program is, in characters of Unicode; in bytes, as elsewhere in Envoy, it may be smaller."""
    options = re2.Options()
    options.log_errors = False
    return int(re2.compile(pattern, options).programsize)


def quoted(text: str) -> str:
    """A text as the language writes it; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
