"""Filter chains: which connections, with which TLS, into which filters.

Comes in: ``Chain``. Goes out: Envoy's ``FilterChain``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from lateen.envoy import mixer, tls, wire
from lateen.envoy.dynamic_dns import server_name_filter
from lateen.envoy.http_connection import HttpContext, http_manager
from lateen.envoy.peer import CONNECTION_STATE_FILTER, peer_filter
from lateen.envoy.profile import EnvoyProfile
from lateen.envoy.rbac import network_filters, notes_of
from lateen.envoy.telemetry import ChainFacts, tcp_loggers
from lateen.envoy.tokens import token_in_query
from lateen.plan.mixer.model import MixerCheck
from lateen.plan.model import Chain, ChainMatch, HttpChain, TcpChain
from lateen.plan.routes import RouteTable

TCP_PROXY = "envoy.filters.network.tcp_proxy"
ALPN_STATE = "envoy.network.application_protocols"
TLS_HANDSHAKE_LIMIT = 15.0
NOWHERE = "BlackHoleCluster"
EARLY_BYTES = 65536
"""How much of what a client sends is kept until the server is called, which waits for the verdict on it."""


class ChainContext(msgspec.Struct, frozen=True):
    """What chains need beside themselves. ``embedded``: chain name -> the route table to write into the listener."""

    profile: EnvoyProfile
    embedded: tuple[tuple[str, RouteTable], ...] = ()


def filter_chain(chain: Chain, context: ChainContext) -> Any:
    """The message of one chain. A TLS handshake that takes longer than 15 s is given up."""
    message = listener_components_pb2.FilterChain(
        name=chain.name, filter_chain_match=_match(chain.match), filters=_filters(chain, context)
    )
    if chain.tls is not None:
        message.transport_socket.CopyFrom(tls.server_socket(chain.tls))
        message.transport_socket_connect_timeout.CopyFrom(wire.duration(TLS_HANDSHAKE_LIMIT))
    return message


def _match(match: ChainMatch) -> Any:
    message = listener_components_pb2.FilterChainMatch(
        prefix_ranges=[wire.cidr_range(block) for block in match.prefix_ranges],
        source_prefix_ranges=[wire.cidr_range(block) for block in match.source_ranges],
        server_names=match.server_names,
        transport_protocol=match.transport_protocol,
        application_protocols=match.application_protocols,
    )
    if match.destination_port is not None:
        message.destination_port.value = match.destination_port
    return message


def _filters(chain: Chain, context: ChainContext) -> list[Any]:
    verified = chain.tls is not None and chain.tls.roots is not None
    mutual = verified and chain.tls is not None and chain.tls.require_client
    facts = ChainFacts(mutual, notes_of(chain.action.access), checked=chain.action.mixer is not None)
    peer = [_peer(chain)] if verified and _reports_callers(chain) else []
    if isinstance(chain.action, HttpChain):
        in_query, limited = token_in_query(chain.action.tokens), bool(chain.action.limits)
        facts = msgspec.structs.replace(
            facts,
            token_in_query=in_query,
            limited=limited,
            at_edge=chain.action.trust_edge,
            grpc=chain.action.grpc,
        )
        embedded = dict(context.embedded).get(chain.name)
        return [*peer, http_manager(chain.action, HttpContext(facts, context.profile, embedded))]
    action = chain.action
    offer = [_upstream_alpn(action.upstream_alpn)] if action.upstream_alpn else []
    lookup = [server_name_filter(action.looks_up_port)] if action.looks_up_port is not None else []
    asking = [_mixer(action.mixer)] if action.mixer is not None else []
    return [*peer, *network_filters(action.access), *asking, *offer, *lookup, _tcp_proxy(action, facts)]


def _reports_callers(chain: Chain) -> bool:
    telemetry = chain.action.telemetry
    return telemetry is not None and telemetry.reporter == "destination"


def _peer(chain: Chain) -> Any:
    """Names by themselves are there for metrics whose labels a Telemetry changes."""
    telemetry = chain.action.telemetry
    return peer_filter(each=telemetry is not None and any(rule.labels for rule in telemetry.metrics))


def _mixer(check: MixerCheck) -> Any:
    config = wire.pack(mixer.network_filter(check))
    return listener_components_pb2.Filter(name=mixer.NETWORK_FILTER, typed_config=config)


def _upstream_alpn(names: tuple[str, ...]) -> Any:
    """Says for this connection what TLS towards the server offers, whatever the cluster offers otherwise."""
    value = value_pb2.FilterStateValue(
        object_key=ALPN_STATE,
        format_string=substitution_format_string_pb2.SubstitutionFormatString(
            text_format_source=base_pb2.DataSource(inline_string=",".join(names))
        ),
    )
    config = set_filter_state_pb2.Config(on_new_connection=[value])
    return listener_components_pb2.Filter(name=CONNECTION_STATE_FILTER, typed_config=wire.pack(config))


def _tcp_proxy(chain: TcpChain, facts: ChainFacts) -> Any:
    loggers = (*tcp_loggers(chain.telemetry, facts), *mixer.connection_loggers(chain.report))
    message = tcp_proxy_pb2.TcpProxy(stat_prefix=chain.stat_prefix, access_log=loggers)
    if len(chain.targets) > 1:
        message.weighted_clusters.clusters.extend(
            tcp_proxy_pb2.TcpProxy.WeightedCluster.ClusterWeight(name=target.cluster, weight=target.weight)
            for target in chain.targets
        )
    else:
        message.cluster = chain.targets[0].cluster if chain.targets else NOWHERE
    if chain.hash_source_ip:
        message.hash_policy.add().source_ip.SetInParent()
    if chain.tunnel is not None:
        message.tunneling_config.hostname = chain.tunnel.target
        message.tunneling_config.use_post = chain.tunnel.method == "POST"
    if chain.idle_timeout is not None:
        message.idle_timeout.CopyFrom(wire.duration(chain.idle_timeout))
    if not ((chain.access.is_open and chain.mixer is None) or chain.server_first):
        message.upstream_connect_mode = tcp_proxy_pb2.UpstreamConnectMode.ON_DOWNSTREAM_DATA
        message.max_early_data_bytes.value = EARLY_BYTES
    elif facts.mutual_tls:
        message.upstream_connect_mode = tcp_proxy_pb2.UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE
        message.max_early_data_bytes.value = EARLY_BYTES
    if chain.telemetry is not None or chain.report is not None:
        message.access_log_options.flush_access_log_on_connected = True
    told = [mixer.CONNECTION_INTERVAL_S] if chain.report is not None else []
    if chain.telemetry is not None and chain.telemetry.byte_interval is not None:
        told.append(chain.telemetry.byte_interval)
    if told:
        message.access_log_options.access_log_flush_interval.CopyFrom(wire.duration(min(told)))
    return listener_components_pb2.Filter(name=TCP_PROXY, typed_config=wire.pack(message))
