"""A configuration to play calls through: a proxy's own, with stand-ins at its edges.

Comes in: the resources of one proxy, and paths. Goes out: one static file for a real Envoy. What decides where a call
goes (listeners, chains, route tables, policy) is as the proxy has it. What lies around it is replaced: each socket is
opened as a Unix socket, which a PROXY protocol header tells where the connection was meant to go; each cluster sends to
one recorder, with its own name in a PROXY protocol header; certificates are made up; faults are left out; log lines say
which listener, chain, route table, virtual host and route a call met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, proxy_protocol_pb2, substitution_format_string_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2 as listener_proxy_protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2

from lateen.envoy import wire
from lateen.envoy.access_logs import FILE_LOGGER
from lateen.envoy.bootstrap import add_process_settings, to_json_bytes
from lateen.envoy.chain_names import written_name
from lateen.envoy.dynamic_dns import DYNAMIC_DNS_FILTER
from lateen.envoy.fault import FAULT_FILTER
from lateen.envoy.listeners import PROXY_PROTOCOL
from lateen.envoy.resources import CLUSTER, LISTENER, EnvoyResources
from lateen.envoy.secrets import translate_secret
from lateen.envoy.static import Embedding
from lateen.envoy.tls import PROXY_SOCKET, TLS_SOCKET, raw_socket
from lateen.plan.tls import SecretRef

NAME_TLV = 0xE0
"""The type of the field in the PROXY protocol header by which a recorder is told the cluster's name."""
CONNECTION, REQUEST = "connection", "request"
HOST_KEY = "lateen.played"
LEFT_OUT = (FAULT_FILTER, DYNAMIC_DNS_FILTER)

Credentials = Callable[[str], tuple[bytes, bytes]]
"""From the name of a secret to a certificate and its key, as PEM."""


class Door(msgspec.Struct, frozen=True):
    """A socket of the proxy: where it stood, and the Unix socket that stands for it now."""

    listener: str
    places: tuple[tuple[str, int], ...]
    path: str


class Played(msgspec.Struct, frozen=True):
    """What to start Envoy with, and where it then takes calls.

    ``ends_tls`` are the (listener, chain) that do so. ``absent`` are clusters that something is sent to and that the
    proxy does not have: they are recorded too, where the proxy would answer 503.
    """

    bootstrap: bytes
    doors: tuple[Door, ...]
    ends_tls: frozenset[tuple[str, str]]
    absent: frozenset[str]


def played(resources: EnvoyResources, folder: str, credentials: Credentials, roots: bytes) -> Played:
    """The file and its doors. In ``folder`` (a short path) are ``admin``, ``upstream``, ``log`` and a socket a door.

    ``roots`` (PEM) stands for every trust bundle.
    """
    message = bootstrap_pb2.Bootstrap(node=base_pb2.Node(id="played", cluster="played"))
    static = message.static_resources
    embedding = Embedding(resources)
    doors: list[Door] = []
    ends_tls: set[tuple[str, str]] = set()
    targets: set[str] = set()
    for found in resources.by_type.get(LISTENER, {}).values():
        listener = embedding.listener(listener_pb2.Listener.FromString(found.body))
        ends_tls.update(
            (listener.name, written_name(chain.name))
            for chain in _chains(listener)
            if chain.HasField("transport_socket")
        )
        targets.update(_instrument(listener, f"{folder}/log"))
        if listener.bind_to_port.value or not listener.HasField("bind_to_port"):
            doors.append(_open_door(listener, f"{folder}/d{len(doors)}"))
        static.listeners.append(listener)
    present = set(resources.by_type.get(CLUSTER, {}))
    for name in sorted(present | targets):
        static.clusters.append(_recorded(name, f"{folder}/upstream"))
    for name in sorted(embedding.certificates):
        static.secrets.append(_secret(name, *credentials(name), b""))
    for name in sorted(embedding.bundles - embedding.certificates):
        static.secrets.append(_secret(name, b"", b"", roots))
    add_process_settings(message, f"{folder}/admin")
    return Played(to_json_bytes(message), tuple(doors), frozenset(ends_tls), frozenset(targets - present))


def _secret(name: str, certificate: bytes, key: bytes, roots: bytes) -> Any:
    return secret_pb2.Secret.FromString(translate_secret(SecretRef(name), certificate, key, roots).body)


