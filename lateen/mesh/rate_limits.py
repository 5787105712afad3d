"""Which RateLimits hold for a workload, or for a gateway.

Those of the root namespace and of the workload's own that select it, together, oldest first. None replaces another:
each rule counts by itself, so the strictest one is felt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lateen.findings import Finding, warning
from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.visibility import selects
from lateen.resources.rate_limit import TOKENS, RateLimitSpec
from lateen.resources.resource import Resource


def rate_limits(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[Resource, ...]:
    """The RateLimits of a workload."""
    places = (snapshot.settings.root_namespace, namespace)
    return tuple(
        resource for resource in snapshot.rate_limits if resource.key.namespace in places and _holds(resource, labels)
    )


def counts_together(snapshot: MeshSnapshot) -> bool:
    """Whether any RateLimit needs somebody whom all proxies ask."""
    return any(resource.spec.scope == "global" for resource in snapshot.rate_limits)


def limits_without_tokens(
    limits: Iterable[Resource], authentications: Iterable[Resource], root_namespace: str
) -> Iterator[Finding]:
    """Warnings on rules that count by tokens where nothing looks at tokens."""
    looking = {resource.key.namespace for resource in authentications if resource.spec.jwt_rules}
    for resource in limits:
        own = resource.key.namespace
        if looking & {own, root_namespace} or (looking and own == root_namespace):
            continue
        for index, rule in enumerate(resource.spec.rules):
            for place, key in enumerate(rule.per):
                if key.startswith(TOKENS):
                    message = f"no RequestAuthentication looks at tokens here, so {key} is the same for all requests"
                    origin = resource.origin_at(f"spec.rules[{index}].per[{place}]")
                    yield warning("limit-without-tokens", message, origin, "write a RequestAuthentication")


def _holds(resource: Resource, labels: Labels) -> bool:
    spec: RateLimitSpec = resource.spec
    return spec.selector is None or selects(spec.selector.match_labels, labels)
