"""Nothing goes to live proxies that a spare Envoy refuses, and what it refuses is traced to what somebody wrote.

Comes in: what the files say and what runs. Goes out: a draft that Envoy takes. A resource whose consequences Envoy
refuses is kept back in its last version until it is changed; where nobody's resource is to blame, proxies do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from lateen.control.coordinator import Draft
from lateen.control.holding import Refusal
from lateen.control.trial import Trial
from lateen.envoy.resources import EnvoyResource, EnvoyResources
from lateen.findings import Finding, error
from lateen.resources.resource import Resource
from lateen.values.names import BUILT_IN, Origin, ResourceKey

Refused = dict[ResourceKey, Refusal]
Make = Callable[[Mapping[ResourceKey, Refusal]], Draft]
Reasons = Mapping[tuple[str, str, str], str]


class Approval:
    """Remembers which versions of resources Envoy refuses."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._refused: Refused = {}

    async def approved(self, make: Make, before: Iterable[Resource], wanted: Iterable[Resource]) -> Draft:
        """A draft that Envoy takes. ``make`` drafts with some resources kept back."""
        present = {resource.key: resource for resource in wanted}
        self._refused = {key: refusal for key, refusal in self._refused.items() if present.get(key) == refusal.resource}
        old = {resource.key: resource for resource in before}
        draft = make(self._refused)
        if not await self._reasons(draft):
            return draft
        suspects = [
            resource
            for resource in draft.effective
            if resource.key in present and old.get(resource.key) != resource and resource.key not in self._refused
        ]
        await self._blame(make, suspects)
        return await self._without_what_is_refused(make(self._refused))

    async def _reasons(self, draft: Draft) -> Reasons:
        return await self._trial.refused(draft.resources())

    async def _blame(self, make: Make, suspects: Sequence[Resource]) -> None:
        """Keep back all suspects, then take them in again by halves, but for those with which more is refused."""
        left = {resource.key: Refusal(resource, "") for resource in suspects}
        hopeless = _names(await self._reasons(make({**self._refused, **left})))

        async def take(group: Sequence[Resource]) -> None:
            if not group:
                return
            without = {key: refusal for key, refusal in left.items() if key not in {one.key for one in group}}
            draft = make({**self._refused, **without})
            reasons = await self._reasons(draft)
            new = {key: reason for key, reason in reasons.items() if key[:2] not in hopeless}
            if not new:
                left.clear()
                left.update(without)
            elif len(group) == 1:
                left.pop(group[0].key)
                reason = next(iter(new.values()))
                self._refused[group[0].key] = Refusal(group[0], reason, _part(group[0].key, draft, new))
            else:
                await take(group[: len(group) // 2])
                await take(group[len(group) // 2 :])

        await take(suspects)

    async def _without_what_is_refused(self, draft: Draft) -> Draft:
        reasons = await self._reasons(draft)
        if not reasons:
            return draft
        findings: dict[str, Finding] = {}
        made = {proxy_id: _left(resources, reasons, findings) for proxy_id, resources in draft.made.items()}
        return msgspec.structs.replace(draft, made=made, findings=(*draft.findings, *findings.values()))


def _part(key: ResourceKey, draft: Draft, reasons: Reasons) -> Origin | None:
    """Which part of a resource made what Envoy refuses, if what is refused knows."""
    for kind, found in draft.resources():
        origin = found.origin
        if origin is None or not origin.field or (kind, found.name, found.version) not in reasons:
            continue
        if (origin.kind, origin.namespace, origin.name) == (key.kind, key.namespace, key.name):
            return origin
    return None


def _left(resources: EnvoyResources, reasons: Reasons, findings: dict[str, Finding]) -> EnvoyResources:
    """Those that Envoy takes; each other one is told once."""
    by_type: dict[str, dict[str, EnvoyResource]] = {}
    for kind, named in resources.by_type.items():
        by_type[kind] = {}
        for name, resource in named.items():
            reason = reasons.get((kind, name, resource.version))
            if reason is None:
                by_type[kind][name] = resource
                continue
            what = f"{kind.rpartition('.')[2]} {name}"
            message = f"Envoy refuses {what}: {reason}; proxies do without it"
            findings[what] = error("refused-by-envoy", message, resource.origin or BUILT_IN)
    return EnvoyResources(by_type)


def _names(reasons: Reasons) -> set[tuple[str, str]]:
    return {(kind, name) for kind, name, _ in reasons}
