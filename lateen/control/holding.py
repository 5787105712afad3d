"""Changes of resources that belong together take effect together, in whatever order their files are written.

Comes in: the resources that hold, and those that the files want. Goes out: those that shall hold now, and a finding for
each that has to wait. A VirtualService that sends to a subset which no rule defines yet waits in its last version
(a new one waits outside); a rule that takes away a subset which is still sent to stays in its last version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lateen.findings import Finding, error
from lateen.mesh.references import SubsetReference, dangling_references, defines, subset_references
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey

Resources = Mapping[ResourceKey, Resource]


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
