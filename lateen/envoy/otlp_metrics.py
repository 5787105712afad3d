"""A proxy's metrics as a message of OTLP.

Comes in: the Prometheus text of a proxy, and since when each series is counted. Goes out: export requests, encoded.
Pure. Every value is what a series has come to since it began, so nothing is lost where a message is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

SCOPE = "lateen"
MOST_POINTS = 2000
"""In one message, so that it is not too long for a collector."""
PREFIX = "envoy_"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_SUFFIXES = ("_bucket", "_sum", "_count")

Labels = tuple[tuple[str, str], ...]
Begun = MutableMapping[tuple[str, Labels], tuple[int, float]]
"""By series: when it began (nanoseconds), and what it had come to when it was last looked at."""


class _Point:
    """One series of a histogram or a counter."""

    def __init__(self) -> None:
        self.value = 0.0
        self.sum = 0.0
        self.buckets: list[tuple[float, float]] = []


def export_requests(text: str, resource: Mapping[str, str], begun: Begun, now: int) -> Iterator[bytes]:
    """Messages of all counters and histograms of a text. ``begun`` is brought up to date."""
    kinds, series = _read(text)
    for known in begun.keys() - {(name, labels) for name, found in series.items() for labels in found}:
        del begun[known]
    message, points = _message(resource), 0
    for name, found in series.items():
        metric = _metric(message, name, kinds[name])
        for labels, point in found.items():
            if points == MOST_POINTS:
                yield message.SerializeToString()
                message, points = _message(resource), 0
                metric = _metric(message, name, kinds[name])
            _add(metric, kinds[name], labels, point, _since(begun, name, labels, point.value, now), now)
            points += 1
    if points:
        yield message.SerializeToString()


def _read(text: str) -> tuple[dict[str, str], dict[str, dict[Labels, _Point]]]:
    kinds: dict[str, str] = {}
    series: dict[str, dict[Labels, _Point]] = {}
    for line in text.split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            if kind in ("counter", "histogram"):
                kinds[name.removeprefix(PREFIX)] = kind
            continue
        head, _, value = line.rpartition(" ")
        full, _, rest = head.partition("{")
        full = full.removeprefix(PREFIX)
        suffix = next((one for one in _SUFFIXES if kinds.get(full.removesuffix(one)) == "histogram"), "")
        name = full.removesuffix(suffix) if suffix else full
        if name not in kinds:
            continue
        pairs = [(key, _unescaped(text)) for key, text in _LABEL.findall(rest)]
        labels = tuple(sorted((key, text) for key, text in pairs if not (suffix == "_bucket" and key == "le")))
        point = series.setdefault(name, {}).setdefault(labels, _Point())
        if suffix == "_bucket":
            point.buckets.append((float(dict(pairs)["le"]), float(value)))
        elif suffix == "_sum":
            point.sum = float(value)
        else:
            point.value = float(value)
    return kinds, series


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _since(begun: Begun, name: str, labels: Labels, value: float, now: int) -> int:
    """A series that has fallen began anew: its proxy did, or it was dropped in between."""
    start, before = begun.get((name, labels), (now, 0.0))
    if value < before:
        start = now
    begun[name, labels] = (start, value)
    return start


def _message(resource: Mapping[str, str]) -> Any:
    message = metrics_service_pb2.ExportMetricsServiceRequest()
    found = message.resource_metrics.add()
    found.resource.attributes.extend(_attributes(resource))
    found.instrumentation_library_metrics.add().instrumentation_library.name = SCOPE
    return message


def _metric(message: Any, name: str, kind: str) -> Any:
    metric = message.resource_metrics[0].instrumentation_library_metrics[0].metrics.add(name=name)
    cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    if kind == "counter":
        metric.sum.aggregation_temporality, metric.sum.is_monotonic = cumulative, True
    else:
        metric.histogram.aggregation_temporality = cumulative
        metric.unit = "ms" if name.endswith("_milliseconds") else "By"
    return metric


def _add(metric: Any, kind: str, labels: Labels, point: _Point, since: int, now: int) -> None:
    common = {"start_time_unix_nano": since, "time_unix_nano": now, "attributes": _attributes(dict(labels))}
    if kind == "counter":
        metric.sum.data_points.add(as_int=int(point.value), **common)
        return
    buckets = sorted(point.buckets)
    counts = [count for _, count in buckets]
    metric.histogram.data_points.add(
        count=int(point.value),
        sum=point.sum,
        explicit_bounds=[bound for bound, _ in buckets[:-1]],
        bucket_counts=[int(after - before) for before, after in zip([0.0, *counts], counts, strict=False)],
        **common,
    )


def _attributes(values: Mapping[str, str]) -> list[Any]:
    return [
        common_pb2.KeyValue(key=name, value=common_pb2.AnyValue(string_value=value))
        for name, value in sorted(values.items())
    ]
