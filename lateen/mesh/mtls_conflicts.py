"""TLS that clients are told to speak and servers do not take: DestinationRules against PeerAuthentications.

Comes in: the snapshot. Goes out: a warning for each ``tls`` block of a DestinationRule that a member of its host cannot
understand: mesh TLS to a port that takes none, or anything else to a port that takes mesh TLS alone. Without such a
block clients find out by themselves what each member takes; where ``enableAutoMtls`` is false they speak plain text,
and a warning tells of each PeerAuthentication that takes none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

import msgspec

from lateen.findings import Finding, warning
from lateen.mesh.members import member_port
from lateen.mesh.model import Member, MeshSnapshot, Service
from lateen.mesh.security_policy import MtlsMode, peer_policy
from lateen.mesh.visibility import full_host, host_matches, selects
from lateen.resources.destination_rule import DestinationRuleSpec, TrafficPolicy
from lateen.resources.resource import Resource
from lateen.values.names import Origin

MESH_TLS = "ISTIO_MUTUAL"
NAMED = 5


class _Block(msgspec.Struct, frozen=True):
    """A ``tls`` block: where it stands, its mode, the labels of its subset, its port (None: any but ``besides``)."""

    place: str
    mode: str
    labels: Mapping[str, str]
    port: int | None = None
    besides: tuple[int, ...] = ()

    def is_for(self, number: int) -> bool:
        return number not in self.besides if self.port is None else number == self.port


def mtls_conflicts(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """The warnings, in the order of the rules."""
    written = {_host_of(snapshot, rule) for rules in snapshot.destination_rules.values() for rule in rules}
    for rules in snapshot.destination_rules.values():
        for resource in rules:
            if blocks := list(_blocks(resource.spec)):
                services = _services(snapshot, _host_of(snapshot, resource), written)
                for block in blocks:
                    yield from _judged(snapshot, resource, services, block)
    if not snapshot.settings.auto_mtls:
        yield from _told_by_nobody(snapshot, written)


def _host_of(snapshot: MeshSnapshot, resource: Resource) -> str:
    return full_host(resource.spec.host, resource.key.namespace, snapshot.settings.domain)


def _services(snapshot: MeshSnapshot, host: str, written: Set[str]) -> list[Service]:
    """The services that a host means; of those that a wildcard means, the ones that no narrower host is written for."""
    if not host.startswith("*"):
        return [service for name in (host,) if (service := snapshot.services.get(name)) is not None]
    narrower = [other for other in written if other.startswith("*") and other != host and host_matches(host, other)]
    return [
        service
        for service in snapshot.services.values()
        if host_matches(host, service.hostname)
        and not (service.external or service.hostname in written)
        and not any(host_matches(other, service.hostname) for other in narrower)
    ]


def _blocks(spec: DestinationRuleSpec) -> Iterator[_Block]:
    yield from _of("spec.trafficPolicy", spec.traffic_policy, {})
    for index, subset in enumerate(spec.subsets):
        yield from _of(f"spec.subsets[{index}].trafficPolicy", subset.traffic_policy, subset.labels)


def _of(place: str, policy: TrafficPolicy | None, labels: Mapping[str, str]) -> Iterator[_Block]:
    """What is said of a port takes the place of all that is said of any, also where it says nothing of TLS."""
    if policy is None:
        return
    of_ports = [setting for setting in policy.port_level_settings if setting.port is not None]
    if policy.tls is not None:
        besides = tuple(setting.port.number for setting in of_ports if setting.port is not None)
        yield _Block(f"{place}.tls", policy.tls.mode or "DISABLE", labels, besides=besides)
    for index, setting in enumerate(policy.port_level_settings):
        if setting.tls is not None and setting.port is not None:
            where = f"{place}.portLevelSettings[{index}].tls"
            yield _Block(where, setting.tls.mode or "DISABLE", labels, setting.port.number)


def _judged(snapshot: MeshSnapshot, resource: Resource, services: list[Service], block: _Block) -> Iterator[Finding]:
    refused = [
        member
        for service in services
        for member in snapshot.members.get(service.hostname, ())
        if selects(block.labels, member.labels) and _refuses(snapshot, service, member, block)
    ]
    if not refused:
        return
    names = ", ".join(list(dict.fromkeys(member.workload or member.address for member in refused))[:NAMED])
    if block.mode == MESH_TLS:
        message, remedy = f"{names} takes no mesh TLS, so calls of this rule fail", "leave tls out"
    else:
        message = f"{names} takes mesh TLS alone, and mode {block.mode} is none, so calls of this rule are refused"
        remedy = "use ISTIO_MUTUAL or leave tls out, or a PeerAuthentication with mode PERMISSIVE"
    yield warning("mtls-conflict", message, resource.origin_at(f"{block.place}.mode"), remedy)


def _refuses(snapshot: MeshSnapshot, service: Service, member: Member, block: _Block) -> bool:
    policy = peer_policy(snapshot, member.namespace, member.labels)
    ports = [one for one in service.ports if block.is_for(one.number)]
    targets = [target for one in ports if (target := member_port(one, member)) is not None]
    if block.mode == MESH_TLS:
        return any(not member.mesh_tls or policy.on(target) is MtlsMode.DISABLE for target in targets)
    return any(member.mesh_tls and policy.on(target) is MtlsMode.STRICT for target in targets)


def _told_by_nobody(snapshot: MeshSnapshot, written: Set[str]) -> Iterator[Finding]:
    """Members that take mesh TLS alone, and that no ``tls`` block of a DestinationRule is about."""
    said: dict[str, list[_Block]] = {}
    for resource in (resource for rules in snapshot.destination_rules.values() for resource in rules):
        for service in _services(snapshot, _host_of(snapshot, resource), written):
            said.setdefault(service.hostname, []).extend(_blocks(resource.spec))
    refused: dict[Origin, list[str]] = {}
    for service in snapshot.services.values():
        for member in snapshot.members.get(service.hostname, ()) if not service.external else ():
            about = [block for block in said.get(service.hostname, ()) if selects(block.labels, member.labels)]
            policy = peer_policy(snapshot, member.namespace, member.labels)
            for port in service.ports:
                target = member_port(port, member)
                if target is None or not member.mesh_tls or any(block.is_for(port.number) for block in about):
                    continue
                if policy.on(target) is MtlsMode.STRICT:
                    refused.setdefault(policy.origin_on(target), []).append(service.hostname)
    for origin, hosts in refused.items():
        names = ", ".join(list(dict.fromkeys(hosts))[:NAMED])
        message = f"clients speak plain text to {names}, as enableAutoMtls is false, so that their calls are refused"
        remedy = "write a DestinationRule with tls mode ISTIO_MUTUAL, or enableAutoMtls: true"
        yield warning("mtls-conflict", message, origin, remedy)
