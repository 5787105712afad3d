"""Services and their members: from Kubernetes Services, ServiceEntries, WorkloadEntries and what runs here.

Rules: a Service's members are the workloads and WorkloadEntries of its namespace that its selector selects; a
ServiceEntry's are its inline endpoints, or what its workloadSelector selects in its namespace. Of several definitions
of one host name the oldest stands; the others are findings. Gateways are members of nothing but what selects them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from lateen.findings import Finding, warning
from lateen.mesh.addresses import allocate, in_loopback_view
from lateen.mesh.locality import locality_of
from lateen.mesh.model import Labels, Member, MeshSnapshot, Resolution, Service, ServicePort, Workload
from lateen.mesh.visibility import selects
from lateen.resources.kubernetes import KubernetesServiceSpec
from lateen.resources.resource import Resource
from lateen.resources.service_entry import ServiceEntrySpec
from lateen.resources.workload_entry import WorkloadEntrySpec
from lateen.settings import Settings
from lateen.values.protocol import parse_protocol, protocol_of_port, undeclared

MESH_TLS_LABEL = "security.istio.io/tlsMode"
NO_PORT_TRANSLATION_LABEL = "experimental.istio.io/disable-gateway-port-translation"
LOOPBACK_INBOUND = "255.2"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - compared, not bound


def define_services(
    kubernetes: Sequence[Resource], entries: Sequence[Resource], settings: Settings
) -> tuple[dict[str, Service], list[Finding]]:
    """Every service by host name, with its virtual address, and a finding for each host that is defined twice."""
    services: dict[str, Service] = {}
    findings: list[Finding] = []
    candidates = [_kubernetes_service(resource, settings) for resource in kubernetes]
    for resource in entries:
        candidates.extend(_entry_services(resource, settings))
    for service in candidates:
        first = services.setdefault(service.hostname, service)
        if first is not service:
            findings.append(
                warning(
                    "duplicate-host",
                    f"{service.hostname} is already defined by {first.origin}; this definition is not used",
                    service.origin,
                    "give it another host name, or remove one of the two",
                )
            )
    addresses = allocate((host for host, found in services.items() if _has_address(found)), settings.service_network)
    placed = {host: replace(service, address=addresses.get(host, "")) for host, service in services.items()}
    return placed, findings


def _has_address(service: Service) -> bool:
    """Whether a service gets a virtual address: not a wildcard, and not one whose clients find it by themselves."""
    return not service.hostname.startswith("*") and service.resolution is not Resolution.NONE


def _kubernetes_service(resource: Resource, settings: Settings) -> Service:
    spec: KubernetesServiceSpec = resource.spec
    name, namespace = resource.key.name, resource.key.namespace
    ports = tuple(
        ServicePort(
            name=port.name,
            number=port.port,
            protocol=protocol_of_port(port.name, port.app_protocol or "", port.protocol or "TCP", port.port),
            target=port.target_port if port.target_port is not None else port.port,
        )
        for port in spec.ports
    )
    given = spec.cluster_ip if spec.cluster_ip not in (None, "", "None") else ""
    return Service(
        hostname=f"{name}.{namespace}.svc.{settings.domain}",
        namespace=namespace,
        name=name,
        ports=ports,
        origin=resource.origin,
        addresses=(given,) if given else (),
        selector=tuple(sorted(spec.selector.items())),
        export_to=_annotated_export(resource) or settings.service_export_to,
        creation=resource.creation,
        headless=spec.cluster_ip == "None",
        translates_gateway_ports=_translates_gateway_ports(resource),
    )


def _translates_gateway_ports(resource: Resource) -> bool:
    return resource.labels.get(NO_PORT_TRANSLATION_LABEL) != "true"


def _annotated_export(resource: Resource) -> tuple[str, ...]:
    text = resource.annotations.get("networking.istio.io/exportTo", "")
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _entry_services(resource: Resource, settings: Settings) -> list[Service]:
    spec: ServiceEntrySpec = resource.spec
    ports = tuple(
        ServicePort(
            name=port.name,
            number=port.number,
            protocol=(parse_protocol(port.protocol) if port.protocol else None) or undeclared(port.number),
            target=port.target_port or port.number,
        )
        for port in spec.ports
    )
    return [
        Service(
            hostname=host.lower(),
            namespace=resource.key.namespace,
            name=resource.key.name,
            ports=ports,
            origin=resource.origin,
            addresses=tuple(spec.addresses),
            resolution=Resolution(spec.resolution),
            external=spec.location != "MESH_INTERNAL",
            export_to=tuple(spec.export_to) or settings.service_export_to,
            creation=resource.creation,
            sans=tuple(spec.subject_alt_names),
            translates_gateway_ports=_translates_gateway_ports(resource),
        )
        for host in spec.hosts
    ]


# --- members -----------------------------------------------------------------------------------------------------


def workload_address(workload: Workload) -> str:
    """Where other proxies reach this workload's sidecar, or this gateway; on loopback addresses gateways have none of
    their own."""
    if workload.network == "loopback" and workload.is_gateway:
        return workload.bind if workload.bind not in ("", ANY_ADDRESS) else "127.0.0.1"
    if workload.network == "loopback":
        return in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", workload.prefix)
    return workload.address


def members_of_services(
    services: Mapping[str, Service],
    entries: Mapping[str, Resource],
    workload_entries: Sequence[Resource],
    workloads: Iterable[Workload],
) -> dict[str, tuple[Member, ...]]:
    """The members of every service by host name. ``entries`` holds, by host, the ServiceEntry that defines it."""
    candidates = _Candidates()
    for workload in workloads:
        candidates.add(_workload_member(workload))
    for resource in workload_entries:
        candidates.add(_entry_member(resource.spec, resource.key.namespace, resource.key.name))
    result: dict[str, tuple[Member, ...]] = {}
    for host, service in services.items():
        entry = entries.get(host)
        selector: Mapping[str, str] | Labels | None = service.selector or None
        if entry is not None:
            spec: ServiceEntrySpec = entry.spec
            selector = spec.workload_selector.labels if spec.workload_selector else None
            if selector is None:
                result[host] = _inline_members(service, spec)
                continue
        result[host] = candidates.selected(service.namespace, dict(selector)) if selector else ()
    return result


class _Candidates:
    """Who may be a member of a service, found by namespace and label, in the order in which they came."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str, str], list[Member]] = {}

    def add(self, member: Member) -> None:
        for name, value in member.labels:
            self._by_label.setdefault((member.namespace, name, value), []).append(member)

    def selected(self, namespace: str, selector: Mapping[str, str]) -> tuple[Member, ...]:
        pools = [self._by_label.get((namespace, name, value), []) for name, value in selector.items()]
        return tuple(member for member in min(pools, key=len) if selects(selector, member.labels))


