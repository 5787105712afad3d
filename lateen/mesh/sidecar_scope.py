"""Which Sidecar holds for a workload, and what the workload sees of the mesh by it.

Precedence: a Sidecar of the workload's namespace whose ``workloadSelector`` selects it, then one of that namespace
without a selector, then one of the root namespace without a selector; in each level the oldest. A Sidecar without
``egress`` takes that of the root namespace's. Without any, a workload sees everything that is exported to it.

Egress hosts are ``namespace/host``; a leading ``~`` takes such hosts out again, ``~/*`` sees nothing. An egress
listener with a port brings the services that have this port, with this port alone; the one without brings all others,
with the ports that no other listener has. A VirtualService is seen if one of its hosts is; the hosts that it sends to
can be reached then, though not called by their own names.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from lateen.mesh.model import Labels, MeshSnapshot, Service
from lateen.mesh.references import destination_hosts
from lateen.mesh.routing import BoundHost, mesh_hosts
from lateen.mesh.visibility import exported, full_host, hosts_overlap, selects
from lateen.resources.resource import Resource
from lateen.resources.sidecar import EgressListener, OutboundTrafficPolicy, SidecarSpec
from lateen.values.names import ResourceKey


class HostImport(msgspec.Struct, frozen=True):
    """One egress host. ``namespace`` is a name or ``*``."""

    namespace: str
    host: str
    excluded: bool = False

    def takes(self, namespace: str, host: str) -> bool:
        return self.namespace in ("*", namespace) and (self.host == "*" or hosts_overlap(self.host, host))


class EgressScope(msgspec.Struct, frozen=True):
    """One egress listener: what it brings into sight. ``place`` is its field in the Sidecar, ``spec.egress[0]``."""

    imports: tuple[HostImport, ...]
    listener: EgressListener | None = None
    place: str = ""

    @property
    def port(self) -> int:
        """The listener's port; 0 where it has none or stands on a Unix socket."""
        return self.listener.port.number if self.listener is not None and self.listener.port is not None else 0

    def sees(self, namespace: str, host: str) -> bool:
        found = [entry for entry in self.imports if entry.takes(namespace, host)]
        return bool(found) and not any(entry.excluded for entry in found)


EVERYTHING = EgressScope((HostImport("*", "*"),))


class SidecarScope(msgspec.Struct, frozen=True):
    """What one workload sees. ``key`` tells scopes apart: workloads of one namespace and key see the same."""

    namespace: str
    sidecar: Resource | None = None
    egress: tuple[EgressScope, ...] = (EVERYTHING,)
    egress_owner: Resource | None = None

    @property
    def key(self) -> ResourceKey | None:
        return self.sidecar.key if self.sidecar is not None else None

    @property
    def spec(self) -> SidecarSpec:
        found: SidecarSpec = self.sidecar.spec if self.sidecar is not None else SidecarSpec()
        return found

    @property
    def outbound_policy(self) -> OutboundTrafficPolicy | None:
        return self.spec.outbound_traffic_policy

    def sees(self, namespace: str, host: str) -> bool:
        return any(listener.sees(namespace, host) for listener in self.egress)


def sidecar_scope(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> SidecarScope:
    """The scope of a workload."""
    root = snapshot.settings.root_namespace
    own: Resource | None = None
    of_namespace: Resource | None = None
    of_mesh: Resource | None = None
    for resource in snapshot.sidecars:
        spec: SidecarSpec = resource.spec
        selector = spec.workload_selector.labels if spec.workload_selector is not None else {}
        if resource.key.namespace == namespace and selector:
            own = own or (resource if selects(selector, labels) else None)
        elif resource.key.namespace == namespace:
            of_namespace = of_namespace or resource
        elif resource.key.namespace == root and not selector:
            of_mesh = of_mesh or resource
    chosen = own or of_namespace or of_mesh
    owner = next((found for found in (chosen, of_mesh) if found is not None and found.spec.egress), None)
    return SidecarScope(namespace, chosen, _egress(owner, namespace), owner)


def _egress(owner: Resource | None, namespace: str) -> tuple[EgressScope, ...]:
    if owner is None:
        return (EVERYTHING,)
    spec: SidecarSpec = owner.spec
    return tuple(
        EgressScope(tuple(_import(text, namespace) for text in listener.hosts), listener, f"spec.egress[{index}]")
        for index, listener in enumerate(spec.egress)
    )


def _import(text: str, own_namespace: str) -> HostImport:
    excluded = text.startswith("~") and not text.startswith("~/")
    namespace, _, host = text.removeprefix("~" if excluded else "").partition("/")
    return HostImport(own_namespace if namespace == "." else namespace, host.lower(), excluded)


def visible_services(scope: SidecarScope, among: Iterable[Service]) -> list[Service]:
    """Those of some services that a workload may call, each with the ports that it may call, in their order."""
    services = [s for s in among if exported(s.export_to, s.namespace, scope.namespace)]
    if scope.egress == (EVERYTHING,):
        return services
    with_port = {listener.port: listener for listener in scope.egress if listener.port}
    others = [listener for listener in scope.egress if listener.listener is not None and listener.listener.port is None]
    found = []
    for service in services:
        ports = tuple(
            port
            for port in service.ports
            if (
                with_port[port.number].sees(service.namespace, service.hostname)
                if port.number in with_port
                else any(listener.sees(service.namespace, service.hostname) for listener in others)
            )
        )
        if ports:
            found.append(service if ports == service.ports else replace(service, ports=ports))
    return found


def visible_routes(snapshot: MeshSnapshot, scope: SidecarScope) -> tuple[BoundHost, ...]:
    """The hosts that VirtualServices route for a workload, in order of precedence."""
    bound = mesh_hosts(snapshot, scope.namespace)
    if scope.egress == (EVERYTHING,):
        return bound
    seen = {entry.resource.key for entry in bound if scope.sees(entry.resource.key.namespace, entry.host)}
    return tuple(entry for entry in bound if entry.resource.key in seen)


def reachable_services(
    snapshot: MeshSnapshot, scope: SidecarScope, visible: Iterable[Service], bound: Iterable[BoundHost]
) -> tuple[Service, ...]:
    """The visible services, and those that only routes and the egress proxy lead to, whole."""
    found = {service.hostname: service for service in visible}
    domain = snapshot.settings.domain
    hosts = [host for entry in bound for host in destination_hosts(entry.resource, domain)]
    policy = scope.outbound_policy
    if policy is not None and policy.egress_proxy is not None:
        hosts.append(full_host(policy.egress_proxy.host, scope.namespace, domain))
    for listener in scope.egress:
        if listener.listener is not None and listener.listener.port is not None and not listener.port:
            hosts += [s.hostname for s in snapshot.services.values() if listener.sees(s.namespace, s.hostname)]
    for host in dict.fromkeys(map(snapshot.concrete, hosts)):
        service = snapshot.services.get(host)
        if service is not None and exported(service.export_to, service.namespace, scope.namespace):
            found[host] = service
    return tuple(found.values())
