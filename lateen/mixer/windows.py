"""How amounts are counted: fixed windows, rolling windows and token buckets, as values. Pure; time comes in.

Comes in: a window (what it allows), a state, an amount and the time in seconds. Goes out: the state after it, and what
was granted. ``redis_script`` does the same in Redis; a test holds the two to each other.
"""

from __future__ import annotations

import math

import msgspec


class FixedWindow(msgspec.Struct, frozen=True, tag=True):
    """At most ``most`` in each ``length`` seconds, counted from full lengths since the beginning of time.

    So twice as much may come around the end of a window. A length of 0: nothing is ever given back, but for what is
    released.
    """

    most: int
    length: float


class RollingWindow(msgspec.Struct, frozen=True, tag=True):
    """Never more than ``most`` in any ``length`` seconds. It counts ``slot`` seconds longer at most."""

    most: int
    length: float
    slot: float


class TokenBucket(msgspec.Struct, frozen=True, tag=True):
    """``burst`` at once, and ``refill`` in each ``interval`` seconds, which come back evenly."""

    burst: int
    refill: int
    interval: float


Window = FixedWindow | RollingWindow | TokenBucket


class State(msgspec.Struct, frozen=True):
    """How full a window is. ``at``: of which time or window ``used`` is; ``slots`` are those of a rolling window."""

    at: float = -math.inf
    used: float = 0
    slots: tuple[tuple[int, int], ...] = ()


EMPTY = State()


class Grant(msgspec.Struct, frozen=True):
    """How much was granted, how much is left, and in how many seconds there will be more (0: there is)."""

    granted: int
    left: int
    wait: float = 0.0


def limit_of(window: Window) -> int:
    """How much there is at once when nothing was taken."""
    return window.burst if isinstance(window, TokenBucket) else window.most


def take(window: Window, state: State, amount: int, now: float, *, best_effort: bool = False) -> tuple[State, Grant]:
    """Take an amount, all of it or, at best effort, what there is. A negative amount is given back."""
    if isinstance(window, TokenBucket):
        return _from_bucket(window, state, amount, now, best_effort)
    if isinstance(window, RollingWindow):
        return _from_slots(window, state, amount, now, best_effort)
    return _from_fixed(window, state, amount, now, best_effort)


def idle_after(window: Window) -> float:
    """After how many seconds without a request a state is as good as none; infinite where nothing comes back."""
    if isinstance(window, TokenBucket):
        return window.burst * window.interval / window.refill
    if isinstance(window, RollingWindow):
        return window.length + window.slot
    return window.length or math.inf


def _granted(amount: int, left: int, best_effort: bool) -> int:
    if amount <= left:
        return amount
    return max(left, 0) if best_effort else 0


# --- fixed -----------------------------------------------------------------------------------------------------------


def _from_fixed(window: FixedWindow, state: State, amount: int, now: float, best_effort: bool) -> tuple[State, Grant]:
    number = math.floor(now / window.length) if window.length else 0
    used = int(state.used) if state.at >= number else 0
    number = max(number, int(state.at)) if state.at > -math.inf else number
    granted = _granted(amount, window.most - used, best_effort)
    used = max(used + granted, 0)
    left = max(window.most - used, 0)
    end = (number + 1) * window.length - now if window.length else math.inf
    return State(number, used), Grant(granted, left, 0.0 if left else end)


# --- rolling ---------------------------------------------------------------------------------------------------------


def _from_slots(window: RollingWindow, state: State, amount: int, now: float, best_effort: bool) -> tuple[State, Grant]:
    """What was taken in a slot counts until the whole slot is older than the window."""
    current = math.floor(now / window.slot)
    if state.slots:
        current = max(current, state.slots[-1][0])  # a clock that went back gives nothing back
    oldest = math.floor((current * window.slot - window.length) / window.slot)
    slots = [(number, used) for number, used in state.slots if number >= oldest]
    used = sum(used for _, used in slots)
    granted = _granted(amount, window.most - used, best_effort)
    if granted < 0:
        slots = _released(slots, -granted)
    elif granted:
        slots = _added(slots, current, granted)
    left = max(window.most - sum(used for _, used in slots), 0)
    wait = 0.0
    if not left and slots:
        wait = max((slots[0][0] + 1) * window.slot + window.length - now, 0.0)
    return State(slots=tuple(slots)), Grant(granted, left, wait)


def _added(slots: list[tuple[int, int]], number: int, amount: int) -> list[tuple[int, int]]:
    if slots and slots[-1][0] == number:
        return [*slots[:-1], (number, slots[-1][1] + amount)]
    return [*slots, (number, amount)]


def _released(slots: list[tuple[int, int]], amount: int) -> list[tuple[int, int]]:
    """Give back, what was taken last first."""
    found = []
    for number, used in reversed(slots):
        back = min(used, amount)
        amount -= back
        if used > back:
            found.append((number, used - back))
    return found[::-1]


# --- token bucket ----------------------------------------------------------------------------------------------------


def _from_bucket(window: TokenBucket, state: State, amount: int, now: float, best_effort: bool) -> tuple[State, Grant]:
    """``used`` is what is missing from the full bucket."""
    rate = window.refill / window.interval
    at = max(now, state.at)
    missing = 0.0 if state.at == -math.inf else max(min(state.used, window.burst) - (at - state.at) * rate, 0.0)
    left = math.floor(window.burst - missing + 1e-9)
    granted = _granted(amount, left, best_effort)
    missing = max(missing + granted, 0.0)
    left = max(math.floor(window.burst - missing + 1e-9), 0)
    wait = 0.0 if left else max((missing - (window.burst - 1)) / rate, 0.0)
    return State(at, missing), Grant(granted, left, wait)


# --- asked twice -----------------------------------------------------------------------------------------------------


class Remembered:
    """What was granted to an id within the last ``duration`` seconds.

    Two generations, so that forgetting costs nothing: the older one goes as a new one begins.
    """

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._began = -math.inf
        self._young: dict[str, tuple[float, Grant]] = {}
        self._old: dict[str, tuple[float, Grant]] = {}

    def find(self, name: str, now: float) -> Grant | None:
        """The earlier grant of this id."""
        at, grant = self._young.get(name) or self._old.get(name) or (-math.inf, None)
        return grant if now - at < self._duration else None

    def keep(self, name: str, grant: Grant, now: float) -> None:
        """Remember a grant."""
        if now - self._began >= self._duration:
            self._old = self._young
            self._young, self._began = {}, now
        self._young[name] = (now, grant)
