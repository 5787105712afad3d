"""Rules of Mixer, and what they name, take effect together: a rule that is in force never falls away by an edit of
something else.

Comes in: the resources that hold, and those that shall. Goes out: the latter with the last version of what is still
named, and of rules that name what is not there, and a finding for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lateen.findings import Finding, error
from lateen.mesh.mixer.names import NameInRule, adapter_outside, described_by, meant, names_in
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey

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
    findings.update(_settle_handlers(old, chosen))
    return tuple(chosen.values()), tuple(findings.values())


def _settle_handlers(old: Mapping[ResourceKey, Resource], chosen: dict[ResourceKey, Resource]) -> dict[str, Finding]:
    """The same for handlers of adapters outside Mixer, and what describes these."""
    findings: dict[str, Finding] = {}
    waiting = [resource for resource in chosen.values() if adapter_outside(resource)] if old else []
    while waiting:
        handler = waiting.pop()
        name, namespace = adapter_outside(handler), handler.key.namespace
        if described_by(name, namespace, chosen) is not None:
            continue
        gone, last = described_by(name, namespace, old), old.get(handler.key)
        named = NameInRule("spec.adapter", name, "adapter")
        if gone is not None:
            chosen[gone.key] = gone
            findings[str(gone.key)] = _still_named(gone, handler, named)
        elif last is not None and last != handler:
            chosen[handler.key] = last
            findings[str(handler.key)] = _waits(handler, named)
            waiting.extend([last] if adapter_outside(last) else [])
    return findings


def _still_named(gone: Resource, rule: Resource, named: NameInRule) -> Finding:
    message = f"{gone.key} is gone, and {rule.key} still names it; its last version goes on until that changes"
    return error("still-named", message, rule.origin_at(named.field), f"change the {rule.key.kind}, or put it back")


def _waits(rule: Resource, named: NameInRule) -> Finding:
    message = (
        f"there is no {named.what} {named.name}; the last version of the {rule.key.kind} goes on until there is one"
    )
    return error(f"unknown-{named.what}", message, rule.origin_at(named.field), "add it, or correct the name")
