"""Who was turned away, for the log, but not as often as somebody likes to try.

Comes in: where a caller came from, at some time. Goes out: the line to log, or None. Anyone can be turned away, so the
log would be as long as a stranger wants it.
"""

from __future__ import annotations

SPAN_S = 10.0
MOST = 20
"""As many lines are written in a span; of the others the number is told later."""


class Complaints:
    """Counts within spans of time."""

    def __init__(self) -> None:
        self._began, self._seen = float("-inf"), 0

    def line(self, caller: str, now: float) -> str | None:
        """What to log of this caller at this time (Unix seconds)."""
        untold = 0
        if not 0 <= now - self._began < SPAN_S:
            untold = max(self._seen - MOST, 0)
            self._began, self._seen = now, 0
        self._seen += 1
        if self._seen > MOST:
            return None
        more = f" (nor had {untold} other callers before)" if untold else ""
        return f"no certificate for {caller}: it has not proved who it is{more}"
