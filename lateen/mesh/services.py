"""Services: from Kubernetes Services and ServiceEntries.

Rules for a host name that several resources define:

- ServiceEntries of one namespace that agree on location, resolution and exportTo are one service, with the ports,
  addresses, endpoints and subjectAltNames of all of them; of two ports with one number the older one's name and
  protocol hold. Of others in one namespace the first stands (Services before ServiceEntries, then the oldest); the
  rest are findings.
- Definitions in several namespaces stand beside each other: a client takes that of its own namespace, else a Service,
  else that of the first namespace by alphabet, among those that it sees (``mesh/seen.py``).
- A Service of type ExternalName is another name of the host that it names, and no service of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from lateen.findings import Finding, Severity, warning
from lateen.mesh.addresses import allocate
from lateen.mesh.model import Alias, Resolution, Service, ServicePort
from lateen.resources.kubernetes import HEADLESS, PREFERENCES, TRAFFIC_DISTRIBUTION, KubernetesServiceSpec
from lateen.resources.resource import Resource
from lateen.resources.service_entry import ServiceEntrySpec
from lateen.settings import Settings
from lateen.values.network import usual_address
from lateen.values.protocol import parse_protocol, protocol_of_port, undeclared

NO_PORT_TRANSLATION_LABEL = "experimental.istio.io/disable-gateway-port-translation"
MAX_ALIASES = 8


class Definition(msgspec.Struct, frozen=True):
    """A service, and the ServiceEntries that define it (none for a Kubernetes Service)."""

    service: Service
    entries: tuple[Resource, ...] = ()


class Definitions(msgspec.Struct, frozen=True):
    """Every service by host name, one for each namespace that defines it, in order of precedence.

    ``aliases`` holds the host that each further name stands for.
    """

    by_host: Mapping[str, tuple[Definition, ...]]
    aliases: Mapping[str, str]
    findings: tuple[Finding, ...] = ()


def define_services(kubernetes: Sequence[Resource], entries: Sequence[Resource], settings: Settings) -> Definitions:
    """Every service with its virtual address. The resources come in order of precedence."""
    concrete = [resource for resource in kubernetes if not resource.spec.is_alias]
    candidates = [Definition(_kubernetes_service(resource, settings)) for resource in concrete]
    for resource in entries:
        candidates.extend(Definition(service, (resource,)) for service in _entry_services(resource, settings))
    by_host: dict[str, dict[str, Definition]] = {}
    findings: list[Finding] = []
    for definition in candidates:
        present = by_host.setdefault(definition.service.hostname, {})
        first = present.setdefault(definition.service.namespace, definition)
        if first is definition:
            continue
        joined = _joined(first, definition)
        if joined is not None:
            present[definition.service.namespace] = joined
        else:
            findings.append(_not_used(first.service, definition.service))
    findings.extend(note for found in by_host.values() for note in _told_apart(tuple(found.values())))
    with_address = (host for host, found in by_host.items() if any(_has_address(one.service) for one in found.values()))
    addresses = allocate(with_address, settings.service_network)
    aliases, further = _aliases([one for one in kubernetes if one.spec.is_alias], by_host, settings)
    placed = {
        host: tuple(
            replace(
                definition,
                service=replace(
                    definition.service,
                    address=addresses.get(host, "") if _has_address(definition.service) else "",
                    aliases=tuple(further.get(host, ())),
                ),
            )
            for definition in found.values()
        )
        for host, found in by_host.items()
    }
    return Definitions(placed, aliases, tuple(findings))


# --- one host, several definitions -----------------------------------------------------------------------------------


def _joined(first: Definition, second: Definition) -> Definition | None:
    """Two ServiceEntries of a namespace as one service; None where they cannot be."""
    one, other = first.service, second.service
    if not (first.entries and second.entries):
        return None
    if (one.resolution, one.external, one.export_to) != (other.resolution, other.external, other.export_to):
        return None
    ports = {port.number: port for port in (*reversed(other.ports), *reversed(one.ports))}
    names = {port.name for port in one.ports}
    kept = [port if port in one.ports or port.name not in names else _renamed(port) for port in ports.values()]
    service = replace(
        one,
        ports=tuple(sorted(kept, key=lambda port: (port not in one.ports, port.number))),
        addresses=tuple(dict.fromkeys((*one.addresses, *other.addresses))),
        sans=tuple(dict.fromkeys((*one.sans, *other.sans))),
    )
    return Definition(service, (*first.entries, *second.entries))


def _renamed(port: ServicePort) -> ServicePort:
    """A port whose name another one has already."""
    return replace(port, name=f"{port.name}-{port.number}")


def _not_used(first: Service, second: Service) -> Finding:
    return warning(
        "duplicate-host",
        f"{second.hostname} is already defined by {first.origin}; this definition is not used",
        second.origin,
        "give it another host name, or the location, resolution and exportTo of the first",
    )


def _told_apart(found: tuple[Definition, ...]) -> list[Finding]:
    """A note on each further namespace that defines a host."""
    return [
        Finding(
            "several-definitions",
            Severity.INFO,
            f"{other.service.hostname} is defined by {found[0].service.origin} too; workloads of namespace "
            f"{other.service.namespace} take this definition",
            other.service.origin,
        )
        for other in found[1:]
    ]


def _aliases(
    resources: Iterable[Resource], by_host: Mapping[str, object], settings: Settings
) -> tuple[dict[str, str], dict[str, list[Alias]]]:
    """What each further name stands for, and the further names of each service."""
    named: dict[str, tuple[Alias, str]] = {}
    for resource in resources:
        spec: KubernetesServiceSpec = resource.spec
        namespace = resource.key.namespace
        host = f"{resource.key.name}.{namespace}.svc.{settings.domain}"
        target = (spec.external_name or "").removesuffix(".").lower()
        if host not in by_host:
            export_to = _annotated_export(resource) or settings.service_export_to
            named.setdefault(host, (Alias(host, namespace, export_to), target))
    aliases: dict[str, str] = {}
    further: dict[str, list[Alias]] = {}
    for host, (alias, target) in named.items():
        for _ in range(MAX_ALIASES):
            if target not in named:
                break
            target = named[target][1]
        aliases[host] = target
        if target in by_host:
            further.setdefault(target, []).append(alias)
    return aliases, further


# --- from resources --------------------------------------------------------------------------------------------------


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
    given = spec.cluster_ip if spec.cluster_ip not in (None, "", HEADLESS) else ""
    return Service(
        hostname=f"{name}.{namespace}.svc.{settings.domain}",
        namespace=namespace,
        name=name,
        ports=ports,
        origin=resource.origin,
        addresses=(usual_address(given),) if given else (),
        selector=tuple(sorted(spec.selector.items())),
        export_to=_annotated_export(resource) or settings.service_export_to,
        creation=resource.creation,
        headless=spec.cluster_ip == HEADLESS,
        publishes_all=spec.publish_not_ready_addresses,
        prefers_close=_prefers_close(resource, spec.traffic_distribution or ""),
        translates_gateway_ports=_translates_gateway_ports(resource),
    )


def _translates_gateway_ports(resource: Resource) -> bool:
    return resource.labels.get(NO_PORT_TRANSLATION_LABEL) != "true"


def _prefers_close(resource: Resource, said: str = "") -> bool:
    return (said or resource.annotations.get(TRAFFIC_DISTRIBUTION, "")) in PREFERENCES


def _annotated_export(resource: Resource) -> tuple[str, ...]:
    text = resource.annotations.get("networking.istio.io/exportTo", "")
    return tuple(part.strip() for part in text.split(",") if part.strip())


def entry_ports(spec: ServiceEntrySpec) -> tuple[ServicePort, ...]:
    """The ports of a ServiceEntry."""
    return tuple(
        ServicePort(
            name=port.name,
            number=port.number,
            protocol=(parse_protocol(port.protocol) if port.protocol else None) or undeclared(port.number),
            target=port.target_port or port.number,
        )
        for port in spec.ports
    )


def _entry_services(resource: Resource, settings: Settings) -> list[Service]:
    spec: ServiceEntrySpec = resource.spec
    ports = entry_ports(spec)
    return [
        Service(
            hostname=host.lower(),
            namespace=resource.key.namespace,
            name=resource.key.name,
            ports=ports,
            origin=resource.origin,
            addresses=tuple(dict.fromkeys(map(usual_address, spec.addresses))),
            resolution=Resolution(spec.resolution),
            external=spec.location != "MESH_INTERNAL",
            export_to=tuple(spec.export_to) or settings.service_export_to,
            creation=resource.creation,
            sans=tuple(spec.subject_alt_names),
            prefers_close=_prefers_close(resource),
            translates_gateway_ports=_translates_gateway_ports(resource),
        )
        for host in spec.hosts
    ]
