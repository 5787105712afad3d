"""``statsd`` and ``dogstatsd``: metrics as datagrams of their line protocol.

Comes in: instances of ``metric``. Goes out: ``PREFIX.NAME:VALUE|TYPE|@RATE``, with ``|#TAG:VALUE,...`` for dogstatsd.
Values of requests cannot break out of their place in a line.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec
import re2

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.outbox import Outbox
from lateen.mixer.adapters.texts import ByInstance, number, text
from lateen.mixer.adapters.udp import Datagrams
from lateen.mixer.templates import Instance, Metric, Value

LONGEST_WAIT = 10_000
"""How many lines may wait."""
PACKET = 1400
COUNTER, GAUGE, DISTRIBUTION = "COUNTER", "GAUGE", "DISTRIBUTION"
_PLACEHOLDER = re2.compile(r"\{\{\s*\.([A-Za-z0-9_]+)\s*\}\}")
_UNSAFE = str.maketrans(dict.fromkeys(":|@#,\n\r", "_"))


class StatsdMetric(msgspec.Struct, frozen=True):
    """``name`` may hold ``{{.DIMENSION}}``; empty: the instance's name."""

    kind: str = COUNTER
    name: str = ""
    tags: Mapping[str, str] = {}


class Lines(ReportAdapter):
    """What both have in common. ``rate``: the share of reports that is sent.

    ``packet`` is the longest datagram in bytes, ``least`` how many bytes a line takes up of it at the least.
    """

    templates = frozenset({"metric"})

    def __init__(
        self,
        address: str,
        metrics: Mapping[str, StatsdMetric],
        *,
        prefix: str,
        rate: float,
        interval: float,
        packet: int,
        name: str,
        least: int = 1,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._least = least
        self._metrics = ByInstance(metrics)
        self._prefix = prefix
        self._rate = rate
        self._chance = chance
        self._socket = Datagrams(address)
        self._out: Outbox[bytes] = Outbox(self._send, name=name, interval=interval, batch=packet, longest=LONGEST_WAIT)

    @property
    def lost(self) -> int:  # type: ignore[override]
        """How many lines did not go."""
        return self._out.lost

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if not isinstance(instance, Metric):
                raise TypeError(f"statsd takes no {type(instance).__name__}")
            if self._rate < 1 and self._chance() >= self._rate:
                continue
            metric = self._metrics.find(instance.name)
            if metric is not None:
                line = self._line(metric, instance).encode()
                self._out.put(line, max(len(line) + 1, self._least))

    async def close(self) -> None:
        try:
            await self._out.close()
        finally:
            self._socket.close()

    async def _send(self, lines: Sequence[bytes]) -> None:
        await self._socket.send(b"\n".join(lines))

    def _line(self, metric: StatsdMetric, instance: Metric) -> str:
        sampled = f"|@{self._rate:g}" if self._rate < 1 else ""
        name = self._prefix + self._name(metric, instance)
        return f"{name}:{self._value(metric.kind, instance.value)}{sampled}{self._tags(metric, instance)}"

    def _name(self, metric: StatsdMetric, instance: Metric) -> str:
        if not metric.name:
            return instance.name.partition(".")[0]
        return str(_PLACEHOLDER.sub(lambda found: safe(instance.dimensions.get(found.group(1))), metric.name))

    def _value(self, kind: str, value: Value) -> str:
        if kind == DISTRIBUTION:
            if isinstance(value, datetime.timedelta):
                return f"{value.total_seconds() * 1000:.15g}|ms"
            return f"{number(value):.15g}|{self.distribution}"
        return f"{number(value):.15g}|{'g' if kind == GAUGE else 'c'}"

    distribution = "ms"

    def _tags(self, metric: StatsdMetric, instance: Metric) -> str:
        return ""


class Statsd(Lines):
    """``prefix`` goes before names with a dot. A datagram goes after ``flush`` seconds, or before it is too long."""

    def __init__(
        self,
        address: str,
        metrics: Mapping[str, StatsdMetric],
        *,
        prefix: str = "",
        flush: float = 0.3,
        packet: int = 512,
        rate: float = 1.0,
        name: str = "statsd",
        chance: Callable[[], float] = random.random,
    ) -> None:
        dotted = f"{prefix}." if prefix and not prefix.endswith(".") else prefix
        super().__init__(
            address,
            metrics,
            prefix=dotted,
            rate=rate,
            interval=max(flush, 0.001),
            packet=packet or 512,
            name=name,
            chance=chance,
        )


class DogStatsd(Lines):
    """``tags`` are everybody's. ``buffer``: how many lines may share a datagram (0: none)."""

    distribution = "h"

    def __init__(
        self,
        address: str,
        metrics: Mapping[str, StatsdMetric],
        *,
        prefix: str = "istio.",
        tags: Mapping[str, str] | None = None,
        buffer: int = 0,
        rate: float = 1.0,
        name: str = "dogstatsd",
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._everybody = dict(tags or {})
        super().__init__(
            address,
            metrics,
            prefix=prefix,
            rate=rate,
            interval=0.1,
            packet=PACKET,
            name=name,
            least=-(-PACKET // max(buffer, 1)),
            chance=chance,
        )

    def _tags(self, metric: StatsdMetric, instance: Metric) -> str:
        tags = {**self._everybody, **metric.tags, **{name: text(value) for name, value in instance.dimensions.items()}}
        return "|#" + ",".join(f"{safe(name)}:{safe(value)}" for name, value in sorted(tags.items())) if tags else ""


def safe(value: Value) -> str:
    """The text without what would end its place in a line."""
    return text(value).translate(_UNSAFE)
