"""Access rules that do less than whoever wrote them may think, seen against the workloads that they are for.

Comes in: the snapshot. Goes out: warnings. Rules and ``portLevelMtls`` are about ports of workloads; one that names the
port of a service, behind which the workload listens elsewhere, holds for no connection. A rule of action ALLOW that
excludes identities and names none lets callers in plain text pass, where there can be any.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.findings import Finding, warning
from lateen.mesh.members import member_port
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.security_policy import MtlsMode, peer_policy
from lateen.mesh.selected import selected
from lateen.resources.checks.security import allows_the_unknown
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, PeerAuthenticationSpec, Rule

_Place = tuple[str, str]
"""Where a port stands, and how it is written."""
_Ports = dict[str, dict[int, set[int]]]
"""By workload, for the number of each service port the numbers at which the workload listens."""


def access_gaps(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """The warnings, in the order of the policies."""
    placed = [(resource, places) for resource in _policies(snapshot) if (places := list(_ports_of(resource)))]
    known = _listening(snapshot) if placed else {}
    for resource, places in placed:
        listening = [known.get(workload.id, {}) for workload in selected(snapshot, resource)]
        for field, text in places:
            yield from _port_of_a_service(resource, field, int(text), listening)
    for resource in snapshot.authorization_policies:
        yield from _unknown_callers(snapshot, resource)


def _policies(snapshot: MeshSnapshot) -> tuple[Resource, ...]:
    return (*snapshot.authorization_policies, *snapshot.peer_authentications)


# --- ports -----------------------------------------------------------------------------------------------------------


def _ports_of(resource: Resource) -> Iterator[_Place]:
    spec: AuthorizationPolicySpec | PeerAuthenticationSpec = resource.spec
    if isinstance(spec, PeerAuthenticationSpec):
        yield from ((f"spec.portLevelMtls.{port}", port) for port in spec.port_level_mtls)
        return
    for index, rule in enumerate(spec.rules):
        yield from _ports_of_rule(f"spec.rules[{index}]", rule)


def _ports_of_rule(field: str, rule: Rule) -> Iterator[_Place]:
    for index, entry in enumerate(rule.to or ()):
        if entry.operation is not None:
            for name, ports in (("ports", entry.operation.ports), ("notPorts", entry.operation.not_ports)):
                yield from ((f"{field}.to[{index}].operation.{name}", port) for port in ports)
    for index, condition in enumerate(rule.when):
        if condition.key == "destination.port":
            for name, ports in (("values", condition.values), ("notValues", condition.not_values)):
                yield from ((f"{field}.when[{index}].{name}", port) for port in ports)


def _listening(snapshot: MeshSnapshot) -> _Ports:
    found: _Ports = {}
    for workload in snapshot.workloads.values():
        for port in workload.ports:
            found.setdefault(workload.id, {}).setdefault(port.number, set()).add(port.target)
    for service in snapshot.services.values():
        for member in snapshot.members.get(service.hostname, ()):
            for served in service.ports if member.instance else ():
                target = member_port(served, member)
                if target is not None:
                    found.setdefault(member.instance, {}).setdefault(served.number, set()).add(target)
    return found


def _port_of_a_service(
    resource: Resource, field: str, port: int, selected: list[dict[int, set[int]]]
) -> Iterator[Finding]:
    """A warning where the port leads to others, and no workload that the policy is for listens at it."""
    meant = sorted({target for ports in selected for target in ports.get(port, ())})
    if meant and not any(port in targets for ports in selected for targets in ports.values()):
        shown = " and ".join(map(str, meant))
        message = f"{port} is a port of the service; the workloads behind it listen at {shown}, which this leaves out"
        yield warning("service-port", message, resource.origin_at(field), f"write the workload's port: {shown}")


# --- callers without a certificate -----------------------------------------------------------------------------------


def _unknown_callers(snapshot: MeshSnapshot, resource: Resource) -> Iterator[Finding]:
    spec: AuthorizationPolicySpec = resource.spec
    if spec.action not in (None, "ALLOW"):
        return
    for index, rule in enumerate(spec.rules):
        for place, entry in enumerate(rule.from_ or ()):
            if entry.source is None or not allows_the_unknown(entry.source):
                continue
            open_to = next((one for one in selected(snapshot, resource) if _takes_plain_text(snapshot, one)), None)
            if open_to is not None:
                message = f"{open_to.name} takes calls in plain text, whose callers have no identity: this allows them"
                field = f"spec.rules[{index}].from[{place}].source"
                yield warning("unknown-callers", message, resource.origin_at(field), "name who may call")


def _takes_plain_text(snapshot: MeshSnapshot, workload: Workload) -> bool:
    if workload.is_gateway:
        return True
    policy = peer_policy(snapshot, workload.namespace, workload.labels)
    return any(mode is not MtlsMode.STRICT for mode in (policy.mode, *(mode for _, mode in policy.ports)))
