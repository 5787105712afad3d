"""TLS that clients are told to speak and servers do not take: DestinationRules against PeerAuthentications.

Comes in: the snapshot. Goes out: a warning for each ``tls`` block of a DestinationRule that a member of its host cannot
understand: mesh TLS to a port that takes none, or anything else to a port that takes mesh TLS alone. Without such a
block clients find out by themselves what each member takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lateen.findings import Finding, warning
from lateen.mesh.members import member_port
from lateen.mesh.model import Member, MeshSnapshot, Service
from lateen.mesh.security_policy import MtlsMode, peer_policy
from lateen.mesh.visibility import full_host, selects
from lateen.resources.destination_rule import DestinationRuleSpec, TrafficPolicy
from lateen.resources.resource import Resource

MESH_TLS = "ISTIO_MUTUAL"
_Block = tuple[str, str, int | None, Mapping[str, str]]
"""Where a block stands, its mode, the port that it is for, and the labels of the subset that it is for."""


def mtls_conflicts(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """The warnings, in the order of the rules."""
    for rules in snapshot.destination_rules.values():
        for resource in rules:
            spec: DestinationRuleSpec = resource.spec
            host = full_host(spec.host, resource.key.namespace, snapshot.settings.domain)
            service = snapshot.services.get(host)
            if service is not None:
                for block in _blocks(spec):
                    yield from _judged(snapshot, resource, service, block)


def _blocks(spec: DestinationRuleSpec) -> Iterator[_Block]:
    yield from _of("spec.trafficPolicy", spec.traffic_policy, {})
    for index, subset in enumerate(spec.subsets):
        yield from _of(f"spec.subsets[{index}].trafficPolicy", subset.traffic_policy, subset.labels)


def _of(place: str, policy: TrafficPolicy | None, labels: Mapping[str, str]) -> Iterator[_Block]:
    if policy is None:
        return
    if policy.tls is not None:
        yield f"{place}.tls", policy.tls.mode or "DISABLE", None, labels
    for index, setting in enumerate(policy.port_level_settings):
        if setting.tls is not None and setting.port is not None:
            where = f"{place}.portLevelSettings[{index}].tls"
            yield where, setting.tls.mode or "DISABLE", setting.port.number, labels


def _judged(snapshot: MeshSnapshot, resource: Resource, service: Service, block: _Block) -> Iterator[Finding]:
    place, mode, port, labels = block
    refused = [
        member
        for member in snapshot.members.get(service.hostname, ())
        if selects(labels, member.labels) and _refuses(snapshot, service, member, mode, port)
    ]
    if not refused:
        return
    names = ", ".join(dict.fromkeys(member.workload or member.address for member in refused))
    if mode == MESH_TLS:
        message, remedy = f"{names} takes no mesh TLS, so calls of this rule fail", "leave tls out"
    else:
        message = f"{names} takes mesh TLS alone, and mode {mode} is none, so calls of this rule are refused"
        remedy = "use ISTIO_MUTUAL or leave tls out, or a PeerAuthentication with mode PERMISSIVE"
    yield warning("mtls-conflict", message, resource.origin_at(f"{place}.mode"), remedy)


def _refuses(snapshot: MeshSnapshot, service: Service, member: Member, mode: str, port: int | None) -> bool:
    policy = peer_policy(snapshot, member.namespace, member.labels)
    ports = [one for one in service.ports if port in (None, one.number)]
    targets = [target for one in ports if (target := member_port(one, member)) is not None]
    if mode == MESH_TLS:
        return any(not member.mesh_tls or policy.on(target) is MtlsMode.DISABLE for target in targets)
    return any(member.mesh_tls and policy.on(target) is MtlsMode.STRICT for target in targets)
