"""Route tables: virtual hosts, their routes, and the access policy of the chains that use them.

Comes in: ``RouteTable`` and ``AccessPolicy``. Goes out: ``RouteConfiguration``.

The policy, faults and CORS rules ride in the route table although filters of the chain enforce them: a changed route
table holds from the next request on, on every open connection, where a changed listener would let its old connections
go on under the old rules until they have drained.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2

from lateen.envoy import local_limits, mixer, rbac, shared_limits, wire
from lateen.envoy.fault import FAULT_FILTER, route_fault
from lateen.envoy.matching import route_match
from lateen.envoy.route_actions import direct_response, forward, header_options, redirect
from lateen.plan.model import OPEN, Guards
from lateen.plan.routes import (
    CorsPolicy,
    DirectResponse,
    Forward,
    HeaderOps,
    Redirect,
    Route,
    RouteTable,
    VirtualHost,
)

CORS_FILTER = "envoy.filters.http.cors"
ENVOYS_BODY_LIMIT = 4096

_ANSWERS_PLAIN_WITH_TLS = route_components_pb2.VirtualHost.ALL


def route_configuration(table: RouteTable, guards: Guards = OPEN) -> Any:
    """The message of one route table. Clusters that do not exist (yet) answer 503 instead of refusing the table."""
    message = route_pb2.RouteConfiguration(
        name=table.name,
        virtual_hosts=[virtual_host(host) for host in table.virtual_hosts],
        validate_clusters=wire.boolean(False),
        ignore_port_in_host_matching=table.ignore_port_in_host,
    )
    longest = max((_body_length(route) for host in table.virtual_hosts for route in host.routes), default=0)
    if longest > ENVOYS_BODY_LIMIT:
        message.max_direct_response_body_size_bytes.value = longest
    for name, rules in rbac.http_filters(guards.access, guards_open_connections=True):
        message.typed_per_filter_config[name].CopyFrom(wire.pack(http_rbac_pb2.RBACPerRoute(rbac=rules)))
    for name, limit in (*local_limits.by_route(guards.limits), *shared_limits.by_route(guards.limits)):
        message.typed_per_filter_config[name].CopyFrom(wire.pack(limit))
    if guards.denials:
        message.typed_per_filter_config[mixer.DENIAL_FILTER].CopyFrom(wire.pack(mixer.denial_rules(guards.denials)))
    check = guards.mixer
    for name, told in mixer.by_route(check).items() if check is not None and check.generation else ():
        message.typed_per_filter_config[name].CopyFrom(wire.pack(told))
    return message


def _body_length(route: Route) -> int:
    return len(route.action.body) if isinstance(route.action, DirectResponse) else 0


@lru_cache(maxsize=8192)
def virtual_host(host: VirtualHost) -> Any:
    """The message of one virtual host, shared by all that ask for it: not to be changed."""
    return route_components_pb2.VirtualHost(
        name=host.name,
        domains=host.domains,
        routes=[_route(route) for route in host.routes],
        require_tls=_ANSWERS_PLAIN_WITH_TLS if host.require_tls else route_components_pb2.VirtualHost.NONE,
        include_request_attempt_count=host.counts_attempts,
    )


def _route(route: Route) -> Any:
    message = route_components_pb2.Route(name=route.name, match=route_match(route.match), stat_prefix=route.stat_prefix)
    operations = [(route.request_headers, route.response_headers)]
    if isinstance(route.action, Forward):
        message.route.CopyFrom(forward(route.action))
        if len(route.action.clusters) == 1:
            only = route.action.clusters[0]
            operations.append((only.request_headers, only.response_headers))
    elif isinstance(route.action, Redirect):
        message.redirect.CopyFrom(redirect(route.action))
    else:
        message.direct_response.CopyFrom(direct_response(route.action))
    for request, response in operations:
        _add_header_operations(message, request, response)
    if route.fault is not None:
        message.typed_per_filter_config[FAULT_FILTER].CopyFrom(wire.pack(route_fault(route.fault)))
    if route.cors is not None:
        message.typed_per_filter_config[CORS_FILTER].CopyFrom(wire.pack(_cors(route.cors)))
    return message


def _add_header_operations(message: Any, request: HeaderOps, response: HeaderOps) -> None:
    message.request_headers_to_add.extend(header_options(request))
    message.request_headers_to_remove.extend(request.remove)
    message.response_headers_to_add.extend(header_options(response))
    message.response_headers_to_remove.extend(response.remove)


def _cors(policy: CorsPolicy) -> Any:
    message = cors_pb2.CorsPolicy(
        allow_origin_string_match=[wire.string_matcher(origin) for origin in policy.allow_origins],
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age=policy.max_age,
        filter_enabled=base_pb2.RuntimeFractionalPercent(default_value=wire.fraction(100)),
        forward_not_matching_preflights=wire.boolean(policy.forward_unmatched_preflights),
    )
    if policy.allow_credentials is not None:
        message.allow_credentials.value = policy.allow_credentials
    return message


def clusters_of(table: RouteTable) -> Iterable[str]:
    """The clusters that the table sends to, mirrors included; repeats possible."""
    for host in table.virtual_hosts:
        for route in host.routes:
            if isinstance(route.action, Forward):
                yield from (target.cluster for target in route.action.clusters)
                yield from (mirror.cluster for mirror in route.action.mirrors)
