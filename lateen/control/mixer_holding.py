"""Rules of Mixer, and what they name, take effect together: a rule that is in force never falls away by an edit of
something else.

Comes in: the resources that hold, and those that shall. Goes out: the latter with the last version of what is still
named, and of rules that name what is not there, and a finding for each.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.findings import Finding, error
from lateen.mesh.mixer.names import NameInRule, meant, names_in
from lateen.resources.resource import Resource

RULE = "rule"


def settle_rules(
    before: Iterable[Resource], wanted: Iterable[Resource]
) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    """What shall hold, in the order of ``wanted`` and then of what is held, and why."""
    old = {resource.key: resource for resource in before}
    chosen = {resource.key: resource for resource in wanted}
    findings: dict[str, Finding] = {}
    waiting = [resource for resource in chosen.values() if resource.key.kind == RULE] if old else []
    while waiting:
        rule = waiting.pop()
        for named in names_in(rule.spec):
            if meant(named, rule.key.namespace, chosen) is not None:
                continue
            gone = meant(named, rule.key.namespace, old)
            last = old.get(rule.key)
            if gone is not None:
                chosen[gone.key] = gone
                findings[str(gone.key)] = _still_named(gone, rule, named)
            elif last is not None and last != rule:
                chosen[rule.key] = last
                findings[str(rule.key)] = _waits(rule, named)
                waiting.append(last)
                break
    return tuple(chosen.values()), tuple(findings.values())


def _still_named(gone: Resource, rule: Resource, named: NameInRule) -> Finding:
    message = f"{gone.key} is gone, and {rule.key} still names it; its last version goes on until that changes"
    return error("still-named", message, rule.origin_at(named.field), "change the rule, or put it back")


def _waits(rule: Resource, named: NameInRule) -> Finding:
    message = f"there is no {named.what} {named.name}; the last version of the rule goes on until there is one"
    return error(f"unknown-{named.what}", message, rule.origin_at(named.field), "add it, or correct the name")
