"""Which EnvoyFilters hold for a proxy, and in which order.

Those of the root namespace hold for the whole mesh, others for their own namespace; a ``workloadSelector`` narrows
both. Order: lower ``priority`` first, then the root namespace before the proxy's own, then the oldest, then by name and
namespace. What a later one does sees what an earlier one did.
"""

from __future__ import annotations

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.visibility import selects
from lateen.resources.envoy_filter import EnvoyFilterSpec
from lateen.resources.resource import Resource


def envoy_filters_of(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[Resource, ...]:
    """The EnvoyFilters of one proxy, in the order in which they are applied."""
    root = snapshot.settings.root_namespace
    found = [
        resource
        for place in dict.fromkeys((root, namespace))
        for resource in snapshot.envoy_filters.get(place, ())
        if selects(_selector(resource), labels)
    ]
    return tuple(sorted(found, key=_priority))


def _selector(resource: Resource) -> dict[str, str]:
    spec: EnvoyFilterSpec = resource.spec
    return spec.workload_selector.labels if spec.workload_selector is not None else {}


def _priority(resource: Resource) -> int:
    spec: EnvoyFilterSpec = resource.spec
    return spec.priority
