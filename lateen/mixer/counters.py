"""Where amounts are counted: in this process, or (``redis_quota``) in a Redis that several share.

Comes in: what is asked for, by key. Goes out: grants. Both are asked in the same way.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from lateen.mixer.windows import EMPTY, Grant, Remembered, State, Window, idle_after, take

MAX_KEYS = 100_000
SWEPT_AT_ONCE = 4


class Asked(msgspec.Struct, frozen=True):
    """An amount that is asked for. ``deduplication_id``: the same id within the counter's time is charged once."""

    key: str
    window: Window
    amount: int = 1
    best_effort: bool = False
    deduplication_id: str = ""


class CounterError(Exception):
    """It could not be counted; the text says why."""


class Counter(Protocol):
    """Counts amounts."""

    async def take(self, asked: Sequence[Asked]) -> list[Grant]:
        """A grant for each, in order. Raises CounterError where it is not known in time."""

    async def close(self) -> None:
        """Let go of what it holds."""


class MemoryCounter:
    """Counts in this process. ``max_keys``: of more keys those are forgotten that were not asked for the longest."""

    def __init__(
        self,
        *,
        deduplication: float = 1.0,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states: OrderedDict[str, tuple[State, float]] = OrderedDict()
        self._remembered = Remembered(deduplication)
        self._max_keys = max_keys
        self._clock = clock
        self.forgotten = 0

    async def take(self, asked: Sequence[Asked]) -> list[Grant]:
        """A grant for each, in order."""
        now = self._clock()
        return [self._take(one, now) for one in asked]

    async def close(self) -> None:
        """There is nothing to let go of."""

    def __len__(self) -> int:
        return len(self._states)

    def _take(self, one: Asked, now: float) -> Grant:
        asked_as = f"{one.key}\0{one.deduplication_id}"
        known = self._remembered.find(asked_as, now) if one.deduplication_id else None
        if known is not None:
            return known
        state = self._states.pop(one.key, (EMPTY, 0.0))[0]
        state, grant = take(one.window, state, one.amount, now, best_effort=one.best_effort)
        self._states[one.key] = (state, now + idle_after(one.window))
        if one.deduplication_id:
            self._remembered.keep(asked_as, grant, now)
        self._sweep(now)
        return grant

    def _sweep(self, now: float) -> None:
        """Forget a few of the oldest that are full again anyway, and what there is no room for."""
        for _ in range(SWEPT_AT_ONCE):
            oldest = next(iter(self._states))
            if self._states[oldest][1] > now:
                break
            del self._states[oldest]
            if not self._states:
                return
        while len(self._states) > self._max_keys:
            self._states.popitem(last=False)
            self.forgotten += 1
