"""The route tables of a sidecar's outbound side: one for each port on which some service that it sees speaks HTTP.

Comes in: the snapshot, who reads it, the services it sees. Goes out: ``RouteTable`` values, for delivery by RDS.
"""

from __future__ import annotations

import msgspec

from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import MeshSnapshot, Service
from lateen.mesh.routing import BoundHost, mesh_hosts, virtual_service_for
from lateen.plan import names
from lateen.plan.matching import RouteMatch
from lateen.plan.route_building import Reading, build_routes, default_route
from lateen.plan.routes import DirectResponse, Forward, Route, RouteTable, VirtualHost, WeightedCluster
from lateen.values.names import BUILT_IN


def sidecar_tables(snapshot: MeshSnapshot, reading: Reading, services: tuple[Service, ...]) -> tuple[RouteTable, ...]:
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
