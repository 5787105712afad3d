"""``prometheus``: metrics that are counted here and scraped by Prometheus.

Comes in: instances of ``metric``. Goes out: the text that Prometheus reads (``exposition``). What there is no room for
is counted as lost. Series that nothing happens to expire, where told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.counted import (
    COUNTER,
    DISTRIBUTION,
    GAUGE,
    Counted,
    CountedMetric,
    MetricKind,
    Series,
)
from lateen.mixer.templates import Instance, Metric
from lateen.values.prometheus_label import as_label

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WHOSE = "app"
"""The label by which the merged page says whose these metrics are; a metric's own is renamed as Prometheus does it."""
_TYPES = {COUNTER: "counter", GAUGE: "gauge", DISTRIBUTION: "histogram"}


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
        self._counted = Counted(metrics)
        self._expiry = expiry
        self._clock = clock

    @property
    def lost(self) -> int:  # type: ignore[override]
        """How many instances there was no room for."""
        return self._counted.lost

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        now = self._clock()
        for instance in instances:
            if not isinstance(instance, Metric):
                raise TypeError(f"prometheus takes no {type(instance).__name__}")
            self._counted.take(instance, now)

    def exposition(self) -> str:
        """All series that have not expired."""
        if self._expiry is not None:
            self._counted.forget(self._clock() - self._expiry)
        return "".join(f"{line}\n" for metric in self._counted.metrics if metric.series for line in _lines(metric))


def _lines(metric: CountedMetric) -> Iterable[str]:
    name = metric.kind.full_name
    yield f"# HELP {name} {_escaped(metric.kind.description or metric.kind.name, quote=False)}"
    yield f"# TYPE {name} {_TYPES[metric.kind.kind]}"
    labels = [f"exported_{label}" if label == WHOSE else label for label in map(as_label, metric.kind.labels)]
    for key, series in metric.series.items():
        pairs = [f'{label}="{_escaped(value)}"' for label, value in zip(labels, key, strict=True)]
        if metric.kind.kind == DISTRIBUTION:
            yield from _histogram(metric, name, pairs, series)
        else:
            yield f"{name}{_braced(pairs)} {series.value!r}"


def _histogram(metric: CountedMetric, name: str, pairs: list[str], series: Series) -> Iterable[str]:
    total = 0
    for bound, count in zip([*(f"{one:.15g}" for one in metric.bounds), "+Inf"], series.counts, strict=True):
        total += count
        below = f'le="{bound}"'
        yield f"{name}_bucket{_braced([*pairs, below])} {total}"
    yield f"{name}_sum{_braced(pairs)} {series.value!r}"
    yield f"{name}_count{_braced(pairs)} {total}"


def _braced(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str, *, quote: bool = True) -> str:
    found = value.replace("\\", "\\\\").replace("\n", "\\n")
    return found.replace('"', '\\"') if quote else found
