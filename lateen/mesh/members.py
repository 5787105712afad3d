"""The members of services: what runs here, WorkloadEntries, inline endpoints, and what Kubernetes objects name.

Rules: a Service's members are the workloads, Pods and WorkloadEntries of its namespace that its selector selects, and
the endpoints of its EndpointSlices, which then stand for its Pods. A ServiceEntry's are its inline endpoints, or what
its workloadSelector selects in its namespace; with resolution NONE it has none. Where no name is looked up, a member
whose address is a name is none. Gateways are members of nothing but what selects them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache

from msgspec.structs import replace

from lateen.findings import Finding, warning
from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.cluster_members import MESH_TLS_LABEL, ClusterMembers
from lateen.mesh.locality import locality_of
from lateen.mesh.model import Member, MeshSnapshot, Resolution, Service, ServicePort, Workload
from lateen.mesh.services import Definition, entry_ports
from lateen.mesh.visibility import selects
from lateen.resources.resource import Resource
from lateen.resources.service_entry import ServiceEntrySpec
from lateen.resources.workload_entry import WorkloadEntrySpec

UNIX = "unix://"
LOOPBACK_INBOUND = "255.2"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - compared, not bound


def workload_address(workload: Workload) -> str:
    """Where other proxies reach this workload's sidecar, or this gateway; on loopback addresses gateways have none of
    their own."""
    if workload.network == "loopback" and workload.is_gateway:
        return workload.bind if workload.bind not in ("", ANY_ADDRESS) else "127.0.0.1"
    if workload.network == "loopback":
        return in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", workload.prefix)
    return workload.address


class MembersOfServices:
    """Finds the members of services among all that may be one. ``findings`` tell of those that cannot be."""

    def __init__(
        self, by_kind: Mapping[str, Iterable[Resource]], workloads: Iterable[Workload], cluster: ClusterMembers
    ) -> None:
        self.findings: list[Finding] = []
        self._cluster = cluster
        self._own = _Candidates()
        self._pods = _Candidates()
        for workload in workloads:
            self._own.add(_workload_member(workload))
        for resource in by_kind.get("WorkloadEntry", ()):
            self._own.add(_entry_member(resource.spec, resource.key.namespace, resource.key.name))
        for pod in cluster.pods:
            self._pods.add(pod)

    def of(self, definition: Definition) -> tuple[Member, ...]:
        """The members of one service, each address once for the same ports."""
        found, service = self._all_of(definition), definition.service
        if service.resolution is not Resolution.STATIC:
            return found
        named = [member.address for member in found if not _is_address(member.address)]
        if not named:
            return found
        message = (
            f"{service.hostname} has resolution STATIC, so that no name is looked up: {', '.join(named)} is left out"
        )
        remedy = "give its address, or use a ServiceEntry with resolution DNS"
        self.findings.append(warning("name-not-looked-up", message, service.origin, remedy))
        return tuple(member for member in found if member.address not in named)

    def _all_of(self, definition: Definition) -> tuple[Member, ...]:
        service = definition.service
        if definition.entries:
            found = [self._of_entry(service, entry, alone=len(definition.entries) == 1) for entry in definition.entries]
            return tuple({(one.address, one.ports): one for group in found for one in group}.values())
        sliced = self._cluster.by_service.get((service.namespace, service.name))
        selector = dict(service.selector)
        own = self._own.selected(service.namespace, selector)
        others = sliced if sliced is not None else self._pods.selected(service.namespace, selector)
        here = {member.address for member in own}
        members = (*own, *(member for member in others if member.address not in here))
        if not service.publishes_all:
            return members
        return tuple(replace(member, healthy=True) for member in members)

    def _of_entry(self, service: Service, entry: Resource, *, alone: bool) -> tuple[Member, ...]:
        spec: ServiceEntrySpec = entry.spec
        if service.resolution is Resolution.NONE:
            return ()
        if spec.workload_selector is None:
            found = _inline_members(service, spec)
        else:
            selector = spec.workload_selector.labels
            selected = (candidates.selected(service.namespace, selector) for candidates in (self._own, self._pods))
            found = tuple(member for group in selected for member in group)
        return found if alone else tuple(_with_ports(service, entry_ports(spec), member) for member in found)


def _with_ports(service: Service, own: Iterable[ServicePort], member: Member) -> Member:
    """A member of one of several entries of a host: it serves the ports of its own entry alone."""
    numbers = []
    for port in own:
        joined, number = service.port(port.number), member_port(port, member)
        if joined is not None and number is not None:
            numbers.append((joined.name, number))
    return replace(member, ports=tuple(numbers), ports_are_all=True)


@lru_cache(maxsize=65536)
def _is_address(text: str) -> bool:
    if text.startswith(UNIX):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class _Candidates:
    """Who may be a member of a service, found by namespace and label, in the order in which they came."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str, str], list[Member]] = {}

    def add(self, member: Member) -> None:
        for name, value in member.labels:
            self._by_label.setdefault((member.namespace, name, value), []).append(member)

    def selected(self, namespace: str, selector: Mapping[str, str]) -> tuple[Member, ...]:
        if not selector:
            return ()
        pools = [self._by_label.get((namespace, name, value), []) for name, value in selector.items()]
        return tuple(member for member in min(pools, key=len) if selects(selector, member.labels))


