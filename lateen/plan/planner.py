"""Plans one proxy: the snapshot and who the proxy is come in, everything that it has to do goes out.

What only depends on the client's view (namespace and labels) is made once for all proxies that share it, so that the
parts are the same objects and their bytes are made once.
"""

from __future__ import annotations

import msgspec

from lateen.findings import Finding
from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import Labels, MeshSnapshot, Service, Workload
from lateen.mesh.routing import MESH_GATEWAY, BoundHost, client_label_names, mesh_hosts, virtual_service_for
from lateen.mesh.traffic_policy import destination_policy
from lateen.mesh.visibility import exported
from lateen.plan import names
from lateen.plan.access_rules import access_policy
from lateen.plan.destinations import plan_destinations, workload_tags
from lateen.plan.gateway import plan_gateway
from lateen.plan.matching import RouteMatch
from lateen.plan.model import (
    Cluster,
    EndpointSet,
    LoopbackNetwork,
    NamespacesNetwork,
    PodNetwork,
    Proxy,
    ProxyNetwork,
    ProxyPlan,
    ProxyType,
    SecretRef,
    Telemetry,
)
from lateen.plan.route_building import Reading, build_routes, default_route
from lateen.plan.routes import DirectResponse, Forward, Route, RouteTable, VirtualHost, WeightedCluster
from lateen.plan.sidecar import inbound, outbound_listeners, passthrough_clusters
from lateen.values.names import BUILT_IN
from lateen.values.protocol import Protocol


class Planned(msgspec.Struct, frozen=True):
    """A plan and what is wrong with the resources that it was made from."""

    plan: ProxyPlan
    findings: tuple[Finding, ...] = ()


class ClientView(msgspec.Struct, frozen=True):
    """What a client sees of the mesh: the same for all proxies of a namespace, but for labels that a route asks for.

    Without namespaces a view belongs to one proxy, as services have other addresses for each.
    """

    services: tuple[Service, ...]
    clusters: tuple[Cluster, ...]
    endpoints: tuple[EndpointSet, ...]
    route_tables: tuple[RouteTable, ...]


class Planner:
    """Plans the proxies of one snapshot. Keeps what proxies share for as long as it lives."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self.snapshot = snapshot
        self._label_names = client_label_names(snapshot.virtual_services)
        self._views: dict[tuple[str, Labels, bool, int], ClientView] = {}
        self._changed: dict[tuple[str, Labels, bool, int], tuple[EndpointSet, ...]] = {}

    def plan(self, proxy: Proxy, *, gateway_address: str = "127.0.0.1", access_log: str = "") -> Planned:
        """The plan of one proxy. ``gateway_address`` is where a gateway's servers listen unless they say."""
        if proxy.type is ProxyType.GATEWAY:
            return self._gateway(proxy, gateway_address, access_log)
        return Planned(self._sidecar(proxy, access_log))

    def move_to(self, snapshot: MeshSnapshot) -> None:
        """Go on with a snapshot that differs in the members of services alone: everything but endpoints stays."""
        self.snapshot = snapshot
        self._changed = {}

    def endpoints_of(self, proxy: Proxy, hosts: frozenset[str]) -> tuple[EndpointSet, ...]:
        """The endpoints of some services as a proxy sees them, from the snapshot that ``move_to`` brought.

        Proxies with the same view are given the same object.
        """
        key = self._key(proxy)
        if key not in self._changed:
            services = [service for service in self._view(proxy).services if service.hostname in hosts]
            found: list[EndpointSet] = []
            for service in services:
                policy = destination_policy(self.snapshot, proxy.namespace, proxy.labels, service)
                found.extend(plan_destinations(self.snapshot, service, policy, proxy.namespace)[1])
            self._changed[key] = tuple(found)
        return self._changed[key]

    def _key(self, proxy: Proxy) -> tuple[str, Labels, bool, int]:
        prefix = proxy.network.prefix if isinstance(proxy.network, LoopbackNetwork) else 0
        labels = tuple(pair for pair in proxy.labels if pair[0] in self._label_names)
        return (proxy.namespace, labels, proxy.type is ProxyType.SIDECAR, prefix)

    def _view(self, proxy: Proxy) -> ClientView:
        key = self._key(proxy)
        if key not in self._views:
            namespace, labels, is_sidecar, prefix = key
            reading = Reading(MESH_GATEWAY, 0, namespace, labels, loopback_prefix=prefix)
            self._views[key] = client_view(self.snapshot, reading, with_routes=is_sidecar)
        return self._views[key]

    def _sidecar(self, proxy: Proxy, access_log: str) -> ProxyPlan:
        snapshot, view = self.snapshot, self._view(proxy)
        tags = _own_tags(proxy)
        outgoing = Telemetry("source", tags, access_log)
        incoming = Telemetry("destination", (*tags, *_service_tags(snapshot, proxy)), access_log)
        access = access_policy(snapshot, proxy.namespace, proxy.labels)
        workload = snapshot.workloads.get(proxy.id)
        inbound_listeners, clusters, endpoints = inbound(snapshot, proxy, workload, access, incoming)
        return ProxyPlan(
            proxy=proxy,
            listeners=(*outbound_listeners(snapshot, proxy, view.services, outgoing), *inbound_listeners),
            route_tables=view.route_tables,
            clusters=(*view.clusters, *passthrough_clusters(proxy), *clusters),
            endpoints=(*view.endpoints, *endpoints),
        )

    def _gateway(self, proxy: Proxy, address: str, access_log: str) -> Planned:
        view = self._view(proxy)
        telemetry = Telemetry("source", _own_tags(proxy), access_log)
        listeners, tables, secrets, findings = plan_gateway(self.snapshot, proxy, address, telemetry)
        plan = ProxyPlan(
            proxy=proxy,
            listeners=tuple(listeners),
            route_tables=tuple(tables),
            clusters=(*view.clusters, *passthrough_clusters(proxy)[:1]),
            endpoints=view.endpoints,
            secrets=_distinct(secrets),
        )
        return Planned(plan, tuple(findings))


