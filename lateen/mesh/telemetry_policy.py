"""What Telemetry resources say of one workload, for the client's or the server's side of it.

Comes in: the snapshot, a workload's namespace and labels. Goes out: changes of metrics, and whether and what is logged.

Three levels, each of them one resource: the root namespace, the workload's namespace, and what selects the workload,
in its namespace or else in the root one.
The oldest of a level holds. Changes of metrics add up from the first level to the last. A level that names providers of
access logs leaves no other; an entry that names none is about those that stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from lateen.findings import Finding, warning
from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.visibility import selects
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.resource import Resource
from lateen.resources.telemetry import METRICS, AccessLogging, MetricsOverride, TelemetrySpec, metric_called
from lateen.resources.telemetry_support import LOG_PROVIDER, METRICS_PROVIDER
from lateen.values.expression import without_string

CLIENT = "CLIENT"
SERVER = "SERVER"


class MetricChange(msgspec.Struct, frozen=True):
    """What is different about one metric: ``labels`` maps names to CEL expressions, or to None for one left out."""

    metric: str
    disabled: bool = False
    labels: tuple[tuple[str, str | None], ...] = ()


class LogPolicy(msgspec.Struct, frozen=True):
    """Who writes a log, and the CEL expression that its entries have to meet (empty for all)."""

    provider: str
    expression: str = ""
    enabled: bool = True


def metric_changes(snapshot: MeshSnapshot, namespace: str, labels: Labels, mode: str) -> tuple[MetricChange, ...]:
    """The metrics that are not as they are by themselves, in the order of Istio's enumeration."""
    disabled: dict[str, bool] = {}
    tags: dict[str, dict[str, str | None]] = {}
    for override in _overrides(snapshot, namespace, labels, mode):
        for metric in _metrics_of(override):
            if override.disabled is not None:
                disabled[metric] = override.disabled
            for name, tag in sorted(override.tag_overrides.items()):
                tags.setdefault(metric, {})[name] = None if tag.operation == "REMOVE" else without_string(tag.value)
    found = (
        MetricChange(metric, disabled.get(metric, False), tuple(sorted(tags.get(metric, {}).items())))
        for metric in METRICS
    )
    return tuple(change for change in found if change.disabled or change.labels)


def metric_providers(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[str, ...]:
    """Who is told of a workload's metrics: a level that names some leaves no others."""
    config = snapshot.mesh_config.default_providers
    found = tuple(dict.fromkeys(config.metrics)) if config is not None else ()
    for resource in holding(snapshot, namespace, labels):
        named = [provider.name for entry in resource.spec.metrics for provider in entry.providers]
        found = tuple(dict.fromkeys(named)) or found
    return found or (METRICS_PROVIDER,)


def reporting_interval(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> float | None:
    """How often bytes of connections are counted while these go on, in seconds; None: at their end. What is nearest to
    the workload holds."""
    told = frozenset(metric_providers(snapshot, namespace, labels))
    found = None
    for resource in holding(snapshot, namespace, labels):
        for entry in resource.spec.metrics:
            named = {provider.name for provider in entry.providers}
            if entry.reporting_interval is not None and (not named or named & told):
                found = float(entry.reporting_interval)
    return found


def log_policies(snapshot: MeshSnapshot, namespace: str, labels: Labels, mode: str) -> tuple[LogPolicy, ...]:
    """The logs that a workload writes of one side."""
    logs = {name: LogPolicy(name) for name in _usual_logs(snapshot.mesh_config)}
    for resource in holding(snapshot, namespace, labels):
        entries = [
            entry for entry in resource.spec.access_logging if entry.match is None or is_for(entry.match.mode, mode)
        ]
        named = dict.fromkeys(provider.name for entry in entries for provider in entry.providers)
        meant = tuple(logs)
        if named:
            logs = {name: LogPolicy(name) for name in named}
        for entry in entries:
            meant = tuple(provider.name for provider in entry.providers) or meant
            for name in meant:
                if name in logs:
                    logs[name] = _changed(logs[name], entry)
    return tuple(log for log in logs.values() if log.enabled)


def _changed(log: LogPolicy, entry: AccessLogging) -> LogPolicy:
    """The filter stays that of the entry that names the provider, unless this one has its own."""
    expression = "" if entry.providers else log.expression
    if entry.filter is not None:
        expression = entry.filter.expression
    return LogPolicy(log.provider, expression, not entry.disabled)


def overruled(resources: Iterable[Resource]) -> Iterator[Finding]:
    """Warnings on resources for a whole namespace beside an older one."""
    first: dict[str, Resource] = {}
    for resource in resources:
        if resource.spec.selector is not None and resource.spec.selector.match_labels:
            continue
        older = first.setdefault(resource.key.namespace, resource)
        if older is not resource:
            message = f"Telemetry {older.key.name} already holds for the whole namespace {resource.key.namespace}"
            origin = resource.origin_at("metadata.name")
            yield warning("overruled", message, origin, "make them one, or give a selector")


def _usual_logs(config: MeshConfigSpec) -> tuple[str, ...]:
    named = config.default_providers.access_logging if config.default_providers is not None else ()
    return tuple(dict.fromkeys(named)) or (LOG_PROVIDER,)


def _overrides(snapshot: MeshSnapshot, namespace: str, labels: Labels, mode: str) -> Iterator[MetricsOverride]:
    told = frozenset(metric_providers(snapshot, namespace, labels))
    for resource in holding(snapshot, namespace, labels):
        for metrics in resource.spec.metrics:
            named = {provider.name for provider in metrics.providers}
            for override in metrics.overrides if not named or named & told else ():
                if override.match is None or is_for(override.match.mode, mode):
                    yield override


def _metrics_of(override: MetricsOverride) -> tuple[str, ...]:
    if override.match is not None and override.match.custom_metric:
        called = metric_called(override.match.custom_metric)
        return () if called is None else (called,)
    metric = override.match.metric if override.match is not None else None
    return METRICS if metric in (None, "ALL_METRICS") else (metric,)


def is_for(wanted: str | None, mode: str) -> bool:
    """Whether an entry for ``wanted`` (None: both) holds for a side, CLIENT or SERVER."""
    return wanted in (None, "CLIENT_AND_SERVER", mode)


def holding(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> list[Resource]:
    """One for each level that there is, the widest first. What selects in the root namespace does so in all, where
    nothing in the workload's own does."""
    root = snapshot.settings.root_namespace
    levels: dict[str, Resource] = {}
    chosen: dict[str, Resource] = {}
    for resource in snapshot.telemetries:
        spec: TelemetrySpec = resource.spec
        own = resource.key.namespace
        selector = spec.selector.match_labels if spec.selector is not None else {}
        if selector and own in (root, namespace) and selects(selector, labels):
            chosen.setdefault(own, resource)
        elif not selector and own in (root, namespace):
            levels.setdefault("mesh" if own == root else "namespace", resource)
    for own in (namespace, root):
        if own in chosen:
            levels.setdefault("workload", chosen[own])
    return [levels[level] for level in ("mesh", "namespace", "workload") if level in levels]
