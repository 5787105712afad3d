"""``prometheus``: metrics that are counted here and scraped by Prometheus.

Comes in: instances of ``metric``. Goes out: the text that Prometheus reads (``exposition``). The number of series of a
metric is bounded; what would be one more is counted as lost. Series that nothing happens to expire, where told so.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
import re2

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.texts import ByInstance, number, text
from lateen.mixer.templates import Instance, Metric

MOST_SERIES = 10_000
"""Of one metric."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTER, GAUGE, DISTRIBUTION = "COUNTER", "GAUGE", "DISTRIBUTION"
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TYPES = {COUNTER: "counter", GAUGE: "gauge", DISTRIBUTION: "histogram"}
_NOT_IN_NAMES = re2.compile(r"[^a-zA-Z0-9_:]")


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
        found = _NOT_IN_NAMES.sub("_", f"{self.namespace or 'istio'}_{self.name}")
        return f"_{found}" if found[0].isdigit() else found


class _Series:
    __slots__ = ("counts", "touched", "value")

    def __init__(self, buckets: int) -> None:
        self.value: float | int = 0
        self.counts = [0] * buckets
        self.touched = 0.0


class _Metric:
    def __init__(self, kind: MetricKind) -> None:
        self.kind = kind
        self.bounds = sorted(kind.buckets) if kind.kind == DISTRIBUTION else []
        self.series: dict[tuple[str, ...], _Series] = {}

    def take(self, instance: Metric, now: float) -> bool:
        """Whether there is room for it."""
        value = number(instance.value)
        key = tuple(text(instance.dimensions.get(label)) for label in self.kind.labels)
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= MOST_SERIES:
                return False
            found = self.series[key] = _Series(len(self.bounds) + 1 if self.kind.kind == DISTRIBUTION else 0)
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

    def lines(self) -> Iterable[str]:
        name = self.kind.full_name
        yield f"# HELP {name} {_escaped(self.kind.description or self.kind.name, quote=False)}"
        yield f"# TYPE {name} {_TYPES[self.kind.kind]}"
        labels = [_NOT_IN_NAMES.sub("_", label).replace(":", "_") for label in self.kind.labels]
        for key, series in self.series.items():
            pairs = [f'{label}="{_escaped(value)}"' for label, value in zip(labels, key, strict=True)]
            if self.kind.kind == DISTRIBUTION:
                yield from self._histogram(name, pairs, series)
            else:
                yield f"{name}{_braced(pairs)} {series.value!r}"

    def _histogram(self, name: str, pairs: list[str], series: _Series) -> Iterable[str]:
        total = 0
        for bound, count in zip([*(f"{one:.15g}" for one in self.bounds), "+Inf"], series.counts, strict=True):
            total += count
            below = f'le="{bound}"'
            yield f"{name}_bucket{_braced([*pairs, below])} {total}"
        yield f"{name}_sum{_braced(pairs)} {series.value!r}"
        yield f"{name}_count{_braced(pairs)} {total}"


class Prometheus(ReportAdapter):
    """``expiry`` is seconds after which a series that nothing happened to goes (None: it stays)."""

    templates = frozenset({"metric"})

    def __init__(
        self,
        metrics: Iterable[MetricKind],
        *,
        expiry: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = [_Metric(kind) for kind in metrics]
        by_instance: dict[str, list[_Metric]] = {}
        for metric in self._metrics:
            by_instance.setdefault(metric.kind.instance, []).append(metric)
        self._by_instance = ByInstance(by_instance)
        self._expiry = expiry
        self._clock = clock
        self.lost = 0

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        now = self._clock()
        for instance in instances:
            if not isinstance(instance, Metric):
                raise TypeError(f"prometheus takes no {type(instance).__name__}")
            for metric in self._by_instance.find(instance.name) or ():
                if not metric.take(instance, now):
                    self.lost += 1

    def exposition(self) -> str:
        """All series that have not expired."""
        self._forget()
        return "".join(f"{line}\n" for metric in self._metrics if metric.series for line in metric.lines())

    def _forget(self) -> None:
        if self._expiry is None:
            return
        oldest = self._clock() - self._expiry
        for metric in self._metrics:
            for key in [key for key, series in metric.series.items() if series.touched < oldest]:
                del metric.series[key]


def _braced(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str, *, quote: bool = True) -> str:
    found = value.replace("\\", "\\\\").replace("\n", "\\n")
    return found.replace('"', '\\"') if quote else found
