"""The canonical service and revision of a workload: what telemetry groups workloads by.

Comes in: the name of a workload and its labels. Goes out: two names, as Istio finds them.
"""

from __future__ import annotations

from collections.abc import Mapping

_SERVICE = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
LATEST = "latest"


def canonical_names(workload: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Service and revision."""
    return _first(labels, _SERVICE) or workload, _first(labels, _REVISION) or LATEST


def special_names(workload: str, labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those of the two, under ``canonical_service`` and ``canonical_revision``, that app and version do not say."""
    service, revision = canonical_names(workload, labels)
    found = []
    if service != labels.get("app"):
        found.append(("canonical_service", service))
    if revision != labels.get("version"):
        found.append(("canonical_revision", revision))
    return tuple(found)


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
