"""Conditions of a plan in Envoy's own expression language, CEL.

Comes in: ``Condition`` and ``StringMatcher`` values. Goes out: text. Envoy joins headers that come twice by commas
there, as the mixer does, where its RBAC looks at one after the other. Bytes that are no UTF-8 compare like others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lateen.plan.access.conditions import quote
from lateen.plan.access.model import All, AnyOf, Condition, Header, Not, PeerIdentity, UrlPath
from lateen.plan.matching import MatchKind, StringMatcher

_PEER = "connection.uri_san_peer_certificate"
_TESTS: Mapping[MatchKind, str] = {
    MatchKind.EXACT: "{0} == {1}",
    MatchKind.PREFIX: "{0}.startsWith({1})",
    MatchKind.SUFFIX: "{0}.endsWith({1})",
}


class Inexpressible(Exception):
    """The language has nothing for it; the message says why, as the rest of a sentence that begins with "because"."""


def expression(condition: Condition) -> str:
    """A condition as an expression that is true or false, and never fails. Raises Inexpressible."""
    if isinstance(condition, Not):
        return f"!({expression(condition.term)})"
    if isinstance(condition, All | AnyOf):
        word, none = ("&&", "true") if isinstance(condition, All) else ("||", "false")
        return "(" + f" {word} ".join(map(expression, condition.terms)) + ")" if condition.terms else none
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
    """A test of a text that is there, which ``value`` stands for; PRESENT always holds."""
    if match.kind is MatchKind.PRESENT:
        return "true"
    if match.kind is MatchKind.REGEX:
        return f"{value}.matches({quoted(f'^(?:{match.value})$')})"
    if match.ignore_case or match.kind is MatchKind.CONTAINS:
        before = "^" if match.kind in (MatchKind.EXACT, MatchKind.PREFIX) else ""
        after = "$" if match.kind in (MatchKind.EXACT, MatchKind.SUFFIX) else ""
        case = "(?i)" if match.ignore_case else ""
        return f"{value}.matches({quoted(f'{case}{before}{quote(match.value)}{after}')})"
    return _TESTS[match.kind].format(value, quoted(match.value))


def quoted(text: str) -> str:
    """A text as the language writes it; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
