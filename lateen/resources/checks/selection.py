"""Which workloads a resource is for: ``selector``, ``workloadSelector`` and ``targetRefs``, the same in many kinds."""

from __future__ import annotations

import re

from lateen.resources.base import LabelSelector, PolicyTargetReference, WorkloadSelector
from lateen.resources.checks import Report, check_selector

MAX_TARGETS = 16
TARGETS = frozenset(
    {
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
        ("networking.istio.io", "ServiceEntry"),
        ("", "Service"),
        ("core", "Service"),
    }
)
_KIND = re.compile(r"[a-zA-Z](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


def check_match_labels(report: Report, field: str, selector: WorkloadSelector | None) -> None:
    """``selector: {matchLabels}``."""
    if selector is not None:
        check_selector(report, f"{field}.matchLabels", selector.match_labels)


def check_label_selector(report: Report, field: str, selector: LabelSelector | None) -> None:
    """``workloadSelector: {labels}``."""
    if selector is not None:
        check_selector(report, f"{field}.labels", selector.labels)


def check_targets(
    report: Report,
    selector: object | None,
    target: PolicyTargetReference | None,
    targets: tuple[PolicyTargetReference, ...],
) -> None:
    """``targetRef`` and ``targetRefs``, of which, with the selector, only one can be given."""
    if sum((selector is not None, target is not None, bool(targets))) > 1:
        report.error("spec", "selector and targetRefs exclude each other", "keep one of them")
    if target is not None:
        _check_target(report, "spec.targetRef", target)
    if len(targets) > MAX_TARGETS:
        report.error("spec.targetRefs", f"there are more than {MAX_TARGETS} targets")
    for index, reference in enumerate(targets):
        _check_target(report, f"spec.targetRefs[{index}]", reference)


def _check_target(report: Report, field: str, target: PolicyTargetReference) -> None:
    if not target.name:
        report.error(field, "the target has no name", "give name", "missing-field")
    if target.namespace:
        report.error(f"{field}.namespace", "a target stands in the resource's own namespace", "leave namespace out")
    if not _KIND.fullmatch(target.kind):
        report.error(f"{field}.kind", f"{target.kind!r} is no kind", "such as Gateway")
    elif (target.group, target.kind) not in TARGETS:
        shown = f"{target.group}/{target.kind}" if target.group else target.kind
        message = f"{shown} cannot be a target"
        report.error(field, message, "use a Gateway (gateway.networking.k8s.io), a Service or a ServiceEntry")
