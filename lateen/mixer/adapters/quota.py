"""``memquota`` and ``redisquota``: how much is left of what is counted by name and dimensions.

Comes in: instances of the template quota. Goes out: what is granted. Amounts are counted in this process or in a Redis
that several share, by the same code as limits of rates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import msgspec

from lateen.mixer.adapter import NOT_FOUND, QuotaAdapter, QuotaArgs, QuotaResult
from lateen.mixer.adapters.texts import text
from lateen.mixer.counters import Asked, Counter
from lateen.mixer.templates import Instance, Quota
from lateen.mixer.windows import Window


class Override(msgspec.Struct, frozen=True):
    """Another window for instances that have these dimensions, as texts."""

    dimensions: Mapping[str, str]
    window: Window


class QuotaLimit(msgspec.Struct, frozen=True):
    """The window of a quota; the first override that fits takes its place."""

    window: Window
    overrides: tuple[Override, ...] = ()

    def window_of(self, dimensions: Mapping[str, str]) -> tuple[int, Window]:
        """Which of them holds (0: its own), and the window."""
        for number, override in enumerate(self.overrides, 1):
            if all(dimensions.get(name) == value for name, value in override.dimensions.items()):
                return number, override.window
        return 0, self.window


class QuotaCounter(QuotaAdapter):
    """``limit`` finds the limit of an instance by its name; ``key`` sets this handler's counts apart from others'."""

    templates = frozenset({"quota"})

    def __init__(self, key: str, limit: Callable[[str], QuotaLimit | None], counter: Counter) -> None:
        self._key, self._limit, self._counter = key, limit, counter

    async def allot(self, instance: Instance, args: QuotaArgs) -> QuotaResult:
        """Raises CounterError where it is not known what is left."""
        limit = self._limit(instance.name)
        if limit is None:
            return QuotaResult(0, 0.0, NOT_FOUND, f"there is no limit for {instance.name}")
        told = instance.dimensions if isinstance(instance, Quota) else {}
        dimensions = {name: text(value) for name, value in sorted(told.items())}
        number, window = limit.window_of(dimensions)
        key = json.dumps([self._key, instance.name, number, dimensions], separators=(",", ":"))
        asked = Asked(key, window, args.amount, args.best_effort, args.deduplication_id)
        (grant,) = await self._counter.take([asked])
        return QuotaResult(grant.granted, 0.0)

    async def close(self) -> None:
        await self._counter.close()