def _inline_members(service: Service, spec: ServiceEntrySpec) -> tuple[Member, ...]:
    if spec.endpoints:
        return tuple(_entry_member(endpoint, service.namespace, "") for endpoint in spec.endpoints)
    if service.resolution in (Resolution.STATIC, Resolution.NONE):
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
    if replaced is not None:
        return replaced
    if isinstance(port.target, int):
        return port.target
    return dict(member.named_ports).get(port.target)


class ServicesOfWorkloads:
    """Which services a workload is a member of: as a replica that runs here, or by its address."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self._first: dict[str, Service] = {}
        self._found: dict[str, dict[str, Service]] = {}
        for host, members in sorted(snapshot.members.items()):
            service = snapshot.services[host]
            for member in members:
                if member.instance:
                    self._first.setdefault(member.instance, service)
                for name in (f"id:{member.instance}", f"at:{member.address}"):
                    self._found.setdefault(name, {})[host] = service

    def first(self, instance: str) -> Service | None:
        """The first service, in order of host names, that a replica is a member of."""
        return self._first.get(instance)

    def of(self, instance: str, address: str) -> tuple[Service, ...]:
        """All of them, oldest first."""
        found = {**self._found.get(f"id:{instance}", {}), **(self._found.get(f"at:{address}", {}) if address else {})}
        return tuple(sorted(found.values(), key=lambda one: (not one.creation, one.creation, one.hostname)))