def _recorded(name: str, path: str) -> Any:
    """A cluster of this name whose only member is the recorder."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(_pipe(path))
    header = proxy_protocol_pb2.ProxyProtocolConfig(version=proxy_protocol_pb2.ProxyProtocolConfig.V2)
    header.added_tlvs.add(type=NAME_TLV, value=name.encode())
    socket = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(config=header, transport_socket=raw_socket())
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=wire.duration(5),
        load_assignment=assignment,
        transport_socket=base_pb2.TransportSocket(name=PROXY_SOCKET, typed_config=wire.pack(socket)),
    )


def _pipe(path: str) -> Any:
    return address_pb2.Address(pipe=address_pb2.Pipe(path=path))


# --- listeners -------------------------------------------------------------------------------------------------------


def _open_door(listener: Any, path: str) -> Door:
    """Let the listener stand at ``path``. Whoever connects says first, by PROXY protocol, where it wants to go."""
    addresses = [listener.address, *(extra.address for extra in listener.additional_addresses)]
    places = tuple(
        (found.socket_address.address, found.socket_address.port_value)
        for found in addresses
        if found.HasField("socket_address")
    )
    listener.address.CopyFrom(_pipe(path))
    listener.ClearField("additional_addresses")
    if all(found.name != PROXY_PROTOCOL for found in listener.listener_filters):
        config = listener_proxy_protocol_pb2.ProxyProtocol()
        first = listener_components_pb2.ListenerFilter(name=PROXY_PROTOCOL, typed_config=wire.pack(config))
        rest = list(listener.listener_filters)
        listener.ClearField("listener_filters")
        listener.listener_filters.extend([first, *rest])
    return Door(listener.name, places, path)


def _instrument(listener: Any, log: str) -> Iterator[str]:
    """Let every connection and request leave one line that says what it met. Yields the clusters that are sent to."""
    listener.ClearField("access_log")
    listener.access_log.append(
        _logger(
            log,
            kind=CONNECTION,
            connection="%CONNECTION_ID%",
            client="%DOWNSTREAM_REMOTE_ADDRESS%",
            listener=_literal(listener.name),
            chain="%FILTER_CHAIN_NAME%",
            peer="%DOWNSTREAM_PEER_FINGERPRINT_256%",
            tls="%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
            details="%RESPONSE_CODE_DETAILS%",
            ended="%CONNECTION_TERMINATION_DETAILS%",
            flags="%RESPONSE_FLAGS_LONG%",
            cluster="%UPSTREAM_CLUSTER_RAW%",
        )
    )
    for chain in _chains(listener):
        if chain.HasField("transport_socket"):
            _accept_stand_ins(chain.transport_socket)
        for found in chain.filters:
            if found.typed_config.Is(http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR):
                manager = http_connection_manager_pb2.HttpConnectionManager.FromString(found.typed_config.value)
                _instrument_http(manager, log)
                found.typed_config.CopyFrom(wire.pack(manager))
                yield from (name for host in manager.route_config.virtual_hosts for name in _targets(host.routes))
            elif found.typed_config.Is(tcp_proxy_pb2.TcpProxy.DESCRIPTOR):
                proxy = tcp_proxy_pb2.TcpProxy.FromString(found.typed_config.value)
                proxy.ClearField("access_log")
                found.typed_config.CopyFrom(wire.pack(proxy))
                yield from _names(proxy)


def _targets(routes: Iterable[Any]) -> Iterator[str]:
    for route in routes:
        yield from _names(route.route)
        yield from (mirror.cluster for mirror in route.route.request_mirror_policies if mirror.cluster)


def _names(action: Any) -> Iterator[str]:
    yield from (found.name for found in action.weighted_clusters.clusters)
    if action.cluster:
        yield action.cluster


def _chains(listener: Any) -> Iterator[Any]:
    yield from listener.filter_chains
    if listener.HasField("default_filter_chain"):
        yield listener.default_filter_chain


def _accept_stand_ins(socket: Any) -> None:
    """Names and hashes of certificates are those of the real ones; here their issuer alone counts."""
    if socket.name != TLS_SOCKET:
        return
    context = tls_pb2.DownstreamTlsContext.FromString(socket.typed_config.value)
    common = context.common_tls_context
    if common.HasField("combined_validation_context"):
        wanted = common.combined_validation_context.default_validation_context
        for field in ("match_typed_subject_alt_names", "verify_certificate_spki", "verify_certificate_hash", "crl"):
            wanted.ClearField(field)
    socket.typed_config.CopyFrom(wire.pack(context))


def _instrument_http(manager: Any, log: str) -> None:
    table = manager.route_config
    table.validate_clusters.value = False
    for host in table.virtual_hosts:
        for route in host.routes:
            route.metadata.filter_metadata[HOST_KEY].update({"host": host.name})
            for name in LEFT_OUT:
                route.typed_per_filter_config.pop(name, None)
    kept = [found for found in manager.http_filters if found.name != DYNAMIC_DNS_FILTER]
    manager.ClearField("http_filters")
    manager.http_filters.extend(kept)
    manager.delayed_close_timeout.CopyFrom(wire.duration(0.01))
    manager.ClearField("access_log")
    manager.ClearField("access_log_options")
    manager.access_log.append(
        _logger(
            log,
            kind=REQUEST,
            connection="%CONNECTION_ID%",
            table=_literal(table.name),
            host=f"%METADATA(ROUTE:{HOST_KEY}:host)%",
            route="%ROUTE_NAME%",
            status="%RESPONSE_CODE%",
            details="%RESPONSE_CODE_DETAILS%",
            flags="%RESPONSE_FLAGS_LONG%",
            location="%RESP(LOCATION)%",
            cluster="%UPSTREAM_CLUSTER_RAW%",
        )
    )


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _logger(path: str, **fields: str) -> Any:
    form = substitution_format_string_pb2.SubstitutionFormatString(omit_empty_values=True)
    form.json_format.update(fields)
    config = file_pb2.FileAccessLog(path=path, log_format=form)
    return accesslog_pb2.AccessLog(name=FILE_LOGGER, typed_config=wire.pack(config))
