"""Metrics that are counted here, for whoever sends or shows them.

Comes in: instances of ``metric``. Goes out: series by the texts of their labels. The number of series of a metric is
bounded; series that nothing happens to can be forgotten.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import msgspec
import re2

from lateen.mixer.adapters.texts import ByInstance, number, text
from lateen.mixer.templates import Metric

MOST_SERIES = 10_000
"""Of one metric."""
COUNTER, GAUGE, DISTRIBUTION = "COUNTER", "GAUGE", "DISTRIBUTION"
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NOT_IN_NAMES = re2.compile(r"[^a-zA-Z0-9_:]")


def linear(count: int, width: float, offset: float) -> tuple[float, ...]:
    """The upper bounds of ``count`` finite buckets, as Mixer had them: one more, the first at the offset."""
    return tuple(offset + width * index for index in range(count + 1))


def exponential(count: int, growth: float, scale: float) -> tuple[float, ...]:
    """The upper bounds of ``count`` finite buckets, as Mixer had them: one more, the first at the scale."""
    return tuple(scale * growth**index for index in range(count + 1))


class MetricKind(msgspec.Struct, frozen=True):
    """One metric. ``instance``: whose instances count; ``buckets``: upper bounds of a distribution, in order."""

    name: str
    instance: str
    kind: str = COUNTER
    description: str = ""
    namespace: str = "istio"
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = DEFAULT_BUCKETS

    @property
    def full_name(self) -> str:
        """As it is scraped."""
        found = NOT_IN_NAMES.sub("_", f"{self.namespace or 'istio'}_{self.name}")
        return f"_{found}" if found[0].isdigit() else found


class Series:
    """What was counted with the same labels. ``counts`` are a distribution's, by its bounds and beyond the last."""

    __slots__ = ("counts", "touched", "value")

    def __init__(self, buckets: int) -> None:
        self.value: float | int = 0
        self.counts = [0] * buckets
        self.touched = 0.0


class CountedMetric:
    """All series of one metric. ``bounds`` of a distribution, in order."""

    def __init__(self, kind: MetricKind) -> None:
        self.kind = kind
        self.bounds = sorted(kind.buckets) if kind.kind == DISTRIBUTION else []
        self.series: dict[tuple[str, ...], Series] = {}

    def take(self, instance: Metric, now: float) -> bool:
        """Whether there is room for it."""
        value = number(instance.value)
        key = tuple(text(instance.dimensions.get(label)) for label in self.kind.labels)
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= MOST_SERIES:
                return False
            found = self.series[key] = Series(len(self.bounds) + 1 if self.kind.kind == DISTRIBUTION else 0)
        found.touched = now
        if self.kind.kind == GAUGE:
            found.value = value
        elif self.kind.kind == COUNTER:
            if value < 0:
                raise ValueError(f"{instance.name}: a counter cannot fall, and {value} is below 0")
            found.value += value
        else:
            found.value += value
            found.counts[bisect.bisect_left(self.bounds, value)] += 1
        return True

    def forget(self, before: float) -> None:
        """Let go of series that nothing has happened to since then."""
        for key in [key for key, series in self.series.items() if series.touched < before]:
            del self.series[key]


class Counted:
    """Several metrics, by the instances that count. ``lost``: what there was no room for."""

    def __init__(self, kinds: Iterable[MetricKind]) -> None:
        self.metrics = [CountedMetric(kind) for kind in kinds]
        by_instance: dict[str, list[CountedMetric]] = {}
        for metric in self.metrics:
            by_instance.setdefault(metric.kind.instance, []).append(metric)
        self._by_instance = ByInstance(by_instance)
        self.lost = 0

    def take(self, instance: Metric, now: float) -> None:
        """Raises ValueError for a value that cannot be counted."""
        for metric in self._by_instance.find(instance.name) or ():
            if not metric.take(instance, now):
                self.lost += 1

    def forget(self, before: float) -> None:
        """Let go of series that nothing has happened to since then."""
        for metric in self.metrics:
            metric.forget(before)
