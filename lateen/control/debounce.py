"""Coalesces changes: acts after a short quiet time, and at the latest after a bounded delay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

QUIET_S = 0.005
LONGEST_S = 0.05


class Debounce:
    """Calls ``act`` once for many triggers that come close together. To be used within one event loop."""

    def __init__(self, act: Callable[[], None], quiet: float = QUIET_S, longest: float = LONGEST_S) -> None:
        self._act = act
        self._quiet, self._longest = quiet, longest
        self._timer: asyncio.TimerHandle | None = None
        self._first = 0.0

    @property
    def pending(self) -> bool:
        """Whether ``act`` is still to be called for a trigger."""
        return self._timer is not None

    def trigger(self) -> None:
        """Something changed."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._first = now
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + self._quiet, self._first + self._longest), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._act()
