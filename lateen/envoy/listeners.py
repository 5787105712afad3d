"""Listeners: where sockets stand, what is read before a chain is chosen, and the chains.

Comes in: ``Listener``. Goes out: Envoy's ``Listener``.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.type.v3 import range_pb2

from lateen.envoy import wire
from lateen.envoy.filter_chains import ChainContext, filter_chain
from lateen.envoy.telemetry import listener_logger
from lateen.plan.model import HttpChain, Listener

_Predicate = listener_components_pb2.ListenerFilterChainMatchPredicate
PROXY_PROTOCOL = "envoy.filters.listener.proxy_protocol"
ORIGINAL_DST = "envoy.filters.listener.original_dst"
TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
EDGE_SNIFFING_LIMIT = 15.0


def listener_message(listener: Listener, context: ChainContext) -> Any:
    """The message of one listener.

    Sockets are not shared by SO_REUSEPORT: two proxies that want one address must clash, and not take turns.
    """
    outbound = listener.direction == "outbound"
    message = listener_pb2.Listener(
        name=listener.name,
        address=wire.socket_address(listener.bind.address, listener.bind.port, listener.bind.netns),
        filter_chains=[filter_chain(chain, context) for chain in listener.chains],
        listener_filters=_listener_filters(listener),
        listener_filters_timeout=wire.duration(_sniffing_limit(listener)),
        continue_on_listener_filters_timeout=listener.sniffing_limit > 0,
        traffic_direction=base_pb2.OUTBOUND if outbound else base_pb2.INBOUND,
        drain_type=listener_pb2.Listener.MODIFY_ONLY if outbound else listener_pb2.Listener.DEFAULT,
    )
    if listener.default_chain is not None:
        message.default_filter_chain.CopyFrom(filter_chain(listener.default_chain, context))
    for address in listener.other_addresses:
        place = wire.socket_address(address, listener.bind.port, listener.bind.netns)
        message.additional_addresses.add(address=place)
    if listener.use_original_dst:
        message.use_original_dst.value = True
    if listener.bind_to_port:
        message.enable_reuse_port.value = False
        message.connection_balance_config.exact_balance.SetInParent()
    else:
        message.bind_to_port.value = False
    if listener.buffer_limit is not None:
        message.per_connection_buffer_limit_bytes.value = listener.buffer_limit
    if listener.access_log:
        message.access_log.append(listener_logger(listener.access_log))
    return message


def _sniffing_limit(listener: Listener) -> float:
    return listener.sniffing_limit or (EDGE_SNIFFING_LIMIT if _at_edge(listener) else 0)


def _at_edge(listener: Listener) -> bool:
    if listener.at_edge:
        return True
    chains = (*listener.chains, *((listener.default_chain,) if listener.default_chain else ()))
    return any(isinstance(chain.action, HttpChain) and chain.action.trust_edge for chain in chains)


def _listener_filters(listener: Listener) -> list[Any]:
    """First where the connection comes from and was meant to go, then its first bytes: TLS before HTTP.

    With ``use_original_dst`` Envoy adds the first of them by itself, but at the end: too late where bytes are awaited.
    """
    wanted = (
        (listener.proxy_protocol, PROXY_PROTOCOL, proxy_protocol_pb2.ProxyProtocol(), ()),
        (listener.original_dst, ORIGINAL_DST, original_dst_pb2.OriginalDst(), ()),
        (listener.inspect_tls, TLS_INSPECTOR, tls_inspector_pb2.TlsInspector(), listener.tls_uninspected),
        (listener.inspect_http, HTTP_INSPECTOR, http_inspector_pb2.HttpInspector(), listener.http_uninspected),
    )
    return [
        listener_components_pb2.ListenerFilter(
            name=name,
            typed_config=wire.pack(config),
            filter_disabled=_on_ports(ports),
        )
        for present, name, config, ports in wanted
        if present
    ]


def _on_ports(ports: tuple[int, ...]) -> Any:
    """Whether the destination port is one of these; Envoy wants at least two terms in a choice."""
    if not ports:
        return None
    rules = [_Predicate(destination_port_range=range_pb2.Int32Range(start=port, end=port + 1)) for port in ports]
    return rules[0] if len(rules) == 1 else _Predicate(or_match=_Predicate.MatchSet(rules=rules))
