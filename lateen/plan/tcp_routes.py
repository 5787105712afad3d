"""TLS and TCP routes of VirtualServices, as one sidecar meets them.

Comes in: VirtualServices in order of precedence and the place where they are read. Goes out: ``TcpRoute`` values in
order, first match first: server names and address blocks, which are left to Envoy. Nothing is built after a TCP route
that takes everything.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mesh.model import MeshSnapshot
from lateen.plan import layer4_routes
from lateen.plan.model import TcpChain, TcpTarget, Telemetry
from lateen.plan.route_building import Reading
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import TcpRoute as TcpRouteEntry, TlsRoute, VirtualServiceSpec
from lateen.values.names import Origin


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
                if layer4_routes.applies(resource, match, reading):
                    place = f"spec.tls[{index}].match[{number}]"
                    action = _action(snapshot, resource, route, reading, telemetry)
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
            action = _action(snapshot, resource, route, reading, telemetry)
            if not route.match and layer4_routes.applies(resource, None, reading):
                found.append(TcpRoute(_name(resource, f"tcp[{index}]"), action, resource.origin_at(field)))
                return found
            for number, match in enumerate(route.match):
                if not layer4_routes.applies(resource, match, reading):
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


def service_chain(snapshot: MeshSnapshot, cluster: str, reading: Reading, telemetry: Telemetry) -> TcpChain:
    """What holds for a port without a route: its own cluster."""
    return layer4_routes.passing(snapshot, (TcpTarget(cluster),), cluster, reading, telemetry)


def _name(resource: Resource, place: str) -> str:
    return f"{resource.key.name}.{resource.key.namespace}.{place}"


def _action(
    snapshot: MeshSnapshot, resource: Resource, route: TlsRoute | TcpRouteEntry, reading: Reading, telemetry: Telemetry
) -> TcpChain:
    targets = layer4_routes.targets(snapshot, resource, route.route, reading.port)
    prefix = layer4_routes.stat_prefix(targets, resource)
    return layer4_routes.passing(snapshot, targets, prefix, reading, telemetry)