def _distinct(secrets: list[SecretRef]) -> tuple[SecretRef, ...]:
    return tuple(dict.fromkeys(secrets))


def proxy_of(workload: Workload) -> Proxy:
    """The proxy beside a running workload."""
    networks: dict[str, ProxyNetwork] = {
        "namespaces": NamespacesNetwork(workload.workload_netns, workload.mesh_netns),
        "loopback": LoopbackNetwork(workload.prefix),
    }
    return Proxy(
        id=workload.id,
        type=ProxyType.GATEWAY if workload.is_gateway else ProxyType.SIDECAR,
        namespace=workload.namespace,
        workload=workload.name,
        labels=workload.labels,
        service_account=workload.service_account,
        address=workload.address,
        network=networks.get(workload.network, PodNetwork()),
    )


def _own_tags(proxy: Proxy) -> tuple[tuple[str, str], ...]:
    return workload_tags(proxy.namespace, proxy.workload, proxy.labels, proxy.service_account)


def _service_tags(snapshot: MeshSnapshot, proxy: Proxy) -> tuple[tuple[str, str], ...]:
    """The service that a workload's own telemetry reports for: the first that it is a member of."""
    for host, members in sorted(snapshot.members.items()):
        if any(member.instance == proxy.id for member in members):
            service = snapshot.services[host]
            return (
                ("service", host),
                ("service_name", service.name),
                ("service_namespace", service.namespace),
            )
    return ()


# --- the client's view ------------------------------------------------------------------------------------------------


def client_view(snapshot: MeshSnapshot, reading: Reading, *, with_routes: bool) -> ClientView:
    """Clusters, endpoints and route tables towards every service that a namespace sees. ``reading.port`` is unused."""
    namespace = reading.client_namespace
    services = tuple(
        service
        for _, service in sorted(snapshot.services.items())
        if exported(service.export_to, service.namespace, namespace)
    )
    clusters: list[Cluster] = []
    endpoints: list[EndpointSet] = []
    for service in services:
        policy = destination_policy(snapshot, namespace, reading.client_labels, service)
        own_clusters, own_endpoints = plan_destinations(snapshot, service, policy, namespace)
        clusters.extend(own_clusters)
        endpoints.extend(own_endpoints)
    tables = _sidecar_tables(snapshot, reading, services) if with_routes else ()
    return ClientView(services, tuple(clusters), tuple(endpoints), tables)


