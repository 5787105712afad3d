"""How a proxy reaches the servers that a MeshConfig names as providers.

Comes in: the snapshot and names of clusters. Goes out: those clusters with their endpoints. The mesh names these
servers, so every proxy reaches them, whatever its Sidecar imports.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.providers import remote_providers, service_behind
from lateen.mesh.traffic_policy import destination_policy
from lateen.plan.clusters import Cluster, EndpointSet
from lateen.plan.destinations import plan_destinations
from lateen.plan.localities import place_of


def provider_hosts(snapshot: MeshSnapshot) -> frozenset[str]:
    """The services that are providers, whoever sees them."""
    found = (service_behind(snapshot.services, provider) for provider in remote_providers(snapshot.mesh_config))
    return frozenset(service.hostname for service in found if service is not None)


def provider_destinations(
    snapshot: MeshSnapshot, wanted: Iterable[str], known: Iterable[Cluster], namespace: str, labels: Labels
) -> tuple[tuple[Cluster, ...], tuple[EndpointSet, ...]]:
    """Clusters and endpoints of these names (``outbound|PORT||HOST``) that are not among the ``known`` clusters."""
    missing = set(wanted)
    if missing:
        missing -= {cluster.name for cluster in known}
    clusters: list[Cluster] = []
    endpoints: list[EndpointSet] = []
    for host in sorted({name.rpartition("|")[2] for name in missing}):
        service = snapshot.services[host]
        policy = destination_policy(snapshot, namespace, labels, service)
        made, members = plan_destinations(snapshot, service, policy, namespace, place=place_of(labels))
        clusters.extend(cluster for cluster in made if cluster.name in missing)
        endpoints.extend(found for found in members if found.cluster in missing)
    return tuple(clusters), tuple(endpoints)
