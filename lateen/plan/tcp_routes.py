"""TLS and TCP routes of VirtualServices, as one client or gateway meets them, and what a chain of bytes does.

Comes in: VirtualServices in order of precedence and the place where they are read. Goes out: ``TcpRoute`` values in
order, first match first. What the place decides (``port``, ``gateways``, ``sourceLabels``, ``sourceNamespace``, all of
which must hold) is decided here; server names and address blocks are left to Envoy. Nothing is built after a TCP route
that takes everything.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mesh.model import MeshSnapshot, Service, ServicePort
from lateen.mesh.routing import MESH_GATEWAY, gateway_names, qualified_gateway
from lateen.mesh.traffic_policy import PolicyBlocks, blocks_for, destination_policy
from lateen.mesh.visibility import selects
from lateen.plan import names
from lateen.plan.model import TcpChain, TcpTarget, Telemetry
from lateen.plan.route_building import Reading, destination_cluster
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import (
    L4MatchAttributes,
    L4RouteDestination,
    TlsMatchAttributes,
    VirtualServiceSpec,
)
from lateen.values.names import Origin
from lateen.values.protocol import Protocol

OPAQUE_ALPN = ("istio",)
"""What mesh TLS offers for bytes towards a port whose protocol is not declared: the server must not look for HTTP."""


class TcpRoute(msgspec.Struct, frozen=True):
    """Where connections go that ask for one of the server names, at one of the address blocks; empty: any."""

    name: str
    action: TcpChain
    origin: Origin
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    source_subnets: tuple[str, ...] = ()

    @property
    def catches_all(self) -> bool:
        return not (self.server_names or self.subnets or self.source_subnets)


def tls_routes(
    snapshot: MeshSnapshot, resources: Iterable[Resource], reading: Reading, telemetry: Telemetry
) -> list[TcpRoute]:
    """The ``tls`` routes that apply in this place, by server name."""
    found = []
    for resource in resources:
        spec: VirtualServiceSpec = resource.spec
        for index, route in enumerate(spec.tls):
            for number, match in enumerate(route.match):
                if _applies(resource, match, reading):
                    place = f"spec.tls[{index}].match[{number}]"
                    action = _action(snapshot, resource, route.route, reading, telemetry)
                    servers = () if "*" in match.sni_hosts else tuple(host.lower() for host in match.sni_hosts)
                    found.append(
                        TcpRoute(
                            _name(resource, f"tls[{index}].{number}"),
                            action,
                            resource.origin_at(place),
                            servers,
                            match.destination_subnets,
                        )
                    )
    return found


def tcp_routes(
    snapshot: MeshSnapshot, resources: Iterable[Resource], reading: Reading, telemetry: Telemetry
) -> list[TcpRoute]:
    """The ``tcp`` routes that apply in this place, up to the first that takes everything."""
    found: list[TcpRoute] = []
    for resource in resources:
        spec: VirtualServiceSpec = resource.spec
        for index, route in enumerate(spec.tcp):
            field = f"spec.tcp[{index}]"
            action = _action(snapshot, resource, route.route, reading, telemetry)
            if not route.match and reading.gateway in gateway_names(resource):
                found.append(TcpRoute(_name(resource, f"tcp[{index}]"), action, resource.origin_at(field)))
                return found
            for number, match in enumerate(route.match):
                if not _applies(resource, match, reading):
                    continue
                tcp = TcpRoute(
                    _name(resource, f"tcp[{index}].{number}"),
                    action,
                    resource.origin_at(f"{field}.match[{number}]"),
                    (),
                    match.destination_subnets,
                    (match.source_subnet,) if match.source_subnet else (),
                )
                found.append(tcp)
                if tcp.catches_all:
                    return found
    return found


def service_chain(
    snapshot: MeshSnapshot, service: Service, port: ServicePort, reading: Reading, telemetry: Telemetry
) -> TcpChain:
    """What holds for a port without a route: its own cluster."""
    cluster = names.outbound_cluster(port.number, "", service.hostname)
    return _chain(snapshot, (TcpTarget(cluster),), cluster, reading, telemetry)


def _name(resource: Resource, place: str) -> str:
    return f"{resource.key.name}.{resource.key.namespace}.{place}"


def _applies(resource: Resource, match: L4MatchAttributes | TlsMatchAttributes, reading: Reading) -> bool:
    """Decide the parts of a match that the place decides."""
    gateways = {qualified_gateway(name, resource.key.namespace) for name in match.gateways}
    if reading.gateway not in (gateways or gateway_names(resource)) or (match.port and match.port != reading.port):
        return False
    if reading.gateway != MESH_GATEWAY:
        return True
    if match.source_namespace and match.source_namespace != reading.client_namespace:
        return False
    return selects(match.source_labels, reading.client_labels)


# --- what is done ----------------------------------------------------------------------------------------------------


def _action(
    snapshot: MeshSnapshot,
    resource: Resource,
    entries: tuple[L4RouteDestination, ...],
    reading: Reading,
    telemetry: Telemetry,
) -> TcpChain:
    """The weighted destinations; where there are several, those without weight get nothing."""
    targets = [
        TcpTarget(
            destination_cluster(snapshot, entry.destination, resource.key.namespace, reading.port), entry.weight or 0
        )
        for entry in entries
    ]
    if len(targets) == 1:
        return _chain(snapshot, (TcpTarget(targets[0].cluster),), targets[0].cluster, reading, telemetry)
    weighted = tuple(target for target in targets if target.weight > 0)
    return _chain(snapshot, weighted, f"{resource.key.name}.{resource.key.namespace}", reading, telemetry)


def _chain(
    snapshot: MeshSnapshot, targets: tuple[TcpTarget, ...], stat_prefix: str, reading: Reading, telemetry: Telemetry
) -> TcpChain:
    """What the first destination's policy says of connections holds for all of them."""
    towards = [_towards(snapshot, target.cluster, reading) for target in targets]
    first = towards[0].blocks if towards else PolicyBlocks()
    pool, balancer = first.connection_pool, first.load_balancer
    hashing = balancer.consistent_hash if balancer else None
    return TcpChain(
        stat_prefix,
        targets,
        telemetry=telemetry,
        idle_timeout=pool.tcp.idle_timeout if pool and pool.tcp else None,
        upstream_alpn=OPAQUE_ALPN if any(one.is_sniffed_in_mesh for one in towards) else (),
        hash_source_ip=bool(hashing and hashing.use_source_ip),
    )


class _Towards(msgspec.Struct, frozen=True):
    """One destination: its service, its port (None: unknown here) and the policy that holds for calls to it."""

    service: Service | None = None
    port: ServicePort | None = None
    blocks: PolicyBlocks = PolicyBlocks()

    @property
    def is_sniffed_in_mesh(self) -> bool:
        """Whether a sidecar there would look for HTTP in what comes over mesh TLS."""
        if self.service is None or self.port is None or self.port.protocol is not Protocol.UNSPECIFIED:
            return False
        tls = self.blocks.tls
        return tls.mode == "ISTIO_MUTUAL" if tls is not None else not self.service.external


def _towards(snapshot: MeshSnapshot, cluster: str, reading: Reading) -> _Towards:
    number, subset, host = names.outbound_parts(cluster)
    service = snapshot.services.get(host)
    if service is None:
        return _Towards()
    policy = destination_policy(snapshot, reading.client_namespace, reading.client_labels, service)
    return _Towards(service, service.port(number), blocks_for(policy, number, subset))
