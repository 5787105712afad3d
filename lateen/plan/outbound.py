"""The outbound listeners of a sidecar: what the application calls.

Comes in: the proxy, its network and the services that it sees. Goes out: ``Listener`` values. With redirected traffic
one catching listener hands over to virtual listeners, as in Istio; in the loopback network each address and port has a
listener of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import MeshSnapshot, Service, ServicePort
from lateen.plan import names
from lateen.plan.clusters import Cluster, Discovery
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import ANY, Bind, LoopbackNetwork, Proxy, workload_netns
from lateen.values.names import BUILT_IN
from lateen.values.protocol import Protocol


def outbound_listeners(
    snapshot: MeshSnapshot, proxy: Proxy, services: Iterable[Service], telemetry: Telemetry
) -> list[Listener]:
    """Everything that the application's calls meet, in order of address."""
    listeners = _service_listeners(snapshot, proxy, services, telemetry)
    if isinstance(proxy.network, LoopbackNetwork):
        return listeners
    return [_virtual_outbound(snapshot, proxy, telemetry), *listeners]


def _service_listeners(
    snapshot: MeshSnapshot, proxy: Proxy, services: Iterable[Service], telemetry: Telemetry
) -> list[Listener]:
    listeners: dict[str, Listener] = {}
    loopback = isinstance(proxy.network, LoopbackNetwork)
    for service in services:
        for port in service.ports:
            if port.protocol is Protocol.UDP:
                continue
            addresses = _addresses(proxy, service)
            if port.protocol.is_http and not loopback:
                addresses = (ANY,)
            for address in addresses:
                name = f"{address}_{port.number}"
                if name not in listeners:
                    listeners[name] = _service_listener(snapshot, proxy, name, address, service, port, telemetry)
    return [listeners[name] for name in sorted(listeners)]


def _addresses(proxy: Proxy, service: Service) -> tuple[str, ...]:
    """Where a service is called by this proxy: the virtual address, and those that the user gave."""
    if isinstance(proxy.network, LoopbackNetwork):
        return (in_loopback_view(service.address, proxy.network.prefix),) if service.address else ()
    given = tuple(address for address in service.addresses if "/" not in address)
    return (*((service.address,) if service.address else ()), *given)


def _service_listener(
    snapshot: MeshSnapshot,
    proxy: Proxy,
    name: str,
    address: str,
    service: Service,
    port: ServicePort,
    telemetry: Telemetry,
) -> Listener:
    loopback = isinstance(proxy.network, LoopbackNetwork)
    if port.protocol.is_http:
        action: HttpChain | TcpChain = outbound_http(str(port.number), telemetry)
    else:
        cluster = names.outbound_cluster(port.number, "", service.hostname)
        action = TcpChain(f"outbound_{port.number}", (TcpTarget(cluster),), telemetry=telemetry)
    chains: tuple[Chain, ...] = (Chain(name, ChainMatch(), action, service.origin),)
    if port.protocol.is_http and not loopback:
        chains = (_to_mesh_addresses(snapshot, telemetry), *chains)
    return Listener(
        name=name,
        bind=Bind(address, port.number, "" if loopback else workload_netns(proxy)),
        direction="outbound",
        chains=chains,
        origin=service.origin,
        bind_to_port=loopback,
    )


def outbound_http(route_table: str, telemetry: Telemetry) -> HttpChain:
    """How a sidecar speaks HTTP for its application towards the mesh."""
    return HttpChain(
        stat_prefix=f"outbound_{route_table}",
        route_table=route_table,
        telemetry=telemetry,
        mesh_headers="add",
        has_fault=True,
        has_cors=True,
    )


def _to_mesh_addresses(snapshot: MeshSnapshot, telemetry: Telemetry) -> Chain:
    """Calls to a workload's own address pass as they are: they name no service, so no route applies."""
    action = TcpChain(names.MESH_PASSTHROUGH, (TcpTarget(names.MESH_PASSTHROUGH),), telemetry=telemetry)
    match = ChainMatch(prefix_ranges=(snapshot.settings.pod_network,))
    return Chain("to-workload-address", match, action, BUILT_IN)


def _virtual_outbound(snapshot: MeshSnapshot, proxy: Proxy, telemetry: Telemetry) -> Listener:
    """Catches what no service listener takes: loops, workload addresses, virtual addresses of no service (they must
    not leave the machine), and the world outside."""
    unknown = names.PASSTHROUGH if snapshot.settings.outbound_policy == "ALLOW_ANY" else names.BLACK_HOLE
    loop = Chain(
        "virtualOutbound-blackhole",
        ChainMatch(destination_port=names.OUTBOUND_PORT),
        TcpChain(names.BLACK_HOLE, (TcpTarget(names.BLACK_HOLE),)),
        BUILT_IN,
    )
    unowned = Chain(
        "virtualOutbound-unknown-service",
        ChainMatch(prefix_ranges=(snapshot.settings.service_network,)),
        TcpChain(names.BLACK_HOLE, (TcpTarget(names.BLACK_HOLE),)),
        BUILT_IN,
    )
    outside = Chain(
        "virtualOutbound-catchall-tcp",
        ChainMatch(),
        TcpChain(unknown, (TcpTarget(unknown),), telemetry=telemetry),
        BUILT_IN,
    )
    return Listener(
        name=names.VIRTUAL_OUTBOUND,
        bind=Bind(ANY, names.OUTBOUND_PORT, workload_netns(proxy)),
        direction="outbound",
        chains=(loop, _to_mesh_addresses(snapshot, telemetry), unowned),
        default_chain=outside,
        origin=BUILT_IN,
        use_original_dst=True,
    )


def passthrough_clusters(proxy: Proxy) -> list[Cluster]:
    """The clusters that stand in every sidecar: the outside, workload addresses, and nowhere."""
    return [
        Cluster(names.BLACK_HOLE, Discovery.NONE, BUILT_IN),
        Cluster(names.PASSTHROUGH, Discovery.ORIGINAL_DST, BUILT_IN, protocol="client", source=Bind("")),
        Cluster(names.MESH_PASSTHROUGH, Discovery.ORIGINAL_DST, BUILT_IN),
    ]
