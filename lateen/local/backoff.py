"""Restart back-off: how long to wait before a process that ended is started again. Pure."""

from __future__ import annotations

import msgspec

FIRST_S = 0.1
MAX_S = 10.0
STABLE_S = 10.0


class Backoff(msgspec.Struct, frozen=True):
    """How many times in a row something ended soon after its start."""

    failures: int = 0

    def after_exit(self, ran_s: float) -> Backoff:
        """The back-off after a run of ``ran_s`` seconds: what ran for a while begins anew."""
        return Backoff(1 if ran_s >= max(STABLE_S, 2 * self.delay) else self.failures + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait: 0.1, 0.2, 0.4 ... at most 10."""
        return 0.0 if not self.failures else min(MAX_S, FIRST_S * 2.0 ** min(self.failures - 1, 20))
