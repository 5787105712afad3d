"""The listeners of a sidecar: what the application calls (outbound) and what calls it (inbound).

Comes in: the proxy, its network and the client view. Goes out: ``Listener`` values. With redirected traffic one
catching listener a direction hands over to virtual listeners and chains, as in Istio; in the loopback network each
address and port has a listener of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import MeshSnapshot, Service, ServicePort, Workload, WorkloadPort
from lateen.mesh.security_policy import MtlsMode, PeerPolicy, peer_policy
from lateen.mesh.services import LOOPBACK_INBOUND
from lateen.plan import names
from lateen.plan.access import AccessPolicy
from lateen.plan.matching import RouteMatch
from lateen.plan.model import (
    MESH_ROOTS,
    WORKLOAD_CERTIFICATE,
    Bind,
    Chain,
    ChainMatch,
    Cluster,
    Discovery,
    Endpoint,
    EndpointSet,
    HttpChain,
    Listener,
    LoadBalancing,
    LocalityEndpoints,
    LoopbackNetwork,
    NamespacesNetwork,
    Proxy,
    ServerTls,
    TcpChain,
    TcpTarget,
    Telemetry,
)
from lateen.plan.routes import Forward, Route, RouteTable, VirtualHost, WeightedCluster
from lateen.values.names import BUILT_IN, Origin
from lateen.values.protocol import Protocol

ANY = "0.0.0.0"  # noqa: S104 - stands inside the workload's own network
MESH_ALPN = ("istio-http/1.1", "istio-h2", "istio-http/1.0", "istio", "istio-peer-exchange")
SPOKEN_ALPN = ("h2", "http/1.1")  # chosen by the server: by any other name Envoy takes HTTP/2 for HTTP/1.1
LOOPBACK_APP = "255.1"
INBOUND_SOURCE = "127.0.0.6"


def workload_netns(proxy: Proxy) -> str:
    return proxy.network.workload_netns if isinstance(proxy.network, NamespacesNetwork) else ""


def mesh_netns(proxy: Proxy) -> str:
    return proxy.network.mesh_netns if isinstance(proxy.network, NamespacesNetwork) else ""


# --- outbound ------------------------------------------------------------------------------------------------------


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


# --- inbound -------------------------------------------------------------------------------------------------------


def inbound(
    snapshot: MeshSnapshot, proxy: Proxy, workload: Workload | None, access: AccessPolicy, telemetry: Telemetry
) -> tuple[list[Listener], list[Cluster], list[EndpointSet]]:
    """What reaches the application: one chain, or one pair of chains, for each of its ports."""
    policy = peer_policy(snapshot, proxy.namespace, proxy.labels)
    ports = workload.ports if workload is not None else ()
    by_target: dict[int, WorkloadPort] = {}
    for port in ports:
        if port.protocol is not Protocol.UDP:
            by_target.setdefault(port.target, port)
    clusters = [_inbound_cluster(proxy, port) for port in by_target.values()]
    endpoints = [_inbound_endpoints(proxy, port) for port in by_target.values()]
    chains = {port.target: _port_chains(snapshot, port, policy, access, telemetry) for port in by_target.values()}
    if isinstance(proxy.network, LoopbackNetwork):
        return _bound_inbound(proxy, chains), clusters, endpoints
    every = tuple(chain for found in chains.values() for chain in found)
    clusters.append(
        Cluster(
            names.INBOUND_PASSTHROUGH,
            Discovery.ORIGINAL_DST,
            BUILT_IN,
            source=Bind(INBOUND_SOURCE, 0, workload_netns(proxy)),
        )
    )
    return [_virtual_inbound(snapshot, proxy, policy, every, access, telemetry)], clusters, endpoints


def _bound_inbound(proxy: Proxy, chains: dict[int, tuple[Chain, ...]]) -> list[Listener]:
    prefix = proxy.network.prefix if isinstance(proxy.network, LoopbackNetwork) else 0
    address = in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", prefix)
    return [
        Listener(
            name=f"{address}_{port}",
            bind=Bind(address, port),
            direction="inbound",
            chains=found,
            origin=found[0].origin,
            inspect_tls=True,
        )
        for port, found in chains.items()
    ]


def _virtual_inbound(
    snapshot: MeshSnapshot,
    proxy: Proxy,
    policy: PeerPolicy,
    chains: tuple[Chain, ...],
    access: AccessPolicy,
    telemetry: Telemetry,
) -> Listener:
    """One socket for all that arrives; ports that no service names pass through under the same policy."""
    address = proxy.address if mesh_netns(proxy) else ANY
    loop = Chain(
        "virtualInbound-blackhole",
        ChainMatch(destination_port=names.INBOUND_PORT),
        TcpChain(names.BLACK_HOLE, (TcpTarget(names.BLACK_HOLE),)),
        BUILT_IN,
    )
    passing = TcpChain(names.INBOUND_PASSTHROUGH, (TcpTarget(names.INBOUND_PASSTHROUGH),), access, telemetry)
    extra = [
        chain
        for port, mode in policy.ports
        if not any(known.match.destination_port == port for known in chains)
        for chain in _chains(snapshot, f"virtualInbound-{port}", port, mode, passing, policy.origin)
    ]
    rest = _chains(snapshot, names.VIRTUAL_INBOUND, None, policy.mode, passing, policy.origin)
    return Listener(
        name=names.VIRTUAL_INBOUND,
        bind=Bind(address, names.INBOUND_PORT, mesh_netns(proxy)),
        direction="inbound",
        chains=(loop, *chains, *extra, *rest),
        origin=BUILT_IN,
        original_dst=True,
        inspect_tls=True,
    )


def _port_chains(
    snapshot: MeshSnapshot, port: WorkloadPort, policy: PeerPolicy, access: AccessPolicy, telemetry: Telemetry
) -> tuple[Chain, ...]:
    cluster = names.inbound_cluster(port.target)
    mode = policy.on(port.target)
    if port.protocol.is_http:
        action: HttpChain | TcpChain = HttpChain(
            stat_prefix=f"inbound_{port.target}",
            inline=_inbound_routes(port, cluster),
            access=access,
            telemetry=telemetry,
            forwarded_client_cert="append_forward",
            mesh_headers="take",
            server_name="istio-envoy",
        )
    else:
        action = TcpChain(f"inbound_{port.target}", (TcpTarget(cluster),), access, telemetry)
    return _chains(snapshot, f"{ANY}_{port.target}", port.target, mode, action, policy.origin)


def _chains(
    snapshot: MeshSnapshot,
    name: str,
    port: int | None,
    mode: MtlsMode,
    action: HttpChain | TcpChain,
    origin: Origin,
) -> tuple[Chain, ...]:
    """STRICT: mesh TLS alone. PERMISSIVE: mesh TLS by its ALPN, all else as it comes. DISABLE: as it comes."""
    tls = ServerTls(
        WORKLOAD_CERTIFICATE,
        origin,
        roots=MESH_ROOTS,
        require_client=True,
        client_trust_domains=(snapshot.settings.trust_domain,),
        alpn=SPOKEN_ALPN,
    )
    if mode is MtlsMode.STRICT:
        return (Chain(name, ChainMatch(port, transport_protocol="tls"), action, origin, tls),)
    if mode is MtlsMode.DISABLE:
        return (Chain(name, ChainMatch(port), action, origin),)
    mesh = ChainMatch(port, transport_protocol="tls", application_protocols=MESH_ALPN)
    return (Chain(name, mesh, action, origin, tls), Chain(f"{name}-plain", ChainMatch(port), action, origin))


def _inbound_routes(port: WorkloadPort, cluster: str) -> RouteTable:
    route = Route("default", RouteMatch(), Forward((WeightedCluster(cluster, 1),)), BUILT_IN)
    host = VirtualHost(f"inbound|http|{port.number}", ("*",), (route,), BUILT_IN)
    return RouteTable(cluster, (host,))


def _app_address(proxy: Proxy) -> str:
    if isinstance(proxy.network, LoopbackNetwork):
        return in_loopback_view(f"0.0.{LOOPBACK_APP}", proxy.network.prefix)
    return "127.0.0.1"


def _inbound_cluster(proxy: Proxy, port: WorkloadPort) -> Cluster:
    protocol = ("http2" if port.protocol.is_http2 else "http1") if port.protocol.is_http else "tcp"
    loopback = isinstance(proxy.network, LoopbackNetwork)
    return Cluster(
        names.inbound_cluster(port.target),
        Discovery.STATIC,
        BUILT_IN,
        protocol=protocol,
        load_balancing=LoadBalancing.ROUND_ROBIN,
        source=None if loopback else Bind(INBOUND_SOURCE, 0, workload_netns(proxy)),
    )


def _inbound_endpoints(proxy: Proxy, port: WorkloadPort) -> EndpointSet:
    endpoint = Endpoint(_app_address(proxy), port.target)
    return EndpointSet(names.inbound_cluster(port.target), (LocalityEndpoints("", (endpoint,)),))
