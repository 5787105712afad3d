"""Which workloads a selector means, and the warnings where it means none.

Comes in: the snapshot. Goes out: workloads; findings in the order of the resources. A policy with a typo in its labels
guards nobody, and whoever wrote it would not notice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from lateen.findings import Finding, warning
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.visibility import selects
from lateen.resources.resource import Resource


def selected(snapshot: MeshSnapshot, resource: Resource) -> Iterator[Workload]:
    """The workloads that ``selector`` means; those of all namespaces where the resource stands in the root's."""
    labels = resource.spec.selector.match_labels if resource.spec.selector is not None else {}
    for workload in _in_reach(snapshot, resource):
        if selects(labels, workload.labels):
            yield workload


def nobody_selected(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """Warnings on resources that are for no workload, once there are workloads."""
    if not snapshot.workloads:
        return
    for resource in (
        *snapshot.authorization_policies,
        *snapshot.peer_authentications,
        *snapshot.request_authentications,
        *snapshot.rate_limits,
        *snapshot.telemetries,
    ):
        selector = resource.spec.selector
        if selector is None or not selector.match_labels or any(selected(snapshot, resource)):
            continue
        shown = ", ".join(f"{name}: {value}" for name, value in sorted(selector.match_labels.items()))
        message = f"no workload has the labels {shown}, so this holds for none"
        yield warning("selects-nobody", message, resource.origin_at("spec.selector"), _nearest(snapshot, resource))


def _in_reach(snapshot: MeshSnapshot, resource: Resource) -> Iterator[Workload]:
    own = resource.key.namespace
    for workload in snapshot.workloads.values():
        if own in (workload.namespace, snapshot.settings.root_namespace):
            yield workload


def _nearest(snapshot: MeshSnapshot, resource: Resource) -> str:
    there = sorted({label for one in _in_reach(snapshot, resource) for label in one.labels})
    for name, value in sorted(resource.spec.selector.match_labels.items()):
        near = difflib.get_close_matches(value, [known for other, known in there if other == name], 1)
        if near and near[0] != value:
            return f"did you mean {name}: {near[0]}?"
    return f"correct the labels, or the namespace, which is {resource.key.namespace}"
