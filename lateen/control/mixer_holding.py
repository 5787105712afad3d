"""Rules of Mixer, and what they name, take effect together: a rule that is in force never falls away by an edit of
something else.

Comes in: the resources that hold, and those that shall. Goes out: the latter with the last version of what is still
named, of rules that name what is not there, and of all that an edit would make unusable, and a finding for each. With a
rule that were left out instead, what it refuses would go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from lateen.findings import Finding, error
from lateen.mesh.mixer.names import (
    ADAPTER,
    INSTANCE,
    MANIFEST,
    MIXER_KINDS,
    QUOTA_SPEC,
    NameInRule,
    adapter_outside,
    described_by,
    meant,
    names_in,
)
from lateen.mesh.mixer.resolve import resolve
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
            elif last is not None and not _same(last, rule):
                chosen[rule.key] = last
                findings[str(rule.key)] = _waits(rule, named)
                waiting.append(last)
                break
    findings.update(_settle_handlers(old, chosen))
    told = (*findings.values(), *_settle_unusable(old, chosen))
    return tuple(chosen.values()), told


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
        elif last is not None and not _same(last, handler):
            chosen[handler.key] = last
            findings[str(handler.key)] = _waits(handler, named)
            waiting.extend([last] if adapter_outside(last) else [])
    return findings


def _same(one: Resource | None, other: Resource) -> bool:
    """Whether they say the same, wherever they stand."""
    return one is not None and (one.spec, one.labels, one.annotations) == (other.spec, other.labels, other.annotations)


def _still_named(gone: Resource, rule: Resource, named: NameInRule) -> Finding:
    message = f"{gone.key} is gone, and {rule.key} still names it; its last version goes on until that changes"
    return error("still-named", message, rule.origin_at(named.field), f"change the {rule.key.kind}, or put it back")


def _waits(rule: Resource, named: NameInRule) -> Finding:
    message = (
        f"there is no {named.what} {named.name}; the last version of the {rule.key.kind} goes on until there is one"
    )
    return error(f"unknown-{named.what}", message, rule.origin_at(named.field), "add it, or correct the name")


# --- what an edit would make unusable --------------------------------------------------------------------------------


def _settle_unusable(old: Mapping[ResourceKey, Resource], chosen: dict[ResourceKey, Resource]) -> list[Finding]:
    """Puts back what was good: the resource that is wrong now or, if that is as it was, what has changed of what it
    is made of. What is new, or was wrong before, is left as it is."""
    if not old or _mixers(old) == _mixers(chosen):
        return []
    wrong_before = _errors(old)
    told: list[Finding] = []
    while True:
        wrong = {key: found for key, found in _errors(chosen).items() if key in old and key not in wrong_before}
        guilty = {key: [key] for key in wrong if not _same(chosen[key], old[key])}
        guilty = guilty or {key: _changed(old[key], old, chosen) for key in wrong}
        if not any(guilty.values()):
            return told
        for key, parts in guilty.items():
            chosen.update((part, old[part]) for part in parts)
            told.extend(_goes_on(finding, parts) for finding in wrong[key] if parts)


def _mixers(resources: Mapping[ResourceKey, Resource]) -> dict[ResourceKey, Resource]:
    return {key: resource for key, resource in resources.items() if key.kind in MIXER_KINDS}


def _errors(resources: Mapping[ResourceKey, Resource]) -> dict[ResourceKey, list[Finding]]:
    """The errors that resources of Mixer have when they are seen together."""
    by_kind: dict[str, list[Resource]] = {}
    for key, resource in _mixers(resources).items():
        by_kind.setdefault(key.kind, []).append(resource)
    found: dict[ResourceKey, list[Finding]] = {}
    for finding in resolve(by_kind, "")[1]:
        origin = finding.origin
        key = ResourceKey(origin.kind, origin.namespace, origin.name)
        if finding.is_error and key in resources:
            found.setdefault(key, []).append(finding)
    return found


def _changed(
    resource: Resource, old: Mapping[ResourceKey, Resource], chosen: Mapping[ResourceKey, Resource]
) -> list[ResourceKey]:
    """What has changed, or is gone, of what a resource is made of."""
    parts = {part.key: part for part in _parts(resource, old)}
    return [key for key, part in parts.items() if not _same(chosen.get(key), part)]


def _parts(resource: Resource, old: Mapping[ResourceKey, Resource]) -> Iterator[Resource]:
    """All that a resource was made of: what it names, adapters outside, and whatever defines attributes."""
    yield from (part for part in old.values() if part.key.kind in (ADAPTER, MANIFEST))
    for named in _names_in(resource):
        part = meant(named, resource.key.namespace, old)
        if part is not None:
            yield part


def _names_in(resource: Resource) -> Iterator[NameInRule]:
    if resource.key.kind == RULE:
        yield from names_in(resource.spec)
    elif resource.key.kind == QUOTA_SPEC:
        for rule in resource.spec.rules:
            yield from (NameInRule("spec.rules", charged.quota, INSTANCE) for charged in rule.quotas)


def _goes_on(finding: Finding, parts: list[ResourceKey]) -> Finding:
    origin = finding.origin
    own = parts == [ResourceKey(origin.kind, origin.namespace, origin.name)]
    which = "its last version" if own else f"the last version of {' and '.join(map(str, parts))}"
    return replace(finding, message=f"{finding.message}; {which} goes on")
