"""Rules of a VirtualService that can never be reached, because a rule before them takes their requests.

Rules are read from first to last. What is told: a rule without matches that is not the last of its kind, a match that
stands twice, and a prefix that an earlier, shorter prefix takes. Requests that say no method count as GET here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from lateen.resources.base import StringMatch
from lateen.resources.checks import Report
from lateen.resources.virtual_service import HttpMatchRequest, HttpRoute, TcpRoute, TlsRoute, VirtualServiceSpec

UNREACHABLE = "unreachable-rule"
INEFFECTIVE = "ineffective-match"


def check_reach(report: Report, spec: VirtualServiceSpec) -> None:
    """Warn of HTTP, TLS and TCP rules, and of single matches, that are never used."""
    for name, routes in (("http", spec.http), ("tls", spec.tls), ("tcp", spec.tcp)):
        _check_repeated(report, f"spec.{name}", routes)
    _check_prefixes(report, spec.http)


def _check_repeated(report: Report, field: str, routes: Sequence[HttpRoute | TlsRoute | TcpRoute]) -> None:
    catching = -1
    seen: dict[bytes, str] = {}
    for index, route in enumerate(routes):
        place = f"{field}[{index}]"
        if catching >= 0:
            message = f"this rule is never used: {field}[{catching}] before it takes everything"
            found = report.note if route.match else report.warn
            found(place, message, "put it before that rule", UNREACHABLE)
        if not route.match:
            catching = index
            continue
        repeated = 0
        for number, match in enumerate(route.match):
            key = _content(match)
            if key in seen:
                repeated += 1
                message = f"this match is never used: {seen[key]} is the same"
                report.warn(f"{place}.match[{number}]", message, "remove it", INEFFECTIVE)
            seen.setdefault(key, f"{place}.match[{number}]")
        if repeated == len(route.match):
            report.warn(place, "this rule is never used: all its matches stand before it", "remove it", UNREACHABLE)


def _content(match: msgspec.Struct) -> bytes:
    """What a match asks for, as a key; its name does not count."""
    if isinstance(match, HttpMatchRequest):
        match = msgspec.structs.replace(match, name=None)
    return msgspec.json.encode(match, order="deterministic")


def _check_prefixes(report: Report, routes: Sequence[HttpRoute]) -> None:
    earlier: list[tuple[str, HttpMatchRequest]] = []
    for index, route in enumerate(routes):
        for number, match in enumerate(route.match):
            if match.uri is None or not match.uri.prefix:
                continue
            place = f"spec.http[{index}].match[{number}]"
            for other_place, other in earlier:
                if _takes(other, match):
                    message = f"this match is never used: {other_place} before it has a shorter prefix"
                    report.warn(place, message, "put it before that match", INEFFECTIVE)
                    break
            earlier.append((place, match))


def _takes(first: HttpMatchRequest, later: HttpMatchRequest) -> bool:
    """Whether the prefix of the first match takes every request of the later one, as far as can be told."""
    short = first.uri.prefix if first.uri else None
    long = later.uri.prefix if later.uri else None
    if not short or not long or short == long or not long.startswith(short):
        return False
    return (
        (first.port or 0) == (later.port or 0)
        and _method(first).startswith(_method(later))
        and _text(first.authority).startswith(_text(later.authority))
        and _values_taken(first.headers, later.headers)
        and _values_taken(first.query_params, later.query_params)
        and _values_taken(first.without_headers, later.without_headers)
    )


def _values_taken(first: Mapping[str, StringMatch | None], later: Mapping[str, StringMatch | None]) -> bool:
    return first.keys() == later.keys() and all(
        _text(value).startswith(_text(later[name])) for name, value in first.items()
    )


def _method(match: HttpMatchRequest) -> str:
    return _text(match.method) or "exact:GET"


def _text(match: StringMatch | None) -> str:
    if match is not None and match.exact:
        return f"exact:{match.exact}"
    return f"prefix:{match.prefix}" if match is not None and match.prefix else ""
