"""Ports in policies that mean none of the workloads' own, seen against the workloads that the policies are for.

Comes in: the snapshot. Goes out: warnings. Access rules, ``portLevelMtls`` and RateLimits are about ports of workloads;
one that names the port of a service, behind which the workload listens elsewhere, holds for no connection. A RateLimit
that names a port at which nobody listens counts nothing; a rule of access may well say so in advance.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.findings import Finding, warning
from lateen.mesh.gateways import GatewayWorkload, gateway_sockets
from lateen.mesh.members import member_port
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.selected import selected
from lateen.resources.rate_limit import RateLimitSpec
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, PeerAuthenticationSpec, Rule

_Place = tuple[str, int]
"""Where a port stands, and which it is."""
_Ports = dict[int, set[int]]
"""For the number of each service port the numbers at which a workload listens."""


def port_gaps(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """The warnings, in the order of the policies."""
    policies = (*snapshot.authorization_policies, *snapshot.peer_authentications, *snapshot.rate_limits)
    placed = [(resource, places) for resource in policies if (places := list(_ports_of(resource)))]
    known = _listening(snapshot) if placed else {}
    for resource, places in placed:
        meant = [known.get(workload.id, {}) for workload in selected(snapshot, resource)]
        for field, port in places:
            yield from _judged(resource, field, port, meant)


def _ports_of(resource: Resource) -> Iterator[_Place]:
    spec: AuthorizationPolicySpec | PeerAuthenticationSpec | RateLimitSpec = resource.spec
    if isinstance(spec, PeerAuthenticationSpec):
        yield from ((f"spec.portLevelMtls.{port}", int(port)) for port in spec.port_level_mtls)
    elif isinstance(spec, RateLimitSpec):
        for index, limit in enumerate(spec.rules):
            for place, number in enumerate(limit.match.ports or ()):
                yield f"spec.rules[{index}].match.ports[{place}]", number
    else:
        for index, rule in enumerate(spec.rules):
            yield from _ports_of_rule(f"spec.rules[{index}]", rule)


def _ports_of_rule(field: str, rule: Rule) -> Iterator[_Place]:
    for index, entry in enumerate(rule.to or ()):
        if entry.operation is not None:
            for name, ports in (("ports", entry.operation.ports), ("notPorts", entry.operation.not_ports)):
                yield from ((f"{field}.to[{index}].operation.{name}", int(port)) for port in ports)
    for index, condition in enumerate(rule.when):
        if condition.key == "destination.port":
            for name, ports in (("values", condition.values), ("notValues", condition.not_values)):
                yield from ((f"{field}.when[{index}].{name}", int(port)) for port in ports)


def _judged(resource: Resource, field: str, port: int, selected: list[_Ports]) -> Iterator[Finding]:
    """A warning where no workload that the policy is for listens at the port."""
    there = {target for ports in selected for targets in ports.values() for target in targets}
    behind = sorted({target for ports in selected for target in ports.get(port, ())})
    if not there or port in there:
        return
    if behind:
        shown = " and ".join(map(str, behind))
        message = f"{port} is a port of the service; the workloads behind it listen at {shown}, which this leaves out"
        yield warning("service-port", message, resource.origin_at(field), f"write the workload's port: {shown}")
    elif isinstance(resource.spec, RateLimitSpec):
        message = f"no workload that this is for is known to listen at {port}, so nothing is counted there"
        remedy = f"they listen at {', '.join(map(str, sorted(there)))}"
        yield warning("unknown-port", message, resource.origin_at(field), remedy)


def _listening(snapshot: MeshSnapshot) -> dict[str, _Ports]:
    """By workload."""
    found: dict[str, _Ports] = {}
    for workload in snapshot.workloads.values():
        ports = found.setdefault(workload.id, {})
        for port in workload.ports:
            ports.setdefault(port.number, set()).add(port.target)
        for number, at in _of_gateway(snapshot, workload) if workload.is_gateway else ():
            ports.setdefault(number, set()).add(at)
    for service in snapshot.services.values():
        for member in snapshot.members.get(service.hostname, ()):
            for served in service.ports if member.instance else ():
                target = member_port(served, member)
                if target is not None:
                    found.setdefault(member.instance, {}).setdefault(served.number, set()).add(target)
    return found


def _of_gateway(snapshot: MeshSnapshot, workload: Workload) -> Iterator[tuple[int, int]]:
    """By which port servers are known, and at which they listen."""
    asking = GatewayWorkload(workload.id, workload.namespace, workload.labels, workload.address, workload.bind)
    for socket in gateway_sockets(snapshot, asking)[0]:
        yield from ((server.port, socket.port) for server in socket.servers)
