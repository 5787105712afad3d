"""The inbound side of a sidecar: what calls the application.

Comes in: the proxy, its network, the policies that select it. Goes out: listeners, and the clusters that lead to the
application. With redirected traffic one listener catches all; in the loopback network each port has one of its own.
"""

from __future__ import annotations

from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import MeshSnapshot, Workload, WorkloadPort
from lateen.mesh.security_policy import MtlsMode, PeerPolicy, peer_policy
from lateen.mesh.services import LOOPBACK_INBOUND
from lateen.plan import names
from lateen.plan.access import AccessPolicy
from lateen.plan.clusters import Cluster, Discovery, Endpoint, EndpointSet, LoadBalancing, LocalityEndpoints
from lateen.plan.matching import RouteMatch
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import ANY, Bind, LoopbackNetwork, Proxy, mesh_netns, workload_netns
from lateen.plan.routes import Forward, Route, RouteTable, VirtualHost, WeightedCluster
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE, ServerTls
from lateen.values.names import BUILT_IN, Origin
from lateen.values.protocol import Protocol

MESH_ALPN = ("istio-http/1.1", "istio-h2", "istio-http/1.0", "istio", "istio-peer-exchange")
SPOKEN_ALPN = ("h2", "http/1.1")  # chosen by the server: by any other name Envoy takes HTTP/2 for HTTP/1.1
LOOPBACK_APP = "255.1"
INBOUND_SOURCE = "127.0.0.6"


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
