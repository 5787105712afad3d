"""The route tables of a sidecar's outbound side.

Comes in: the snapshot, who reads it, the services it sees, oldest first. Goes out: ``RouteTable`` values, for delivery
by RDS: ``PORT`` for each port on which some service speaks HTTP, with all hosts of that port, and ``HOST:PORT`` for
each port whose protocol is not declared, where the address alone says which service is meant. Of several virtual hosts
that want one domain the first one has it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import MeshSnapshot, Service, ServicePort
from lateen.mesh.routing import BoundHost
from lateen.mesh.visibility import exported, host_matches
from lateen.plan import names
from lateen.plan.outbound_policy import OutboundPolicy
from lateen.plan.route_building import Reading, build_routes, default_route
from lateen.plan.routes import Route, RouteTable, VirtualHost
from lateen.plan.service_addresses import listens_anywhere
from lateen.values.names import Origin
from lateen.values.protocol import Protocol

UNREGISTERED_PORT = 80
"""Hosts of VirtualServices that are in no registry are served on this port, as in Istio."""


def own_table_name(service: Service, port: ServicePort) -> str:
    """The route table of a port whose address says which service is meant."""
    return f"{service.hostname}:{port.number}"


def sidecar_tables(
    snapshot: MeshSnapshot,
    reading: Reading,
    services: tuple[Service, ...],
    bound: tuple[BoundHost, ...],
    policy: OutboundPolicy,
) -> tuple[RouteTable, ...]:
    """The tables of all ports. ``bound``: the hosts of VirtualServices, in order of precedence."""
    hosts = _Hosts(snapshot, reading, services, bound)
    by_port: dict[int, list[Service]] = {}
    alone: list[tuple[Service, ServicePort]] = []
    declared: set[int] = set()
    for service in services:
        for port in service.ports:
            undeclared = port.protocol is Protocol.UNSPECIFIED
            if port.protocol.is_http or undeclared:
                by_port.setdefault(port.number, []).append(service)
            if undeclared or (service.headless and port.protocol.is_http and not reading.loopback_prefix):
                alone.append((service, port))
            if port.protocol.is_http or (undeclared and listens_anywhere(service) and not reading.loopback_prefix):
                declared.add(port.number)
    tables = [hosts.port_table(number, by_port[number], policy) for number in sorted(declared)]
    tables += [hosts.own_table(service, port) for service, port in alone]
    return tuple(tables)


def socket_table(
    snapshot: MeshSnapshot,
    reading: Reading,
    name: str,
    services: tuple[Service, ...],
    bound: tuple[BoundHost, ...],
    policy: OutboundPolicy,
) -> RouteTable:
    """The table of a socket without a port of its own: each service by its first HTTP port."""
    making = _Hosts(snapshot, reading, services, bound)
    taken: set[str] = set()
    hosts: list[VirtualHost] = []
    for service in services:
        port = next((port for port in service.ports if port.protocol.is_http), None)
        if port is not None:
            place = msgspec.structs.replace(reading, port=port.number)
            routes, origin, _ = making.routes(service, place)
            domains = _free(_domains(snapshot, service, place), taken)
            if domains:
                hosts.append(VirtualHost(f"{service.hostname}:{port.number}", domains, routes, origin))
    return RouteTable(name, (*hosts, policy.virtual_host()))


class _Hosts:
    """Makes virtual hosts for one client."""

    def __init__(
        self, snapshot: MeshSnapshot, reading: Reading, services: tuple[Service, ...], bound: tuple[BoundHost, ...]
    ) -> None:
        self._snapshot, self._reading = snapshot, reading
        known = {service.hostname for service in services}
        self._unknown = tuple(entry for entry in bound if entry.host not in known)
        self._wildcards = tuple(entry for entry in bound if entry.host.startswith("*"))
        self._exact: dict[str, list[BoundHost]] = {}
        for entry in bound:
            if not entry.host.startswith("*"):
                self._exact.setdefault(entry.host, []).append(entry)

    def port_table(self, number: int, services: list[Service], policy: OutboundPolicy) -> RouteTable:
        reading = msgspec.structs.replace(self._reading, port=number)
        taken: set[str] = set()
        hosts: list[VirtualHost] = []
        used: set[str] = set()
        for service in services:
            routes, origin, resource = self.routes(service, reading)
            used.add(resource)
            hosts.extend(self._aliases(service, reading, taken))
            domains = _free(_domains(self._snapshot, service, reading), taken)
            if domains:
                hosts.append(VirtualHost(f"{service.hostname}:{number}", domains, routes, origin))
        hosts.extend(self._unregistered(services, reading, taken, used))
        hosts.append(policy.virtual_host())
        return RouteTable(str(number), tuple(hosts))

    def _aliases(self, service: Service, reading: Reading, taken: set[str]) -> list[VirtualHost]:
        """Further names of a service for which a VirtualService speaks; the others go with the service itself."""
        found = []
        domain = self._snapshot.settings.domain
        for alias in service.aliases:
            for entry in self._exact.get(alias.hostname, ()):
                routes = build_routes(self._snapshot, entry.resource, reading) if entry.resource.spec.http else []
                forms = _names(alias.hostname, reading.client_namespace, domain)
                domains = _free(_with_port(forms, reading.port), taken) if routes else ()
                if domains:
                    name = f"{alias.hostname}:{reading.port}"
                    found.append(VirtualHost(name, domains, tuple(routes), entry.resource.origin))
                    break
        return found

    def own_table(self, service: Service, port: ServicePort) -> RouteTable:
        name = own_table_name(service, port)
        routes, origin, _ = self.routes(service, msgspec.structs.replace(self._reading, port=port.number))
        return RouteTable(name, (VirtualHost(name, ("*",), routes, origin),))

    def routes(self, service: Service, reading: Reading) -> tuple[tuple[Route, ...], Origin, str]:
        """The routes of the first VirtualService that has any for this client, and its key; else straight on."""
        exact = self._exact.get(service.hostname, ())
        for entry in (*exact, *(entry for entry in self._wildcards if host_matches(entry.host, service.hostname))):
            if entry.resource.spec.http:
                routes = build_routes(self._snapshot, entry.resource, reading)
                if routes:
                    return tuple(routes), entry.resource.origin, str(entry.resource.key)
        cluster = names.outbound_cluster(reading.port, "", service.hostname)
        return (default_route(self._snapshot, cluster, service.origin),), service.origin, ""

    def _unregistered(
        self, services: list[Service], reading: Reading, taken: set[str], used: set[str]
    ) -> list[VirtualHost]:
        """Hosts of VirtualServices that no service has: beside a service's host in one that is used on this port, and
        of all others on port 80."""
        found = []
        for entry in self._unknown:
            here = str(entry.resource.key) in used
            if not (here or reading.port == UNREGISTERED_PORT):
                continue
            if any(host_matches(entry.host, service.hostname) for service in services):
                continue
            domains = _free(_plain_domains(entry.host, reading.port), taken)
            routes = build_routes(self._snapshot, entry.resource, reading) if domains else []
            if routes:
                origin = entry.resource.origin
                found.append(VirtualHost(f"{entry.host}:{reading.port}", domains, tuple(routes), origin))
        return found


def _free(domains: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    """Those domains that no virtual host has yet, compared without case; marks them as taken."""
    free = tuple(domain for domain in dict.fromkeys(domains) if domain.lower() not in taken)
    taken.update(domain.lower() for domain in free)
    return free


def _plain_domains(host: str, port: int) -> tuple[str, ...]:
    return (host, f"{host}:{port}") if host != "*" else ()


def _names(host: str, client_namespace: str, domain: str) -> list[str]:
    """A host, and its shorter forms as clients of that namespace say them."""
    suffix = f".svc.{domain}"
    if not host.endswith(suffix):
        return [host]
    short = host.removesuffix(suffix)
    name, _, namespace = short.rpartition(".")
    return [host, f"{short}.svc", short, *([name] if namespace == client_namespace else [])]


def _domains(snapshot: MeshSnapshot, service: Service, reading: Reading) -> tuple[str, ...]:
    """Every name by which a client of that namespace may call a service, each also with the port."""
    domain, client = snapshot.settings.domain, reading.client_namespace
    forms = _names(service.hostname, client, domain)
    if service.headless:
        forms += [f"*.{form}" for form in _names(service.hostname, client, domain)]
    for alias in service.aliases:
        if exported(alias.export_to, alias.namespace, client):
            forms += _names(alias.hostname, client, domain)
    forms += [address for address in (service.address, *service.addresses) if address and "/" not in address]
    if reading.loopback_prefix and service.address:
        forms.append(in_loopback_view(service.address, reading.loopback_prefix))
    return _with_port(forms, reading.port)


def _with_port(names: Iterable[str], port: int) -> tuple[str, ...]:
    return tuple(form for name in names for form in (name, f"{name}:{port}"))
