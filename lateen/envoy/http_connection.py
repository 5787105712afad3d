"""The HTTP connection manager of a chain, with its filters in order.

Comes in: ``HttpChain``. Goes out: the network filter. ``HTTP_FILTERS`` is the one place that says which filters there
are, in which order, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import extension_pb2, protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from lateen.envoy import external, grpc_messages, limit_answers, local_limits, mixer, shared_limits, wire
from lateen.envoy.dynamic_dns import DYNAMIC_DNS_FILTER, dynamic_dns_filter
from lateen.envoy.fault import FAULT_FILTER
from lateen.envoy.http_options import add_options
from lateen.envoy.metrics import counts_messages
from lateen.envoy.profile import EnvoyProfile
from lateen.envoy.rbac import ALLOW_FILTER, AUDIT_FILTER, DENY_FILTER
from lateen.envoy.routes import CORS_FILTER, route_configuration
from lateen.envoy.telemetry import ChainFacts, http_loggers
from lateen.envoy.tokens import missing_reply, token_filter
from lateen.envoy.tracing import request_id_extension, tracing_of
from lateen.plan.access.model import ORIGIN_RULE, TOKEN_FILTER
from lateen.plan.model import HttpChain, HttpOptions
from lateen.plan.routes import RouteTable

HTTP_MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER_FILTER = "envoy.filters.http.router"
GRPC_WEB_FILTER = "envoy.filters.http.grpc_web"
EARLY_MUTATION = "envoy.http.early_header_mutation.header_mutation"
FORWARDED_ATTRIBUTES = "x-istio-attributes"
"""Attributes, as proxies of Mixer once told them."""
ORIGINAL_PATH = "x-envoy-original-path"
"""What a proxy that rewrites a path says it was before. From anybody else it would forge logs and traces."""
EDGE_HEADERS_TIMEOUT = 60.0
EDGE_MAX_STREAMS = 100
EDGE_STREAM_WINDOW = 65_536
EDGE_CONNECTION_WINDOW = 1_048_576

_Manager = http_connection_manager_pb2.HttpConnectionManager
_Filter = http_connection_manager_pb2.HttpFilter
_CLIENT_CERTIFICATE = {
    "sanitize": _Manager.SANITIZE,
    "forward_only": _Manager.FORWARD_ONLY,
    "append_forward": _Manager.APPEND_FORWARD,
    "sanitize_set": _Manager.SANITIZE_SET,
    "always_forward_only": _Manager.ALWAYS_FORWARD_ONLY,
}


class HttpContext(msgspec.Struct, frozen=True):
    """What a connection manager needs beside its chain.

    ``embedded``: the route table to write into the listener instead of fetching it.
    """

    facts: ChainFacts
    profile: EnvoyProfile
    embedded: RouteTable | None = None


class FilterRow(msgspec.Struct, frozen=True):
    """One row of the table: a name, a reason for being just there, and what makes the filter.

    None: it is not here; a list: it is here several times.
    """

    name: str
    reason: str
    build: Callable[[HttpChain, HttpContext], Any]


def _waiting(name: str, config: Any) -> Any:
    """A filter that does nothing until a route table or a route configures it, at no cost until then."""
    return _Filter(name=name, typed_config=wire.pack(config), disabled=True)


def _external(chain: HttpChain, context: HttpContext) -> list[Any]:
    """For each authorizer, what finds out whether it has to be asked, and what asks it."""
    found = []
    for index, check in enumerate(chain.access.external):
        found.append(_waiting(external.numbered(external.MATCHING_FILTER, index), rbac_pb2.RBAC()))
        asking = external.http_filter(check.authorizer, index)
        name = external.numbered(external.HTTP_FILTER, index)
        found.append(_Filter(name=name, typed_config=wire.pack(asking)))
    return found


def _audit(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(AUDIT_FILTER, rbac_pb2.RBAC())


def _deny(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(DENY_FILTER, rbac_pb2.RBAC())


def _allow(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(ALLOW_FILTER, rbac_pb2.RBAC())


def _denials(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(mixer.DENIAL_FILTER, rbac_pb2.RBAC()) if chain.mixer is not None else None


def _kept_answers(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(mixer.CACHE_FILTER, mixer.cache_filter()) if chain.mixer is not None else None


def _mixer(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(mixer.CHECK_FILTER, mixer.check_filter(chain.mixer)) if chain.mixer is not None else None


def _grpc_web(chain: HttpChain, context: HttpContext) -> Any:
    return _Filter(name=GRPC_WEB_FILTER, typed_config=wire.pack(grpc_web_pb2.GrpcWeb())) if chain.grpc_web else None


def _bucket_keys(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(local_limits.KEYS_FILTER, set_filter_state_pb2.Config()) if chain.limits is not None else None


def _local_limits(chain: HttpChain, context: HttpContext) -> list[Any]:
    if chain.limits is None:
        return []
    return [
        _waiting(local_limits.filter_name(index), local_limits.idle_filter())
        for index in range(local_limits.places(chain.limits))
    ]


def _shared_limits(chain: HttpChain, context: HttpContext) -> list[Any]:
    return [_waiting(name, config) for name, config in shared_limits.filters(chain.limits or ())]


def _dynamic_dns(chain: HttpChain, context: HttpContext) -> Any:
    if not chain.dynamic_dns:
        return None
    return _Filter(name=DYNAMIC_DNS_FILTER, typed_config=wire.pack(dynamic_dns_filter()))


def _tokens(chain: HttpChain, context: HttpContext) -> Any:
    if not chain.tokens:
        return None
    config = token_filter(chain.tokens, routes_anew=chain.trust_edge)
    return _Filter(name=TOKEN_FILTER, typed_config=wire.pack(config))


def _fault(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(FAULT_FILTER, fault_pb2.HTTPFault())


def _cors(chain: HttpChain, context: HttpContext) -> Any:
    return _waiting(CORS_FILTER, cors_pb2.Cors())


def _counts_messages(chain: HttpChain) -> bool:
    return chain.grpc and chain.telemetry is not None and counts_messages(chain.telemetry.metrics)


def _grpc_notes(chain: HttpChain, context: HttpContext) -> Any:
    return grpc_messages.reading_filter() if _counts_messages(chain) else None


def _grpc_counts(chain: HttpChain, context: HttpContext) -> Any:
    return grpc_messages.counting_filter() if _counts_messages(chain) else None


def _router(chain: HttpChain, context: HttpContext) -> Any:
    options = chain.options or HttpOptions()
    router = router_pb2.Router(suppress_envoy_headers=not options.debug_headers)
    router.dynamic_stats.value = options.counts_answers
    return _Filter(name=ROUTER_FILTER, typed_config=wire.pack(router))


HTTP_FILTERS: tuple[FilterRow, ...] = (
    FilterRow(
        external.HTTP_FILTER, "Whoever is asked outside answers for the request as it came, before tokens.", _external
    ),
    FilterRow(TOKEN_FILTER, "A token is looked at before rules and routes ask who made the request.", _tokens),
    FilterRow(AUDIT_FILTER, "Marks for the log what a denial may end next, and decides nothing.", _audit),
    FilterRow(DENY_FILTER, "A denial beats every permission, so it is looked for first.", _deny),
    FilterRow(ALLOW_FILTER, "Then somebody has to have allowed it; before faults, which nobody else may feel.", _allow),
    FilterRow(
        mixer.DENIAL_FILTER, "What rules of Mixer refuse is refused here, where nobody has to be asked.", _denials
    ),
    FilterRow(mixer.CACHE_FILTER, "Nobody is asked what was answered before; only about what may pass.", _kept_answers),
    FilterRow(mixer.CHECK_FILTER, "The mixer is asked last: its rules may count what is let through.", _mixer),
    FilterRow(GRPC_WEB_FILTER, "Turns gRPC-Web into gRPC before faults answer, so that callers understand.", _grpc_web),
    FilterRow(
        grpc_messages.READING_FILTER, "Notes that gRPC is spoken before faults and servers let it wait.", _grpc_notes
    ),
    FilterRow(
        local_limits.KEYS_FILTER, "What requests are counted by is known once tokens have been looked at.", _bucket_keys
    ),
    FilterRow(
        local_limits.LOCAL_FILTER,
        "Counts what has been let in, by identities that are verified; before faults, which count as served.",
        _local_limits,
    ),
    FilterRow(
        shared_limits.CLOSED_FILTER,
        "Asks about limits for all what this proxy itself lets pass.",
        _shared_limits,
    ),
    FilterRow(FAULT_FILTER, "Injected faults stand for the server, so they come after all that guards it.", _fault),
    FilterRow(CORS_FILTER, "Answers preflights in the server's place; a fault may hit them as any request.", _cors),
    FilterRow(
        DYNAMIC_DNS_FILTER, "Waits for the address of the host that is asked for; only what goes on.", _dynamic_dns
    ),
    FilterRow(
        grpc_messages.COUNTING_FILTER,
        "Counts the messages of gRPC that go on to the server, for metrics.",
        _grpc_counts,
    ),
    FilterRow(ROUTER_FILTER, "Sends the request on; Envoy wants it last.", _router),
)


def http_manager(chain: HttpChain, context: HttpContext) -> Any:
    """The network filter that speaks HTTP for this chain."""
    from_mesh = chain.serves_mesh and context.facts.mutual_tls
    manager = _Manager(
        codec_type=_Manager.AUTO,
        stat_prefix=chain.stat_prefix,
        http_filters=_http_filters(chain, context),
        access_log=(*http_loggers(chain.telemetry, context.facts), *mixer.report_loggers(chain.report)),
        use_remote_address=wire.boolean(chain.trust_edge),
        delayed_close_timeout=wire.duration(1),
        normalize_path=wire.boolean(context.profile.normalize_path),
        merge_slashes=context.profile.merge_slashes,
        path_with_escaped_slashes_action=_Manager.PathWithEscapedSlashesAction.Value(context.profile.escaped_slashes),
        strip_trailing_host_dot=True,
        proxy_100_continue=True,
        http2_protocol_options=_http2(chain),
        early_header_mutation_extensions=[] if from_mesh else [_forgotten()],
    )
    if chain.telemetry is not None and chain.telemetry.tracing is not None:
        tracing = chain.telemetry.tracing
        manager.tracing.CopyFrom(tracing_of(tracing))
        if not tracing.by_request_id:
            manager.request_id_extension.CopyFrom(request_id_extension(by_request_id=False))
    if chain.denials:
        manager.local_reply_config.mappers.extend(mixer.local_replies(chain.denials))
    if any(rule.name.startswith(ORIGIN_RULE) for rule in chain.access.deny):
        manager.local_reply_config.mappers.append(missing_reply())
    _add_routes(manager, chain, context)
    _add_server_name(manager, chain)
    _add_client_certificate(manager, chain, from_mesh=from_mesh)
    for mapper in limit_answers.mappers(chain.limits or ()):
        manager.local_reply_config.mappers.append(mapper)
    if chain.http10:
        manager.http_protocol_options.accept_http_10 = True
    if chain.websocket:
        manager.upgrade_configs.add(upgrade_type="websocket")
    if chain.trust_edge:
        _harden_edge(manager)
    add_options(manager, chain)
    return listener_components_pb2.Filter(name=HTTP_MANAGER, typed_config=wire.pack(manager))


def _forgotten() -> Any:
    """Drops what only proxies of the mesh may say, before anything can read it."""
    mutations = [mutation_rules_pb2.HeaderMutation(remove=name) for name in (FORWARDED_ATTRIBUTES, ORIGINAL_PATH)]
    config = wire.pack(header_mutation_pb2.HeaderMutation(mutations=mutations))
    return extension_pb2.TypedExtensionConfig(name=EARLY_MUTATION, typed_config=config)


def _http_filters(chain: HttpChain, context: HttpContext) -> list[Any]:
    found: list[Any] = []
    for row in HTTP_FILTERS:
        built = row.build(chain, context)
        found.extend(built if isinstance(built, list) else [] if built is None else [built])
    return found


def _add_routes(manager: Any, chain: HttpChain, context: HttpContext) -> None:
    if context.embedded is not None:
        manager.route_config.CopyFrom(route_configuration(context.embedded, chain.guards))
    else:
        manager.rds.config_source.CopyFrom(wire.over_ads())
        manager.rds.route_config_name = chain.route_table or (chain.inline.name if chain.inline else "")


def _add_server_name(manager: Any, chain: HttpChain) -> None:
    if chain.server_name:
        manager.server_name = chain.server_name
    else:
        manager.server_header_transformation = _Manager.PASS_THROUGH


def _add_client_certificate(manager: Any, chain: HttpChain, *, from_mesh: bool) -> None:
    """X-Forwarded-Client-Cert: what callers wrote there counts for nothing unless they are in the mesh.

    Certificates of meshes have no DNS names, and Envoy would look for them at each request.
    """
    manager.forward_client_cert_details = _CLIENT_CERTIFICATE[chain.forwarded_client_cert]
    if chain.forwarded_client_cert in ("append_forward", "sanitize_set"):
        details, shown = manager.set_current_client_cert_details, (chain.options or HttpOptions()).certificate_details
        if shown is None:
            shown = ("subject", "uri") if from_mesh else ("subject", "dns", "uri")
        if "subject" in shown:
            details.subject.value = True
        details.cert, details.chain = "cert" in shown, "chain" in shown
        details.dns, details.uri = "dns" in shown, "uri" in shown


def _http2(chain: HttpChain) -> Any:
    """Upgrades arrive over HTTP/2 as extended CONNECT. Outside clients get smaller windows and fewer streams."""
    options = protocol_pb2.Http2ProtocolOptions(allow_connect=True)
    if chain.trust_edge:
        options.max_concurrent_streams.value = EDGE_MAX_STREAMS
        options.initial_stream_window_size.value = EDGE_STREAM_WINDOW
        options.initial_connection_window_size.value = EDGE_CONNECTION_WINDOW
    return options


def _harden_edge(manager: Any) -> None:
    """Outside clients: none of them is internal, whatever its address, and headers have to arrive in time."""
    manager.request_headers_timeout.CopyFrom(wire.duration(EDGE_HEADERS_TIMEOUT))
    nobody = wire.cidr_range("255.255.255.255/32")
    manager.internal_address_config.CopyFrom(_Manager.InternalAddressConfig(unix_sockets=False, cidr_ranges=[nobody]))
