"""Bytes through a gateway: TCP, TLS that ends here and goes on as TCP, and TLS that passes by server name.

Comes in: servers of one socket. Goes out: chains. Rules: the first TCP route that applies takes everything. A server
name leads to one place; whoever names it again is left out. What a server allows narrows what a VirtualService wants.
``destinationSubnets`` mean nothing here, as all clients call the gateway's own address: such a match takes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.findings import Finding, warning
from lateen.mesh.gateways import PlacedServer
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.routing import gateway_virtual_services
from lateen.mesh.visibility import full_host, host_matches, hosts_overlap
from lateen.plan import layer4_routes
from lateen.plan.model import Chain, ChainMatch, TcpChain, Telemetry
from lateen.plan.proxy import Proxy
from lateen.plan.route_building import Reading
from lateen.plan.tls import ServerTls
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import (
    L4MatchAttributes,
    L4RouteDestination,
    TlsMatchAttributes,
    VirtualServiceSpec,
)
from lateen.values.names import Origin

TakenNames = dict[str, Origin]
"""Server names of one socket that lead somewhere already, and who says so."""


class TcpGateway:
    """Builds chains below HTTP for one gateway."""

    def __init__(self, snapshot: MeshSnapshot, proxy: Proxy, telemetry: Telemetry, findings: list[Finding]) -> None:
        self._snapshot = snapshot
        self._proxy = proxy
        self._telemetry = telemetry
        self._findings = findings

    def tcp_chain(self, placed: PlacedServer, match: ChainMatch, tls: ServerTls | None = None) -> list[Chain]:
        """What a TCP server does with bytes, after TLS if it ends that. None: nobody says where they go."""
        reading = self._reading(placed)
        for resource in self._bound(placed):
            spec: VirtualServiceSpec = resource.spec
            for index, route in enumerate(spec.tcp):
                place = f"spec.tcp[{index}]"
                for number, choice in enumerate(route.match or (None,)):
                    if self._applies(resource, choice, reading, f"{place}.match[{number}]"):
                        action = self._action(placed, resource, route.route)
                        return [Chain(_chain_name(placed, 0), match, action, resource.origin_at(place), tls)]
        return []

    def passing_chains(self, placed: PlacedServer, taken: TakenNames) -> list[Chain]:
        """Where TLS goes that is not ended here, by the name that the client asks for. Adds to ``taken``."""
        chains: list[Chain] = []
        reading = self._reading(placed)
        for resource in self._bound(placed):
            spec: VirtualServiceSpec = resource.spec
            for index, route in enumerate(spec.tls):
                for number, choice in enumerate(route.match):
                    place = f"spec.tls[{index}].match[{number}]"
                    if not self._applies(resource, choice, reading, place):
                        continue
                    names = self._claim(self._narrowed(placed, resource, choice), taken, resource.origin_at(place))
                    if names:
                        match = ChainMatch(server_names=() if "*" in names else names, transport_protocol="tls")
                        action = self._action(placed, resource, route.route)
                        name = _chain_name(placed, len(chains))
                        chains.append(Chain(name, match, action, resource.origin_at(place)))
        return chains

    def _applies(
        self,
        resource: Resource,
        match: TlsMatchAttributes | L4MatchAttributes | None,
        reading: Reading,
        place: str,
    ) -> bool:
        if not layer4_routes.applies(resource, match, reading):
            return False
        if match is None or not match.destination_subnets:
            return True
        message = f"destinationSubnets mean nothing at gateway {reading.gateway}, so this match takes nothing there"
        origin = resource.origin_at(f"{place}.destinationSubnets")
        remedy = "leave them out, or write gateways: [mesh]"
        self._findings.append(warning("gateway-subnets", message, origin, remedy))
        return False

    def _action(self, placed: PlacedServer, resource: Resource, entries: tuple[L4RouteDestination, ...]) -> TcpChain:
        targets = layer4_routes.targets(self._snapshot, resource, entries, placed.port)
        prefix = layer4_routes.stat_prefix(targets, resource)
        return layer4_routes.passing(self._snapshot, targets, prefix, self._reading(placed), self._telemetry)

    def _reading(self, placed: PlacedServer) -> Reading:
        return Reading(placed.gateway, placed.port, self._proxy.namespace, self._proxy.labels)

    def _bound(self, placed: PlacedServer) -> Iterator[Resource]:
        found = gateway_virtual_services(self._snapshot, placed.resource, placed.hosts)
        yield from {str(bound.resource.key): bound.resource for bound in found}.values()

    def _narrowed(self, placed: PlacedServer, resource: Resource, match: TlsMatchAttributes) -> tuple[str, ...]:
        """The server names of a match as far as the server allows them to this VirtualService."""
        where, domain = resource.key.namespace, self._snapshot.settings.domain
        names = []
        for name in (full_host(host, where, domain) for host in match.sni_hosts):
            for namespace, allowed in placed.hosts:
                if namespace in ("*", where) and allowed in placed.names and hosts_overlap(allowed, name):
                    names.append(name if host_matches(allowed, name) else allowed)
        return tuple(dict.fromkeys(names))

    def _claim(self, names: tuple[str, ...], taken: TakenNames, origin: Origin) -> tuple[str, ...]:
        free = []
        for name in names:
            owner = taken.setdefault(name, origin)
            if owner is origin:
                free.append(name)
                continue
            message = f"connections for {name} already go where {owner} says; this match takes none of them"
            self._findings.append(warning("duplicate-sni-host", message, origin, "name each host once for a port"))
        return tuple(free)


def _chain_name(placed: PlacedServer, number: int) -> str:
    return f"{placed.server.port.name}.{placed.gateway}.{number}"
