"""What annotations mean to any kind: a few are the control plane's own, and dry-run belongs to AuthorizationPolicy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from lateen.resources.checks import Report
from lateen.resources.health_check import ANNOTATION, BadHealthCheck, parse_health_check
from lateen.resources.kubernetes import PREFERENCES, TRAFFIC_DISTRIBUTION
from lateen.resources.mixer.adapters import ADAPTERS, MemquotaParams
from lateen.resources.mixer.content import COUNTED_BY, MIXER, PROXY, HandlerContent, handler_content

DRY_RUN = "istio.io/dry-run"
RESERVED = (
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parents",
    "internal.istio.io/parent-namespace",
)
OWN_PREFIX = "lateen.io/"
OWN = (ANNOTATION, COUNTED_BY)
LONGEST_NAME = 253
_NAME = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_.~*:-]*")
"""Wider than Kubernetes has it, and without what could be taken for another part of a line of a log."""
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_BOOLEANS = FALSE | {"1", "t", "T", "TRUE", "true", "True"}


def is_dry_run(annotations: Mapping[str, str]) -> bool:
    """Whether a policy is only tried: what it would do is logged, and nothing is done."""
    return annotations.get(DRY_RUN, "false") not in FALSE


def check_metadata(report: Report) -> None:
    """Names that stand for nothing else, and annotations that no resource, or not this one, may have."""
    for field, name in (("name", report.resource.key.name), ("namespace", report.resource.key.namespace)):
        if name and (len(name) > LONGEST_NAME or not _NAME.fullmatch(name)):
            remedy = "write lower case letters, digits, '-' and '.', 253 characters at most"
            report.error(f"metadata.{field}", f"{name[:100]!r} is no {field}", remedy)
    annotations = report.resource.annotations
    for name in RESERVED:
        if name in annotations:
            report.error(f"metadata.annotations.{name}", f"the annotation {name} is reserved", "remove it")
    for name in annotations:
        if name.startswith(OWN_PREFIX) and name not in OWN:
            near = difflib.get_close_matches(name, OWN, n=1)
            remedy = f"write {near[0]}" if near else f"remove it; there are {' and '.join(OWN)}"
            report.warn(
                f"metadata.annotations.{name}", f"there is no annotation {name[:100]!r}", remedy, "without-effect"
            )
    _check_health_check(report)
    _check_counted_by(report)
    check_distribution(report, f"metadata.annotations.{TRAFFIC_DISTRIBUTION}", annotations.get(TRAFFIC_DISTRIBUTION))
    dry_run = annotations.get(DRY_RUN)
    if dry_run is None:
        return
    field = f"metadata.annotations.{DRY_RUN}"
    if report.resource.key.kind != "AuthorizationPolicy":
        report.error(field, f"{DRY_RUN} is for AuthorizationPolicy alone", "remove it")
        return
    if dry_run not in _BOOLEANS:
        report.error(field, f"{dry_run!r} is neither true nor false")
    if report.resource.spec.action not in (None, "ALLOW", "DENY"):
        report.error(field, f"{DRY_RUN} goes with ALLOW and DENY alone", "remove it")


def check_distribution(report: Report, field: str, value: str | None) -> None:
    """What a Service prefers; nodes are not known here."""
    if value == "PreferSameNode":
        report.note(field, "nodes are not known here, so the nearest zone is preferred", "", "without-effect")
    elif value not in (None, "", "Any", *PREFERENCES):
        report.error(field, f"{value!r} is no preference", f"write {', '.join(PREFERENCES)}")


def _check_counted_by(report: Report) -> None:
    said = report.resource.annotations.get(COUNTED_BY)
    if said is None:
        return
    field = f"metadata.annotations.{COUNTED_BY}"
    content = handler_content(report.resource) if report.resource.key.kind in ("handler", *ADAPTERS) else None
    if not isinstance(content, HandlerContent) or not isinstance(content.params, MemquotaParams):
        report.error(field, f"{COUNTED_BY} is for handlers of memquota alone", "remove it")
    elif said not in (PROXY, MIXER):
        report.error(field, f"{said!r} does not count", f"write {PROXY} or {MIXER}")


def _check_health_check(report: Report) -> None:
    text = report.resource.annotations.get(ANNOTATION)
    if text is None:
        return
    field = f"metadata.annotations.{ANNOTATION}"
    if report.resource.key.kind != "DestinationRule":
        report.error(field, f"{ANNOTATION} is for DestinationRule alone", "put it on the rule for the pool")
        return
    try:
        parse_health_check(text)
    except BadHealthCheck as problem:
        remedy = "write for instance {http: {path: /healthz}, interval: 5s, timeout: 1s}"
        report.error(field, f"this is not a health check: {problem.reason}", remedy)
