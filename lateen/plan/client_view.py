"""What a client sees of the mesh: services, clusters, endpoints and, for sidecars, route tables.

Comes in: the snapshot and who reads it. Goes out: one ``ClientView`` for all proxies that see the same.
"""

from __future__ import annotations

import msgspec

from lateen.mesh.model import MeshSnapshot, Service
from lateen.mesh.routing import BoundHost
from lateen.mesh.sidecar_scope import SidecarScope, reachable_services, visible_routes, visible_services
from lateen.mesh.traffic_policy import destination_policy
from lateen.plan.answer_counts import counting_tables
from lateen.plan.clusters import Cluster, EndpointSet
from lateen.plan.destinations import plan_destinations
from lateen.plan.hash_policies import with_hash_policies
from lateen.plan.localities import place_of
from lateen.plan.model import Destinations
from lateen.plan.outbound_policy import OutboundPolicy, outbound_policy
from lateen.plan.outbound_routes import sidecar_tables, socket_table
from lateen.plan.route_building import Reading
from lateen.plan.routes import RouteTable
from lateen.plan.tls import SecretRef


class ClientView(msgspec.Struct, frozen=True):
    """What a client sees of the mesh: the same for proxies of a namespace and Sidecar that no route tells apart.

    ``services`` are those that may be called, with the ports that may be, oldest first; ``reachable`` are these and the
    ones that only routes lead to; ``bound`` are the hosts of VirtualServices for sidecars, in order of precedence;
    ``counting`` are the names of the route tables whose answers Envoy counts.

    Without namespaces a view belongs to one proxy, as services have other addresses for each.
    """

    scope: SidecarScope
    services: tuple[Service, ...]
    reachable: tuple[Service, ...]
    bound: tuple[BoundHost, ...]
    outside: OutboundPolicy
    destinations: Destinations
    route_tables: tuple[RouteTable, ...]
    counting: frozenset[str]

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """What TLS towards services needs of the Secrets of the client's namespace."""
        found = [cluster.tls for cluster in self.destinations.clusters if cluster.tls is not None]
        refs = [ref for tls in found for ref in (tls.certificate, tls.roots)]
        return tuple(dict.fromkeys(ref for ref in refs if ref is not None and ref.source is not None))


def client_view(snapshot: MeshSnapshot, reading: Reading, scope: SidecarScope, *, with_routes: bool) -> ClientView:
    """Clusters, endpoints and route tables towards every service that a scope sees. ``reading.port`` is unused."""
    namespace = reading.client_namespace
    services = tuple(visible_services(scope, sorted(snapshot.services.values(), key=_precedence)))
    bound = visible_routes(snapshot, scope) if with_routes else ()
    reachable = reachable_services(snapshot, scope, services, bound)
    clusters: list[Cluster] = []
    endpoints: list[EndpointSet] = []
    for service in reachable:
        policy = destination_policy(snapshot, namespace, reading.client_labels, service)
        own_clusters, own_endpoints = plan_destinations(
            snapshot, service, policy, namespace, sniffs=with_routes, place=place_of(reading.client_labels)
        )
        clusters.extend(own_clusters)
        endpoints.extend(own_endpoints)
    outside = outbound_policy(snapshot, scope)
    tables = sidecar_tables(snapshot, reading, services, bound, outside) if with_routes else ()
    if with_routes:
        tables += _socket_tables(snapshot, reading, scope, reachable, bound, outside)
    tables = with_hash_policies(tables, clusters)
    destinations = Destinations(tuple(clusters), tuple(endpoints))
    return ClientView(scope, services, reachable, bound, outside, destinations, tables, counting_tables(tables))


def _socket_tables(
    snapshot: MeshSnapshot,
    reading: Reading,
    scope: SidecarScope,
    services: tuple[Service, ...],
    bound: tuple[BoundHost, ...],
    outside: OutboundPolicy,
) -> tuple[RouteTable, ...]:
    """One table for each Unix socket that a Sidecar opens."""
    return tuple(
        socket_table(
            snapshot,
            reading,
            egress.listener.bind,
            tuple(service for service in services if egress.sees(service.namespace, service.hostname)),
            bound,
            outside,
        )
        for egress in scope.egress
        if egress.listener is not None and egress.listener.bind.startswith("unix://")
    )


def _precedence(service: Service) -> tuple[bool, str, str]:
    """Oldest first; those without a time of creation after the others, by host name."""
    return (not service.creation, service.creation, service.hostname)
