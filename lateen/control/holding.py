"""Changes of resources that belong together take effect together, in whatever order their files are written.

Comes in: the resources that hold, and those that the files want. Goes out: those that shall hold now, and a finding for
each that has to wait. A VirtualService that sends to a subset which no rule defines yet waits in its last version
(a new one waits outside); a rule that takes away a subset which is still sent to stays in its last version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.findings import Finding, error
from lateen.mesh.references import SubsetReference, dangling_references, defines, subset_references
from lateen.resources.resource import Resource
from lateen.values.names import Origin, ResourceKey

Resources = Mapping[ResourceKey, Resource]


class Refusal(msgspec.Struct, frozen=True):
    """Envoy's reason against what comes of one version of a resource. ``origin``: of which part, if known."""

    resource: Resource
    reason: str
    origin: Origin | None = None


def without_refused(
    before: Iterable[Resource], wanted: Iterable[Resource], refused: Mapping[ResourceKey, Refusal]
) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    """The wanted resources with the last good version, if there is one, in place of each that Envoy refuses.

    A resource that has been changed since it was refused is wanted again.
    """
    old = {resource.key: resource for resource in before} if refused else {}
    kept: list[Resource] = []
    findings = []
    for resource in wanted:
        refusal = refused.get(resource.key)
        if refusal is None or refusal.resource != resource:
            kept.append(resource)
            continue
        last = old.get(resource.key)
        if last is not None and last != resource:
            kept.append(last)
        findings.append(_refused(refusal, has_last=last is not None and last != resource))
    return tuple(kept), tuple(findings)


def _refused(refusal: Refusal, *, has_last: bool) -> Finding:
    goes_on = "its last version goes on" if has_last else "it is not used"
    message = f"Envoy refuses what comes of this {refusal.resource.key.kind}: {refusal.reason}; {goes_on}"
    return error("refused-by-envoy", message, refusal.origin or refusal.resource.origin, "change what Envoy names")


def settle(
    before: Iterable[Resource], wanted: Iterable[Resource], domain: str
) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    """What shall hold, in the order of ``wanted`` and then of what is held, and why the rest waits.

    With nothing before, all that is wanted holds: there is no better state to wait in.
    """
    old = {resource.key: resource for resource in before}
    new = {resource.key: resource for resource in wanted}
    chosen = dict(new)
    findings: dict[tuple[ResourceKey, ResourceKey], Finding] = {}
    while True:
        missing = dangling_references(chosen.values(), domain)
        moves = [move for reference in missing if (move := _hold(reference, old, new, chosen, domain)) is not None]
        if not moves:
            break
        for held, finding in moves:
            if held in old:
                chosen[held] = old[held]
            else:
                chosen.pop(held, None)
            findings.setdefault((held, held), finding)
    findings_left = [_dangling(reference) for reference in missing]
    return tuple(chosen.values()), (*findings.values(), *findings_left)


def _hold(
    reference: SubsetReference, old: Resources, new: Resources, chosen: Resources, domain: str
) -> tuple[ResourceKey, Finding] | None:
    """What to hold back so that a reference does not dangle; None where nothing helps, or all is held already."""
    if not old:
        return None
    for key, rule in old.items():
        changed = chosen.get(key) != rule
        if key.kind == "DestinationRule" and changed and defines(rule, reference.host, reference.subset, domain):
            return key, _still_used(rule, new.get(key), reference)
    user = reference.user
    if chosen.get(user) == old.get(user) or _sends_there(old.get(user), reference, domain):
        return None
    return user, _waits(reference, user in old)


def _sends_there(resource: Resource | None, reference: SubsetReference, domain: str) -> bool:
    """Whether a last version has the very same fault, so that going back to it helps nobody."""
    wanted = (reference.host, reference.subset)
    return resource is not None and any(
        (found.host, found.subset) == wanted for found in subset_references(resource, domain)
    )


def _still_used(rule: Resource, wanted: Resource | None, reference: SubsetReference) -> Finding:
    origin = wanted.origin if wanted is not None else rule.origin
    message = (
        f"{rule.key} no longer defines subset {reference.subset}, to which {reference.user} still sends; "
        "its last version goes on until that changes"
    )
    return error("subset-in-use", message, origin, f"send to another subset in {reference.origin.path} first")


def _waits(reference: SubsetReference, had_version: bool) -> Finding:
    goes_on = "its last version goes on" if had_version else "it is not used"
    message = f"no DestinationRule defines subset {reference.subset} of {reference.host}; {goes_on} until one does"
    return error("unknown-subset", message, reference.origin, _remedy(reference))


def _dangling(reference: SubsetReference) -> Finding:
    message = f"no DestinationRule defines subset {reference.subset} of {reference.host}; requests to it fail"
    return error("unknown-subset", message, reference.origin, _remedy(reference))


def _remedy(reference: SubsetReference) -> str:
    return f"add the subset to a DestinationRule for {reference.host}, or send to another"
