"""A circuit breaker: after some failures in a row its handler is not called for a while. Pure; time comes in.

The pause doubles with each try that fails, up to a bound. One call is let through at the end of a pause, as a try.
"""

from __future__ import annotations

FAILURES = 5
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Breaker:
    """``allows`` before a call, then ``succeed`` or ``fail``. ``now`` is a time that only grows, in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._failures >= FAILURES

    def allows(self, now: float) -> bool:
        """Whether a call may be made; the one after a pause is the try, and others wait for how it ends."""
        if not self.is_open:
            return True
        if now < self._until or self._trying:
            return False
        self._trying = True
        return True

    def succeed(self) -> None:
        """The call went well."""
        self._failures, self._pause, self._trying = 0, FIRST_PAUSE, False

    def fail(self, now: float) -> None:
        """It did not."""
        self._failures += 1
        if self._trying:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if self.is_open:
            self._until = now + self._pause
        self._trying = False
