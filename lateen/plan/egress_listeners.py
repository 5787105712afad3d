"""Sockets that a Sidecar opens for its application beside the captured traffic.

Comes in: egress listeners with ``bind`` or without capture. Goes out: ``Listener`` values. Such a listener stands at an
address and port (127.0.0.1 if none is given) or on a Unix socket. HTTP goes by its host, to what the listener brings
into sight; other bytes go to the oldest service that has the listener's port.
"""

from __future__ import annotations

from lateen.findings import Finding, warning
from lateen.mesh.gateways import WILDCARD_BINDS
from lateen.mesh.model import MeshSnapshot, Service
from lateen.mesh.routing import MESH_GATEWAY
from lateen.mesh.sidecar_scope import EgressScope, SidecarScope
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, TcpChain, Telemetry
from lateen.plan.names import OWN_PORTS, outbound_cluster
from lateen.plan.outbound import outbound_http
from lateen.plan.proxy import Bind, LoopbackNetwork, Proxy, workload_netns
from lateen.plan.route_building import Reading
from lateen.plan.tcp_routes import service_chain
from lateen.values.protocol import Protocol, parse_protocol

UNIX = "unix://"
LOCALHOST = "127.0.0.1"


def egress_listeners(
    snapshot: MeshSnapshot, proxy: Proxy, scope: SidecarScope, services: tuple[Service, ...], telemetry: Telemetry
) -> tuple[list[Listener], list[Finding]]:
    """The sockets of a scope, and those that lead nowhere."""
    found: list[Listener] = []
    findings: list[Finding] = []
    for egress in scope.egress:
        entry = egress.listener
        if entry is None or entry.port is None or not (entry.bind or entry.capture_mode == "NONE"):
            continue
        origin = scope.egress_owner.origin_at(egress.place) if scope.egress_owner is not None else None
        if origin is None:
            continue
        action = _action(snapshot, proxy, egress, services, telemetry)
        if action is None:
            message = f"no service that this listener sees has port {egress.port}, so there is nowhere to go"
            findings.append(warning("empty-listener", message, origin, "add hosts with this port"))
            continue
        if entry.bind in WILDCARD_BINDS and egress.port in OWN_PORTS and not isinstance(proxy.network, LoopbackNetwork):
            message = f"port {egress.port} is the proxy's own, so this listener is left out"
            findings.append(warning("reserved-port", message, origin, "give it another port"))
            continue
        bind = Bind(entry.bind, 0) if entry.bind.startswith(UNIX) else _bind(proxy, egress)
        name = entry.bind if entry.bind.startswith(UNIX) else f"{bind.address}_{bind.port}"
        is_socket = entry.capture_mode == "NONE" or entry.bind.startswith(UNIX)
        found.append(
            Listener(
                name=name,
                bind=bind,
                direction="outbound",
                chains=(Chain(name, ChainMatch(), action, origin),),
                origin=origin,
                bind_to_port=is_socket or isinstance(proxy.network, LoopbackNetwork),
            )
        )
    return found, findings


def _bind(proxy: Proxy, egress: EgressScope) -> Bind:
    entry = egress.listener
    return Bind((entry.bind if entry is not None else "") or LOCALHOST, egress.port, workload_netns(proxy))


def _action(
    snapshot: MeshSnapshot, proxy: Proxy, egress: EgressScope, services: tuple[Service, ...], telemetry: Telemetry
) -> HttpChain | TcpChain | None:
    entry = egress.listener
    if entry is None or entry.port is None:
        return None
    protocol = parse_protocol(entry.port.protocol) or Protocol.UNSPECIFIED
    seen = [service for service in services if egress.sees(service.namespace, service.hostname)]
    if protocol.is_http:
        table = entry.bind if entry.bind.startswith(UNIX) else str(egress.port)
        grpc = protocol is not Protocol.HTTP
        return outbound_http(table, telemetry, grpc=grpc, grpc_web=protocol is Protocol.GRPC_WEB)
    for service in seen:
        port = service.port(egress.port) if egress.port else next(iter(service.ports), None)
        if port is not None:
            reading = Reading(MESH_GATEWAY, port.number, proxy.namespace, proxy.labels)
            return service_chain(snapshot, outbound_cluster(port.number, "", service.hostname), reading, telemetry)
    return None
