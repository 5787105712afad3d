"""AUTO_PASSTHROUGH: mesh TLS goes on, unopened, to the service that its server name says.

Comes in: what the gateway sees of the mesh, and a server of this mode. Goes out: for each port and subset of each
service that the server's hosts allow, a chain for the name ``outbound_.PORT_.SUBSET_.HOST`` and a cluster of the same
name, with those members alone that speak mesh TLS themselves. What lies outside the mesh is never reached in this way,
nor by a client that does not offer one of the mesh's own protocols in ALPN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from lateen.mesh.gateways import PlacedServer
from lateen.mesh.model import Service
from lateen.mesh.visibility import host_matches
from lateen.plan.client_tls import MESH_ALPN_HTTP1, MESH_ALPN_HTTP2, MESH_ALPN_TCP
from lateen.plan.clusters import Cluster, Discovery, EndpointSet, LocalityEndpoints
from lateen.plan.model import Chain, ChainMatch, TcpChain, TcpTarget, Telemetry

MESH_PROTOCOLS = tuple(
    sorted({name for names in (MESH_ALPN_HTTP1, MESH_ALPN_HTTP2, MESH_ALPN_TCP) for name in names if "istio" in name})
)


def passing_name(cluster: str) -> str:
    """``outbound|80|v1|host`` as mesh clients ask for it: ``outbound_.80_.v1_.host``."""
    return cluster.replace("|", "_.")


def passing_clusters(
    placed: PlacedServer, services: Iterable[Service], clusters: Iterable[Cluster]
) -> Iterator[Cluster]:
    """The clusters that one server of this mode leads to."""
    allowed = {service.hostname for service in services if not service.external and _allows(placed, service)}
    for cluster in clusters:
        host = cluster.name.rpartition("|")[2]
        if host in allowed and cluster.discovery is Discovery.EDS:
            yield replace(cluster, name=passing_name(cluster.name), protocol="tcp", tls=None, health_check=None)


def passing_endpoints(known: EndpointSet) -> EndpointSet:
    """The members of such a cluster: those of the outbound cluster that can open mesh TLS."""
    localities = tuple(
        LocalityEndpoints(found.locality, able, found.priority, found.weight)
        for found in known.localities
        if (able := tuple(endpoint for endpoint in found.endpoints if endpoint.mesh_tls))
    )
    return EndpointSet(passing_name(known.cluster), localities, known.service)


def passing_chain(placed: PlacedServer, cluster: Cluster, telemetry: Telemetry) -> Chain:
    """The chain that leads to one of these clusters."""
    match = ChainMatch(server_names=(cluster.name,), transport_protocol="tls", application_protocols=MESH_PROTOCOLS)
    action = TcpChain(cluster.name, (TcpTarget(cluster.name),), telemetry=telemetry)
    return Chain(f"{placed.server.port.name}.{placed.gateway}.{cluster.name}", match, action, placed.origin())


def _allows(placed: PlacedServer, service: Service) -> bool:
    return any(
        namespace in ("*", service.namespace) and host_matches(allowed, service.hostname)
        for namespace, allowed in placed.hosts
        if allowed in placed.names
    )
