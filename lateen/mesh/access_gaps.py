"""Access rules that let in more than whoever wrote them may think, seen against the workloads that they are for.

Comes in: the snapshot. Goes out: warnings. A rule of action ALLOW that excludes identities and names none lets callers
in plain text pass, where there can be any.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.findings import Finding, warning
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.security_policy import MtlsMode, peer_policy
from lateen.mesh.selected import selected
from lateen.resources.checks.security import allows_the_unknown
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec


def access_gaps(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """The warnings, in the order of the policies."""
    for resource in snapshot.authorization_policies:
        yield from _unknown_callers(snapshot, resource)


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
