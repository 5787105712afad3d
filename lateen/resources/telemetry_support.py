"""Which fields and values of a Telemetry resource Lateen does not do yet.

Comes in: a decoded resource. Goes out: the paths of what is refused, what it is, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.resources.telemetry import METRIC_NAMES, Metrics, TelemetrySpec, metric_called

METRICS_PROVIDER = "prometheus"
LOG_PROVIDER = "envoy"
END = ")%"
TELEMETRY_FIELDS = frozenset(
    {
        "targetRef",
        "targetRefs",
    }
)

Unusable = tuple[str, str, str]


def unusable_telemetry(spec: TelemetrySpec) -> Iterator[Unusable]:
    """Path, what is there, and the remedy, for each value that has no effect yet."""
    for index, metrics in enumerate(spec.metrics):
        yield from _metrics(f"spec.metrics[{index}]", metrics)


def _metrics(place: str, metrics: Metrics) -> Iterator[Unusable]:
    for index, override in enumerate(metrics.overrides):
        field = f"{place}.overrides[{index}]"
        custom = override.match.custom_metric if override.match is not None else None
        if custom and metric_called(custom) is None:
            yield f"{field}.match.customMetric", f"a metric {custom}", f"name one of {', '.join(METRIC_NAMES.values())}"
        for name, tag in override.tag_overrides.items():
            if END in tag.value:
                what = f"{END} in an expression, which Envoy takes for its end,"
                yield f"{field}.tagOverrides.{name}.value", what, "write a space between the two"
