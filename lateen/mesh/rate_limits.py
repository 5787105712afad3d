"""Which RateLimits hold for a workload, or for a gateway.

Those of the root namespace and of the workload's own that select it, together, oldest first. None replaces another:
each rule counts by itself, so the strictest one is felt.
"""

from __future__ import annotations

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.visibility import selects
from lateen.resources.rate_limit import RateLimitSpec
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


def _holds(resource: Resource, labels: Labels) -> bool:
    spec: RateLimitSpec = resource.spec
    return spec.selector is None or selects(spec.selector.match_labels, labels)