def _sidecar_tables(snapshot: MeshSnapshot, reading: Reading, services: tuple[Service, ...]) -> tuple[RouteTable, ...]:
    """One route table for each port on which some service speaks HTTP."""
    bound = mesh_hosts(snapshot, reading.client_namespace)
    by_port: dict[int, list[Service]] = {}
    for service in services:
        for port in service.ports:
            if port.protocol.is_http:
                by_port.setdefault(port.number, []).append(service)
    return tuple(
        _table(snapshot, msgspec.structs.replace(reading, port=port), found, bound)
        for port, found in sorted(by_port.items())
    )


def _table(
    snapshot: MeshSnapshot, reading: Reading, services: list[Service], bound: tuple[BoundHost, ...]
) -> RouteTable:
    taken: set[str] = set()
    hosts: list[VirtualHost] = []
    for service in services:
        resource = virtual_service_for(bound, service.hostname)
        routes = build_routes(snapshot, resource, reading) if resource is not None else []
        if resource is None:
            cluster = names.outbound_cluster(reading.port, "", service.hostname)
            routes = [default_route(cluster, service.origin)]
        origin = resource.origin if resource is not None else service.origin
        domains = _free(_domains(snapshot, service, reading), taken)
        hosts.append(VirtualHost(f"{service.hostname}:{reading.port}", domains, tuple(routes), origin))
    known = {service.hostname for service in services}
    for entry in bound:
        domains = _free(_plain_domains(entry.host, reading.port), taken)
        if entry.host in known or not domains or entry.host in snapshot.services:
            continue
        routes = build_routes(snapshot, entry.resource, reading)
        if routes:
            hosts.append(VirtualHost(f"{entry.host}:{reading.port}", domains, tuple(routes), entry.resource.origin))
    hosts.append(_catch_all(snapshot))
    return RouteTable(str(reading.port), tuple(hosts))


def _free(domains: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    """Those domains that no virtual host has yet, compared without case; marks them as taken."""
    free = tuple(domain for domain in dict.fromkeys(domains) if domain.lower() not in taken)
    taken.update(domain.lower() for domain in free)
    return free


def _plain_domains(host: str, port: int) -> tuple[str, ...]:
    return (host, f"{host}:{port}") if host != "*" else ()


def _domains(snapshot: MeshSnapshot, service: Service, reading: Reading) -> tuple[str, ...]:
    """Every name by which a client of that namespace may call a service, each also with the port."""
    host, suffix = service.hostname, f".svc.{snapshot.settings.domain}"
    forms = [host]
    if host.endswith(suffix):
        short = host.removesuffix(suffix)
        name, _, namespace = short.rpartition(".")
        forms += [f"{short}.svc", short]
        if namespace == reading.client_namespace:
            forms.append(name)
    forms += [address for address in (service.address, *service.addresses) if address and "/" not in address]
    if reading.loopback_prefix and service.address:
        forms.append(in_loopback_view(service.address, reading.loopback_prefix))
    return tuple(form for plain in forms for form in (plain, f"{plain}:{reading.port}"))


def _catch_all(snapshot: MeshSnapshot) -> VirtualHost:
    """Hosts that the mesh does not know: passed on, or refused, as the outbound policy says."""
    if snapshot.settings.outbound_policy == "ALLOW_ANY":
        action = Forward((WeightedCluster(names.PASSTHROUGH, 1),))
        return VirtualHost("allow_any", ("*",), (Route("allow_any", RouteMatch(), action, BUILT_IN),), BUILT_IN)
    route = Route("block_all", RouteMatch(), DirectResponse(502), BUILT_IN)
    return VirtualHost("block_all", ("*",), (route,), BUILT_IN)


def name_table(snapshot: MeshSnapshot) -> dict[str, tuple[str, ...]]:
    """What DNS answers inside the mesh: every host name with its addresses."""
    table = {}
    for host, service in sorted(snapshot.services.items()):
        addresses = tuple(address for address in service.addresses if "/" not in address)
        chosen = addresses or ((service.address,) if service.address else ())
        if chosen and any(port.protocol is not Protocol.UDP for port in service.ports):
            table[host] = chosen
    return table
