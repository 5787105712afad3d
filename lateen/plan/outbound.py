"""The outbound listeners of a sidecar: what the application calls.

Comes in: the proxy, its network and what it sees of the mesh. Goes out: ``Listener`` values and findings. With
redirected traffic one catching listener hands over to virtual listeners, as in Istio: HTTP at any address
(``0.0.0.0_PORT``), as its host decides; everything else at the addresses of its service (``ADDRESS_PORT``). In the
loopback network each address and port has a listener of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from lateen.findings import Finding, warning
from lateen.mesh.model import MeshSnapshot, Service, ServicePort
from lateen.mesh.routing import MESH_GATEWAY, virtual_services_for
from lateen.plan import names
from lateen.plan.client_view import ClientView
from lateen.plan.clusters import Cluster, Discovery
from lateen.plan.listener_draft import RAW, ListenerDraft, http_protocols
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, TcpChain, TcpTarget, Telemetry
from lateen.plan.outbound_policy import OutboundPolicy
from lateen.plan.outbound_routes import own_table_name
from lateen.plan.proxy import ANY, Bind, LoopbackNetwork, NamespacesNetwork, Proxy, workload_netns
from lateen.plan.route_building import Reading
from lateen.plan.routes import RouteTable
from lateen.plan.service_addresses import blocks, listening_addresses, listens_anywhere, member_addresses
from lateen.plan.tcp_routes import TcpRoute, service_chain, tcp_routes, tls_routes
from lateen.values.names import BUILT_IN, Origin
from lateen.values.protocol import Protocol, speaks_first


class OutboundListeners(msgspec.Struct, frozen=True):
    """The outbound listeners of all proxies that share a view, before they are those of one of them.

    ``members`` names the listeners at addresses of members, which the member itself does not have.
    """

    listeners: tuple[Listener, ...]
    findings: tuple[Finding, ...]
    members: frozenset[str]

    def of(self, proxy: Proxy, telemetry: Telemetry) -> list[Listener]:
        """The listeners of one proxy: in its network namespace, reporting for it."""
        netns = "" if isinstance(proxy.network, LoopbackNetwork) else workload_netns(proxy)
        return [
            _owned(listener, netns, telemetry)
            for listener in self.listeners
            if listener.bind.address != proxy.address or listener.name not in self.members
        ]


def _owned(listener: Listener, netns: str, telemetry: Telemetry) -> Listener:
    default = listener.default_chain
    return replace(
        listener,
        bind=replace(listener.bind, netns=netns),
        chains=tuple([_reporting(chain, telemetry) for chain in listener.chains]),
        default_chain=_reporting(default, telemetry) if default is not None else None,
    )


def _reporting(chain: Chain, telemetry: Telemetry) -> Chain:
    return (
        chain if chain.action.telemetry is None else replace(chain, action=replace(chain.action, telemetry=telemetry))
    )


def outbound_listeners(snapshot: MeshSnapshot, proxy: Proxy, view: ClientView) -> OutboundListeners:
    """Everything that the application's calls meet, in order of address, and services that are in each other's way.

    ``proxy`` is any one of those that share the view.
    """
    planning = _Outbound(snapshot, proxy, view)
    for service in view.services:
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                planning.add(service, port)
    listeners = planning.listeners()
    if not isinstance(proxy.network, LoopbackNetwork):
        listeners.insert(0, planning.virtual_outbound(view.services))
    return OutboundListeners(tuple(listeners), tuple(planning.findings), frozenset(planning.members))


SOMEBODY = Telemetry("source", ())
"""Stands for the telemetry of the proxy whose listeners they become."""
ANYTHING = ChainMatch()
CATCHALL_SNIFFING_LIMIT = 5.0
_NOWHERE = TcpChain(names.BLACK_HOLE, (TcpTarget(names.BLACK_HOLE),))


class _Outbound:
    """Puts the listeners of a view together; services come oldest first."""

    def __init__(self, snapshot: MeshSnapshot, proxy: Proxy, view: ClientView) -> None:
        self._snapshot, self._proxy, self._telemetry = snapshot, proxy, SOMEBODY
        self._is_loopback = isinstance(proxy.network, LoopbackNetwork)
        self._is_namespaced = isinstance(proxy.network, NamespacesNetwork)
        self._policy = view.outside
        self._level4 = tuple(bound for bound in view.bound if bound.resource.spec.tls or bound.resource.spec.tcp)
        self._drafts: dict[str, ListenerDraft] = {}
        self.findings: list[Finding] = []
        self.members: set[str] = set()

    def listeners(self) -> list[Listener]:
        return [draft.listener(self._snapshot.settings) for _, draft in sorted(self._drafts.items())]

    def add(self, service: Service, port: ServicePort) -> None:
        """Let the proxy listen for one port of a service."""
        everywhere = port.protocol.is_http and not self._is_loopback
        addresses = () if everywhere else listening_addresses(self._proxy, service)
        ranges = () if everywhere or self._is_loopback else blocks(service)
        for address in addresses:
            self.members.discard(f"{address}_{port.number}")
            self._put(address, service, port, self._chains(service, port, address, ()))
        for address in member_addresses(self._snapshot, service) if not self._is_loopback else ():
            own = names.member_cluster(port.number, service.hostname)
            name = f"{address}_{port.number}"
            if name not in self._drafts:
                self.members.add(name)
            self._put(address, service, port, self._chains(service, port, address, (), own=own))
        if everywhere or (listens_anywhere(service) and not self._is_loopback):
            by_name = bool(addresses) and not ranges
            self._put(ANY, service, port, self._chains(service, port, ANY, ranges, only_by_name=by_name))

    def _put(self, address: str, service: Service, port: ServicePort, chains: list[Chain]) -> None:
        name = f"{address}_{port.number}"
        if address == ANY and port.number in names.OWN_PORTS:
            self.findings.append(
                warning(
                    "reserved-port",
                    f"port {port.number} is the proxy's own, so {service.hostname} is not called there by its name",
                    service.origin,
                    "give it another port",
                )
            )
            return
        if name not in self._drafts and chains:
            self._drafts[name] = self._draft(name, address, port)
        blocks_of_all = [block for chain in chains for block in chain.match.prefix_ranges]
        for chain in chains:
            earlier = self._drafts[name].add(chain, blocks_of_all)
            if earlier is not None and not _same_resource(earlier, chain.origin):
                self.findings.append(
                    warning(
                        "conflicting-listener",
                        f"{service.hostname} at {address} port {port.number} cannot be told from {earlier}, which came "
                        "first and takes its traffic",
                        chain.origin,
                        "give one of them another port or addresses of its own",
                    )
                )

    def _draft(self, name: str, address: str, port: ServicePort) -> ListenerDraft:
        """A new listener. In namespaces, calls to workloads pass as they are: they name no service."""
        fallback = self._fallback(address)
        bind = Bind(address, port.number)
        draft = ListenerDraft(name, bind, fallback, is_open=address == ANY, bind_to_port=self._is_loopback)
        if address == ANY and self._is_namespaced:
            draft.add(self._to_mesh_addresses())
            draft.add(self._to_nowhere("unknown-service"))
        return draft

    # --- chains ------------------------------------------------------------------------------------------------------

    def _chains(
        self,
        service: Service,
        port: ServicePort,
        address: str,
        ranges: tuple[str, ...],
        *,
        only_by_name: bool = False,
        own: str = "",
    ) -> list[Chain]:
        """The chains of one port at one address. ``only_by_name``: no more than what names its host itself.

        ``own``: the cluster that bytes go to without a route, if it is not the port's.
        """
        protocol = port.protocol
        chains: list[Chain] = []
        if protocol.is_http or protocol is Protocol.UNSPECIFIED:
            chains += self._http_chains(service, port, address, ranges)
        resources = virtual_services_for(self._level4, service.hostname)
        reading = Reading(MESH_GATEWAY, port.number, self._proxy.namespace, self._proxy.labels)
        routes: list[TcpRoute] = []
        if protocol.is_tls or protocol is Protocol.UNSPECIFIED:
            routes += tls_routes(self._snapshot, resources, reading, self._telemetry)
        if not protocol.is_http and not (protocol.is_tls or only_by_name):
            routes += tcp_routes(self._snapshot, resources, reading, self._telemetry)
        if self._needs_own(port, routes, only_by_name):
            cluster = own or names.outbound_cluster(port.number, "", service.hostname)
            action = service_chain(self._snapshot, cluster, reading, self._telemetry)
            servers = (service.hostname,) if protocol.is_tls and address == ANY else ()
            routes.append(TcpRoute(service.hostname if address == ANY else "", action, service.origin, servers))
        chains += [_chain(f"{address}_{port.number}", route, ranges) for route in routes]
        return chains

    def _needs_own(self, port: ServicePort, routes: list[TcpRoute], only_by_name: bool) -> bool:
        """Whether bytes go to the service itself where no route takes them."""
        if port.protocol.is_http:
            return False
        if port.protocol.is_tls:
            return not routes
        return not only_by_name and not any(route.catches_all for route in routes)

    def _http_chains(self, service: Service, port: ServicePort, address: str, ranges: tuple[str, ...]) -> list[Chain]:
        """HTTP by its host. In namespaces once more for virtual addresses, where other bytes are not passed on."""
        alone = address != ANY and (port.protocol is Protocol.UNSPECIFIED or not self._is_loopback)
        action = outbound_http(
            own_table_name(service, port) if alone else str(port.number),
            self._telemetry,
            grpc=port.protocol is not Protocol.HTTP or self._snapshot.settings.h2_upgrade,
            grpc_web=port.protocol is Protocol.GRPC_WEB,
            http10=self._snapshot.settings.http10,
            dynamic_dns=self._policy.looks_up_hosts,
        )
        name = f"{address}_{port.number}"
        chains = [Chain(name, ChainMatch(prefix_ranges=ranges), action, service.origin)]
        if address == ANY and self._is_namespaced:
            virtual = ChainMatch(prefix_ranges=(self._snapshot.settings.service_network,))
            chains.append(Chain(f"{name}-virtual-address", virtual, action, service.origin))
        return chains

    # --- what no service takes ---------------------------------------------------------------------------------------

    def _fallback(self, address: str) -> Chain:
        """Connections that no chain takes pass on, unless their address is one that only the mesh knows."""
        virtual = ipaddress.ip_network(self._snapshot.settings.service_network)
        mesh_only = self._is_namespaced and ipaddress.ip_address(address) in virtual
        known_alone = self._is_loopback or mesh_only
        return self._to(names.PASSTHROUGH_CHAIN, names.BLACK_HOLE if known_alone else self._policy.tcp_cluster)

    def _to(self, name: str, cluster: str, match: ChainMatch = ANYTHING) -> Chain:
        return Chain(name, match, TcpChain(cluster, (TcpTarget(cluster),), telemetry=self._telemetry), BUILT_IN)

    def _to_nowhere(self, name: str) -> Chain:
        """Virtual addresses of no service must not leave the machine."""
        match = ChainMatch(prefix_ranges=(self._snapshot.settings.service_network,))
        return Chain(name, match, _NOWHERE, BUILT_IN)

    def _to_mesh_addresses(self) -> Chain:
        match = ChainMatch(prefix_ranges=(self._snapshot.settings.pod_network,))
        return self._to("to-workload-address", names.MESH_PASSTHROUGH, match)

    def virtual_outbound(self, services: Iterable[Service]) -> Listener:
        """Catches what no service listener takes: loops, the world outside, and, in namespaces, workload addresses and
        virtual addresses of no service, which must not leave the machine.

        Everything passes here first. Where hosts are looked up, HTTP has to be told from other bytes here, save on
        ports of ``services`` whose servers are known to speak first, and not for ever.
        """
        settings = self._snapshot.settings
        loop = ChainMatch(destination_port=names.OUTBOUND_PORT)
        chains = [Chain("virtualOutbound-blackhole", loop, _NOWHERE, BUILT_IN)]
        if self._is_namespaced:
            chains += [self._to_mesh_addresses(), self._to_nowhere("virtualOutbound-unknown-service")]
        looks_up = self._policy.looks_up_hosts
        uninspected = _server_first_ports(services) if looks_up else ()
        if looks_up:
            host = self._policy.virtual_host()
            table = RouteTable(host.name, (host,))
            action = replace(outbound_http("", self._telemetry, dynamic_dns=True), inline=table)
            match = ChainMatch(transport_protocol=RAW, application_protocols=http_protocols(settings))
            chains.append(Chain("virtualOutbound-catchall-http", match, action, BUILT_IN))
        return Listener(
            name=names.VIRTUAL_OUTBOUND,
            bind=Bind(ANY, names.OUTBOUND_PORT),
            direction="outbound",
            chains=tuple(chains),
            default_chain=self._to("virtualOutbound-catchall-tcp", self._policy.tcp_cluster),
            origin=BUILT_IN,
            use_original_dst=True,
            original_dst=looks_up,
            inspect_tls=looks_up,
            inspect_http=looks_up,
            tls_uninspected=uninspected,
            http_uninspected=uninspected,
            sniffing_limit=(settings.protocol_detection_timeout or CATCHALL_SNIFFING_LIMIT) if looks_up else 0.0,
        )


def _server_first_ports(services: Iterable[Service]) -> tuple[int, ...]:
    """Ports on which all services are such as speak first."""
    speaking: dict[int, bool] = {}
    for service in services:
        for port in service.ports:
            speaking[port.number] = speaking.get(port.number, True) and speaks_first(port.protocol, port.number)
    return tuple(sorted(number for number, first in speaking.items() if first))


def _same_resource(one: Origin, other: Origin) -> bool:
    return (one.kind, one.namespace, one.name) == (other.kind, other.namespace, other.name)


def _chain(listener: str, route: TcpRoute, ranges: tuple[str, ...]) -> Chain:
    match = ChainMatch(
        prefix_ranges=route.subnets or ranges, source_ranges=route.source_subnets, server_names=route.server_names
    )
    return Chain(f"{listener}-{route.name}" if route.name else listener, match, route.action, route.origin)


def outbound_http(
    route_table: str,
    telemetry: Telemetry,
    *,
    grpc: bool = True,
    grpc_web: bool = False,
    http10: bool = False,
    dynamic_dns: bool = False,
) -> HttpChain:
    """How a sidecar speaks HTTP for its application towards the mesh."""
    return HttpChain(
        stat_prefix=f"outbound_{route_table}",
        route_table=route_table,
        telemetry=telemetry,
        grpc=grpc,
        grpc_web=grpc_web,
        http10=http10,
        dynamic_dns=dynamic_dns,
    )


def passthrough_clusters(outside: OutboundPolicy) -> list[Cluster]:
    """The clusters that stand in every sidecar: the outside, workload addresses, and nowhere."""
    clusters = [
        Cluster(names.BLACK_HOLE, Discovery.NONE, BUILT_IN),
        Cluster(names.PASSTHROUGH, Discovery.ORIGINAL_DST, BUILT_IN, protocol="client", source=Bind("")),
        Cluster(names.MESH_PASSTHROUGH, Discovery.ORIGINAL_DST, BUILT_IN, tags=(("service_name", names.PASSTHROUGH),)),
    ]
    if outside.looks_up_hosts:
        anywhere = Bind("")
        clusters.append(Cluster(names.DYNAMIC_DNS, Discovery.DYNAMIC_DNS, BUILT_IN, protocol="client", source=anywhere))
    return clusters
