"""What a workload is reached by: one ``InboundPort`` for each port that a service or its Sidecar names.

Comes in: the snapshot, the proxy and the Sidecar that holds. Goes out: ports, and findings where one cannot be served.
A Sidecar with ``ingress`` says all of them; else they are those of the services that the workload is a member of,
oldest service first: of several services with one target port the first speaks for it.
Connection pools, first one that is there: the ingress listener's, the Sidecar's, that of the DestinationRule.
"""

from __future__ import annotations

import ipaddress

import msgspec

from lateen.findings import Finding, error, warning
from lateen.mesh.credentials import CredentialError
from lateen.mesh.members import member_port
from lateen.mesh.model import MeshSnapshot, Service
from lateen.mesh.security_policy import MtlsMode, PeerPolicy
from lateen.mesh.sidecar_scope import SidecarScope
from lateen.mesh.traffic_policy import blocks_for, destination_policy
from lateen.plan.proxy import ANY, NamespacesNetwork, Proxy
from lateen.plan.server_tls import server_tls
from lateen.plan.tls import ServerTls
from lateen.resources.destination_rule import ConnectionPoolSettings
from lateen.resources.sidecar import IngressListener, SidecarSpec
from lateen.values.names import BUILT_IN, Origin
from lateen.values.protocol import Protocol, parse_protocol

UNIX = "unix://"


class InboundPort(msgspec.Struct, frozen=True):
    """One port. ``number`` is what peers connect to, ``service_port`` what telemetry and routes call it.

    ``endpoint`` is where the application listens: ``unix://...``, or a host and port, of which an empty host means
    wherever the mesh reaches applications. ``tls`` is for clients outside of the mesh. ``pool_is_sidecars``: the
    pool is about the way to the application alone, so that it says its protocol too; a DestinationRule's is meant for
    clients. ``service`` is the one that telemetry reports for; None: no service names the port.
    """

    number: int
    service_port: int
    protocol: Protocol
    endpoint: tuple[str, int]
    origin: Origin = BUILT_IN
    address: str = ANY
    pool: ConnectionPoolSettings | None = None
    tls: ServerTls | None = None
    service: Service | None = None
    pool_is_sidecars: bool = False


def inbound_ports(
    snapshot: MeshSnapshot, proxy: Proxy, scope: SidecarScope, policy: PeerPolicy, services: tuple[Service, ...]
) -> tuple[list[InboundPort], list[Finding]]:
    """The ports of a workload. ``services`` are those that it is a member of, oldest first."""
    spec = scope.spec
    if spec.ingress:
        return _of_sidecar(snapshot, proxy, scope, policy, services)
    found: dict[int, InboundPort] = {}
    for service in services:
        for port in _of_service(snapshot, proxy, service, spec):
            found.setdefault(port.number, port)
    workload = snapshot.workloads.get(proxy.id)
    for known in workload.ports if workload is not None else ():
        port = InboundPort(known.target, known.number, known.protocol, ("", known.target))
        port = msgspec.structs.replace(port, pool=spec.inbound_connection_pool, pool_is_sidecars=True)
        found.setdefault(port.number, port)
    return [port for port in found.values() if port.protocol is not Protocol.UDP], []


def _of_service(snapshot: MeshSnapshot, proxy: Proxy, service: Service, spec: SidecarSpec) -> list[InboundPort]:
    rules = destination_policy(snapshot, proxy.namespace, proxy.labels, service)
    own = next(
        (found for found in snapshot.members[service.hostname] if found.instance == proxy.id),
        next((found for found in snapshot.members[service.hostname] if found.address == proxy.address), None),
    )
    ports = []
    for port in service.ports:
        target = member_port(port, own) if own is not None else None
        if target is not None:
            own_pool = spec.inbound_connection_pool
            pool = own_pool or blocks_for(rules, port.number).connection_pool
            found = InboundPort(target, port.number, port.protocol, ("", target), BUILT_IN, ANY, pool, service=service)
            ports.append(msgspec.structs.replace(found, pool_is_sidecars=own_pool is not None))
    return ports


# --- the Sidecar's ingress -------------------------------------------------------------------------------------------


def _of_sidecar(
    snapshot: MeshSnapshot, proxy: Proxy, scope: SidecarScope, policy: PeerPolicy, services: tuple[Service, ...]
) -> tuple[list[InboundPort], list[Finding]]:
    ports: list[InboundPort] = []
    findings: list[Finding] = []
    for index, listener in enumerate(scope.spec.ingress):
        if listener.port is None or scope.sidecar is None:
            continue
        number, place = listener.port.number, f"spec.ingress[{index}]"
        endpoint = _endpoint(listener, proxy)
        if endpoint[0].startswith(f"{UNIX}@") and isinstance(proxy.network, NamespacesNetwork):
            findings.append(
                error(
                    "unreachable-socket",
                    f"{endpoint[0]} belongs to the network namespace of {proxy.workload}, and its proxy is outside",
                    scope.sidecar.origin_at(f"{place}.defaultEndpoint"),
                    "use a Unix socket with a path",
                )
            )
            continue
        tls, problem = _tls(snapshot, scope, listener, place, policy.on(number))
        findings += problem
        if tls is None and any(one.is_error for one in problem):
            continue
        ports.append(
            InboundPort(
                number,
                number,
                parse_protocol(listener.port.protocol) or Protocol.UNSPECIFIED,
                endpoint,
                scope.sidecar.origin_at(place),
                listener.bind or proxy.address or ANY,
                listener.connection_pool or scope.spec.inbound_connection_pool,
                tls,
                next((service for service in services if service.port(number) is not None), None),
                pool_is_sidecars=True,
            )
        )
    return ports, findings


def _endpoint(listener: IngressListener, proxy: Proxy) -> tuple[str, int]:
    """Where the application listens: by an address of all (``0.0.0.0``) the workload's own one is meant."""
    text, number = listener.default_endpoint, listener.port.number if listener.port is not None else 0
    if text.startswith(UNIX):
        return text, 0
    if not text:
        return "", number
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host:
        return "", int(port)
    if ipaddress.ip_address(host).is_unspecified:
        return proxy.address, int(port)
    return host, int(port)


def _tls(
    snapshot: MeshSnapshot, scope: SidecarScope, listener: IngressListener, place: str, mode: MtlsMode
) -> tuple[ServerTls | None, list[Finding]]:
    """TLS for clients outside of the mesh: only on ports where the mesh's own TLS is off, as one port speaks one."""
    if listener.tls is None or scope.sidecar is None or listener.port is None:
        return None, []
    origin = scope.sidecar.origin_at(f"{place}.tls")
    if mode is not MtlsMode.DISABLE:
        message = f"port {listener.port.number} takes the mesh's own TLS ({mode.value}), so this has no effect"
        remedy = "add a PeerAuthentication with portLevelMtls DISABLE for it"
        return None, [warning("without-effect", message, origin, remedy)]
    protocol = parse_protocol(listener.port.protocol) or Protocol.UNSPECIFIED
    try:
        namespace = scope.sidecar.key.namespace
        return server_tls(snapshot, listener.tls, namespace, origin, speaks_http=protocol is Protocol.HTTPS), []
    except CredentialError as problem:
        return None, [error(problem.code, str(problem), origin, problem.remedy)]
