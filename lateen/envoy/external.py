"""The filters that ask an authorizer outside the proxy, about what matches its rules and nothing else.

Comes in: ``ExternalCheck`` values. Goes out: for each a filter that finds out whether its rules match (RBAC, whose
rules decide nothing and leave a note) and one that asks where that note is there. Several authorizers have a note each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.core.v3 import config_source_pb2, grpc_service_pb2, http_uri_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2
from envoy.type.v3 import http_status_pb2

from lateen.envoy import wire
from lateen.plan.access.model import ExternalAuthorizer
from lateen.plan.matching import StringMatcher

HTTP_FILTER = "envoy.filters.http.ext_authz"
NETWORK_FILTER = "envoy.filters.network.ext_authz"
HTTP_NOTES = "envoy.filters.http.rbac"
NETWORK_NOTES = "envoy.filters.network.rbac"
MATCHING_FILTER = "envoy.filters.http.rbac.external"


def numbered(name: str, index: int) -> str:
    """The name of the filter of the authorizer at this place, beginning with 0."""
    return name if index == 0 else f"{name}.{index + 1}"


def note_prefix(index: int) -> str:
    """What the note of this authorizer's rules begins with."""
    return "istio_ext_authz_" if index == 0 else f"istio_ext_authz_{index + 1}_"


def http_filter(authorizer: ExternalAuthorizer, index: int) -> Any:
    """The HTTP filter that asks."""
    message = ext_authz_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=authorizer.fail_open,
        clear_route_cache=authorizer.routes_anew,
        status_on_error=http_status_pb2.HttpStatus(code=authorizer.status_on_error),
        filter_enabled_metadata=_where_noted(HTTP_NOTES, authorizer, index),
    )
    if authorizer.body_limit:
        message.with_request_body.CopyFrom(
            ext_authz_pb2.BufferSettings(
                max_request_bytes=authorizer.body_limit,
                allow_partial_message=authorizer.partial_body,
                pack_as_bytes=authorizer.body_as_bytes,
            )
        )
    if authorizer.protocol == "grpc":
        message.grpc_service.CopyFrom(_over_grpc(authorizer))
        return message
    message.http_service.CopyFrom(_over_http(authorizer))
    if authorizer.shown_headers:
        message.allowed_headers.CopyFrom(_names(authorizer.shown_headers))
    return message


def network_filter(authorizer: ExternalAuthorizer, index: int) -> Any:
    """The network filter that asks; there is none over HTTP."""
    return network_ext_authz_pb2.ExtAuthz(
        stat_prefix="tcp.",
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=authorizer.fail_open,
        grpc_service=_over_grpc(authorizer),
        filter_enabled_metadata=_where_noted(NETWORK_NOTES, authorizer, index),
    )


def _where_noted(notes: str, authorizer: ExternalAuthorizer, index: int) -> Any:
    message = metadata_pb2.MetadataMatcher(filter=notes)
    message.path.add(key=f"{note_prefix(index)}shadow_effective_policy_id")
    message.value.string_match.prefix = f"istio-ext-authz-{authorizer.name}"
    return message


def _over_grpc(authorizer: ExternalAuthorizer) -> Any:
    service = grpc_service_pb2.GrpcService(timeout=wire.duration(authorizer.timeout))
    service.envoy_grpc.cluster_name = authorizer.cluster
    service.envoy_grpc.authority = authorizer.authority
    return service


def _over_http(authorizer: ExternalAuthorizer) -> Any:
    uri = http_uri_pb2.HttpUri(
        uri=f"http://{authorizer.authority}", cluster=authorizer.cluster, timeout=wire.duration(authorizer.timeout)
    )
    message = ext_authz_pb2.HttpService(server_uri=uri, path_prefix=authorizer.path_prefix)
    for name, value in authorizer.added_headers:
        message.authorization_request.headers_to_add.add(key=name, value=value)
    answer = message.authorization_response
    for field, names in (
        (answer.allowed_upstream_headers, authorizer.headers_on_allow),
        (answer.allowed_client_headers, authorizer.answer_headers_on_deny),
        (answer.allowed_client_headers_on_success, authorizer.answer_headers_on_allow),
    ):
        if names:
            field.CopyFrom(_names(names))
    return message


def _names(matchers: Iterable[StringMatcher]) -> Any:
    return string_pb2.ListStringMatcher(patterns=[wire.string_matcher(matcher) for matcher in matchers])
