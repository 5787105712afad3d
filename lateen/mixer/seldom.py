"""When to log what goes wrong many times a second: for each kind of problem, once in a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

EVERY_S = 5.0


class Seldom:
    """``kind`` is one of a few words, never something of a request: each is remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}

    def may(self, kind: str) -> bool:
        """Whether it has not been said for a while; then it is said now."""
        now = self._clock()
        if now - self._last.get(kind, -math.inf) < EVERY_S:
            return False
        self._last[kind] = now
        return True
