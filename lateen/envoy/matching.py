"""Conditions on headers, query parameters and paths, as Envoy writes them."""

from __future__ import annotations

from typing import Any

from envoy.config.route.v3 import route_components_pb2

from lateen.envoy import wire
from lateen.plan.matching import HeaderMatcher, MatchKind, QueryMatcher, RouteMatch, StringMatcher


def header_condition(name: str, match: StringMatcher) -> Any:
    """A condition on one header.

    PRESENT is Envoy's own test for presence, not a pattern: no pattern matches bytes that are not UTF-8, so a deny
    rule written with one would let such a header pass.
    """
    if match.kind is MatchKind.PRESENT:
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=wire.string_matcher(match))


def route_match(match: RouteMatch) -> Any:
    """When a route applies. Raises ValueError for a kind of path condition that routes do not have."""
    message = route_components_pb2.RouteMatch(
        headers=[_header(header) for header in match.headers],
        query_parameters=[_query(parameter) for parameter in match.query],
    )
    path = match.path
    if path.kind is MatchKind.PREFIX:
        message.prefix = path.value
    elif path.kind is MatchKind.EXACT:
        message.path = path.value
    elif path.kind is MatchKind.REGEX:
        message.safe_regex.CopyFrom(wire.regex(path))
    else:
        raise ValueError(f"a route cannot match its path by {path.kind.value}")
    if path.ignore_case and path.kind is not MatchKind.REGEX:
        message.case_sensitive.value = False
    return message


def _header(header: HeaderMatcher) -> Any:
    message = header_condition(header.name, header.match)
    message.invert_match = header.invert
    message.treat_missing_header_as_empty = header.missing_as_empty
    return message


def _query(parameter: QueryMatcher) -> Any:
    if parameter.match.kind is MatchKind.PRESENT:
        return route_components_pb2.QueryParameterMatcher(name=parameter.name, present_match=True)
    return route_components_pb2.QueryParameterMatcher(
        name=parameter.name, string_match=wire.string_matcher(parameter.match)
    )