def _inline_members(service: Service, spec: ServiceEntrySpec) -> tuple[Member, ...]:
    if spec.endpoints:
        return tuple(_entry_member(endpoint, service.namespace, "") for endpoint in spec.endpoints)
    if service.resolution in (Resolution.STATIC, Resolution.NONE, Resolution.DYNAMIC_DNS):
        return ()
    return (Member(address=service.hostname, namespace=service.namespace),)


def _workload_member(workload: Workload) -> Member:
    return Member(
        address=workload_address(workload),
        named_ports=tuple((port.name, port.target) for port in workload.ports),
        labels=workload.labels,
        locality=locality_of(workload.labels),
        service_account=workload.service_account,
        namespace=workload.namespace,
        mesh_tls=not workload.is_gateway,
        healthy=workload.ready,
        workload=workload.name,
        instance=workload.id,
    )


def _entry_member(spec: WorkloadEntrySpec, namespace: str, name: str) -> Member:
    return Member(
        address=spec.address,
        ports=tuple(sorted(spec.ports.items())),
        labels=tuple(sorted(spec.labels.items())),
        locality=spec.locality or locality_of(tuple(spec.labels.items())),
        weight=spec.weight or 1,
        service_account=spec.service_account or "",
        namespace=namespace,
        mesh_tls=spec.labels.get(MESH_TLS_LABEL) == "istio",
        workload=name,
    )


def member_port(port: ServicePort, member: Member) -> int | None:
    """The number at which a member serves a service port; None where it has no such port."""
    replaced = dict(member.ports).get(port.name)
    if replaced is not None or member.ports_are_all:
        return replaced
    if isinstance(port.target, int):
        return port.target
    return dict(member.named_ports).get(port.target)


class ServicesOfWorkloads:
    """Which services a workload is a member of: as a replica that runs here, or by its address."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self._found: dict[str, dict[str, Service]] = {}
        for service, members in all_members(snapshot):
            host = service.hostname
            for member in members:
                for name in (f"id:{member.instance}", f"at:{member.address}"):
                    self._found.setdefault(name, {})[host] = service

    def of(self, instance: str, address: str) -> tuple[Service, ...]:
        """All of them, oldest first."""
        found = {**self._found.get(f"id:{instance}", {}), **(self._found.get(f"at:{address}", {}) if address else {})}
        return tuple(sorted(found.values(), key=lambda one: (not one.creation, one.creation, one.hostname)))


def all_members(snapshot: MeshSnapshot) -> list[tuple[Service, tuple[Member, ...]]]:
    """Every service with its members, by host; a host that several namespaces define comes once for each."""
    found = []
    for host, service in sorted(snapshot.services.items()):
        others = snapshot.contested.get(host)
        found += [(one.service, one.members) for one in others] if others else [(service, snapshot.members[host])]
    return found
