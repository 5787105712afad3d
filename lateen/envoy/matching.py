"""Conditions on headers, query parameters and paths, as Envoy writes them."""

from __future__ import annotations

from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import metadata_pb2, value_pb2

from lateen.envoy import wire
from lateen.plan.access.model import PAYLOAD, TOKEN_FILTER
from lateen.plan.matching import ClaimMatcher, HeaderMatcher, MatchKind, QueryMatcher, RouteMatch, StringMatcher


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
        dynamic_metadata=[_claim(claim) for claim in match.claims],
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


def _claim(claim: ClaimMatcher) -> Any:
    message = metadata_pb2.MetadataMatcher(filter=TOKEN_FILTER, invert=claim.invert)
    for key in (PAYLOAD, *claim.path):
        message.path.add(key=key)
    if claim.match.kind is MatchKind.PRESENT:
        message.value.present_match = True
        return message
    text = value_pb2.ValueMatcher(string_match=wire.string_matcher(claim.match))
    listed = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=text))
    message.value.or_match.value_matchers.extend((text, listed))
    return message
