"""Which virtual host and which route of a route table a request meets.

Comes in: a RouteConfiguration and a request as the connection manager hands it on. Goes out: the virtual host by its
domains (exact, then suffix wildcards, then prefix wildcards, longest first, then ``*``) and its first route whose match
holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import re2

from lateen.explain.request import Request


def virtual_host(table: Any, host: str) -> Any | None:
    """The virtual host for an authority, which may have a port."""
    name = host.lower()
    if table.ignore_port_in_host_matching and ":" in name:
        name = name.rpartition(":")[0]
    best: tuple[int, int, Any] | None = None
    for found in table.virtual_hosts:
        for domain in found.domains:
            rank = _rank(domain.lower(), name)
            if rank is not None and (best is None or rank > best[:2]):
                best = (*rank, found)
    return best[2] if best is not None else None


def _rank(domain: str, name: str) -> tuple[int, int] | None:
    if domain == name:
        return (3, 0)
    if domain == "*":
        return (0, 0)
    if domain.startswith("*") and name.endswith(domain[1:]) and len(name) > len(domain) - 1:
        return (2, len(domain))
    if domain.endswith("*") and name.startswith(domain[:-1]) and len(name) > len(domain) - 1:
        return (1, len(domain))
    return None


def first_route(host: Any, request: Request) -> Any | None:
    """The first route that a request matches."""
    return next((route for route in host.routes if matches(route.match, request)), None)


def as_sent(route: Any, request: Request) -> Request:
    """The request as a route sends it on: its path and host as they were rewritten."""
    action = route.route
    path = request.path
    if action.prefix_rewrite:
        match = route.match
        matched = match.prefix or match.path_separated_prefix or match.path
        path = action.prefix_rewrite + path[len(matched) :] if matched else path
    elif action.HasField("regex_rewrite"):
        rewrite = action.regex_rewrite
        path = re2.sub(rewrite.pattern.regex, rewrite.substitution, path)
    target = f"{path}?{request.query}" if request.query else path
    changed = {":authority": action.host_rewrite_literal or request.authority, ":path": target}
    headers = tuple((name, changed.get(name, value)) for name, value in request.headers)
    return Request(changed[":authority"], path, request.query, headers)


def matches(match: Any, request: Request) -> bool:
    """Whether a request matches. A fraction (``runtime_fraction``) counts as met unless it is zero.

    A call has no token here, so that no claim of it is there.
    """
    headers = request.joined
    return (
        _path_matches(match, request.path)
        and all(header_matches(found, headers) for found in match.headers)
        and all(_query_matches(found, request.query) for found in match.query_parameters)
        and all(found.invert for found in match.dynamic_metadata)
        and (not match.HasField("runtime_fraction") or match.runtime_fraction.default_value.numerator > 0)
    )


def _path_matches(match: Any, path: str) -> bool:
    kind = match.WhichOneof("path_specifier")
    ignore_case = match.HasField("case_sensitive") and not match.case_sensitive.value
    seen = path.lower() if ignore_case else path
    if kind == "prefix":
        return seen.startswith(match.prefix.lower() if ignore_case else match.prefix)
    if kind == "path":
        return bool(seen == (match.path.lower() if ignore_case else match.path))
    if kind == "path_separated_prefix":
        wanted = match.path_separated_prefix.lower() if ignore_case else match.path_separated_prefix
        return seen == wanted or seen.startswith(f"{wanted}/")
    if kind == "safe_regex":
        return full_match(match.safe_regex.regex, path)
    return False


def full_match(pattern: str, text: str) -> bool:
    """Whether an RE2 pattern matches the whole of a text, as Envoy asks."""
    return re2.fullmatch(pattern, text) is not None


def header_matches(found: Any, headers: Mapping[str, str]) -> bool:
    """One HeaderMatcher against headers in lower case."""
    value = headers.get(found.name.lower())
    kind = found.WhichOneof("header_match_specifier")
    if kind == "present_match":
        return bool(((value is not None) == found.present_match) != found.invert_match)
    if value is None and not found.treat_missing_header_as_empty:
        return bool(found.invert_match) and kind is None
    text = value or ""
    held = text_matches(found.string_match, text) if kind == "string_match" else value is not None
    return bool(held != found.invert_match)


def text_matches(found: Any, text: str) -> bool:
    """One StringMatcher."""
    kind = found.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return full_match(found.safe_regex.regex, text)
    wanted = getattr(found, kind) if kind else ""
    if found.ignore_case:
        wanted, text = wanted.lower(), text.lower()
    tests = {"exact": text == wanted, "prefix": text.startswith(wanted), "suffix": text.endswith(wanted)}
    return tests.get(kind or "", wanted in text)


def _query_matches(found: Any, query: str) -> bool:
    pairs = [part.partition("=") for part in query.split("&")]
    value = next((value for name, _, value in pairs if name == found.name), None)  # as it is written
    kind = found.WhichOneof("query_parameter_match_specifier")
    if kind == "present_match":
        return bool((value is not None) == found.present_match)
    return value is not None and (kind != "string_match" or text_matches(found.string_match, value))
