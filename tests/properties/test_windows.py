"""Windows of quotas: never more than they allow, whatever is asked for and however time goes."""

from __future__ import annotations

import math
from typing import NamedTuple

from hypothesis import given, strategies as st

from lateen.mixer.windows import (
    EMPTY,
    FixedWindow,
    Grant,
    Remembered,
    RollingWindow,
    TokenBucket,
    Window,
    idle_after,
    limit_of,
    take,
)
from tests.properties.length import examples

MOST = st.integers(1, 20)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.25, 0.5, 1.0, 3.0, 20.0]), st.integers(1, 6), st.booleans()))
FIXED = st.builds(FixedWindow, MOST, st.sampled_from([0.5, 1.0, 10.0]))
ROLLING = st.builds(RollingWindow, MOST, st.sampled_from([2.0, 10.0]), st.sampled_from([0.25, 0.5, 1.0]))
BUCKET = st.builds(TokenBucket, MOST, MOST, st.sampled_from([0.5, 1.0, 10.0]))


class Taken(NamedTuple):
    at: float
    asked: int
    best_effort: bool
    grant: Grant


def played(window: Window, steps: list[tuple[float, int, bool]]) -> list[Taken]:
    state, now, found = EMPTY, 1000.0, []
    for pause, amount, best_effort in steps:
        now += pause
        state, grant = take(window, state, amount, now, best_effort=best_effort)
        found.append(Taken(now, amount, best_effort, grant))
    return found


def within(taken: list[Taken], begin: float, end: float) -> int:
    return sum(one.grant.granted for one in taken if begin <= one.at < end)


@given(st.one_of(FIXED, ROLLING, BUCKET), STEPS)
@examples(100, 3000)
def test_all_or_nothing_unless_less_is_welcome(window: Window, steps: list[tuple[float, int, bool]]) -> None:
    for one in played(window, steps):
        assert 0 <= one.grant.granted <= one.asked
        assert one.best_effort or one.grant.granted in (0, one.asked)
        assert 0 <= one.grant.left <= limit_of(window)
        if one.grant.granted < one.asked and one.best_effort:
            assert one.grant.left == 0
        assert (one.grant.wait > 0) == (one.grant.left == 0)


@given(FIXED, STEPS)
@examples(100, 3000)
def test_a_fixed_window_holds(window: FixedWindow, steps: list[tuple[float, int, bool]]) -> None:
    taken = played(window, steps)
    for one in taken:
        begin = math.floor(one.at / window.length) * window.length
        assert within(taken, begin, begin + window.length) <= window.most


@given(ROLLING, STEPS)
@examples(100, 3000)
def test_a_rolling_window_holds_wherever_it_begins(window: RollingWindow, steps: list[tuple[float, int, bool]]) -> None:
    taken = played(window, steps)
    for one in taken:
        assert within(taken, one.at, one.at + window.length) <= window.most


@given(BUCKET, STEPS)
@examples(100, 3000)
def test_a_bucket_gives_its_burst_and_what_came_in(window: TokenBucket, steps: list[tuple[float, int, bool]]) -> None:
    taken = played(window, steps)
    for first in taken:
        for last in taken:
            if last.at >= first.at:
                came = window.burst + (last.at - first.at) * window.refill / window.interval
                assert within(taken, first.at, math.nextafter(last.at, math.inf)) <= came + 1e-6


@given(st.one_of(FIXED, ROLLING, BUCKET), STEPS)
@examples(100, 3000)
def test_after_the_wait_there_is_more_and_after_long_there_is_all(
    window: Window, steps: list[tuple[float, int, bool]]
) -> None:
    state, now = EMPTY, 1000.0
    for pause, amount, best_effort in steps:
        now += pause
        state, grant = take(window, state, amount, now, best_effort=best_effort)
        if not grant.left:
            assert take(window, state, 1, now + grant.wait + 1e-6)[1].granted == 1
    most = limit_of(window)
    assert take(window, state, most, now + idle_after(window) + 1e-6)[1].granted == most


@given(st.one_of(FIXED, ROLLING, BUCKET), STEPS, st.floats(0, 100))
@examples(100, 3000)
def test_a_clock_that_goes_back_gives_nothing(
    window: Window, steps: list[tuple[float, int, bool]], back: float
) -> None:
    state, now, left = EMPTY, 1000.0, limit_of(window)
    for pause, amount, best_effort in steps:
        now += pause
        state, grant = take(window, state, amount, now, best_effort=best_effort)
        left = grant.left
    state, grant = take(window, state, 0, now - back)
    assert grant.left <= left


def test_what_never_comes_back_is_released() -> None:
    window = FixedWindow(3, 0)
    state, grant = take(window, EMPTY, 3, 5.0)
    assert (grant.granted, grant.left, grant.wait) == (3, 0, math.inf)
    assert take(window, state, 1, 1e9)[1].granted == 0
    state, grant = take(window, state, -2, 1e9)
    assert (grant.granted, grant.left) == (-2, 2)
    assert take(window, state, -5, 1e9)[1].left == 3
    assert take(RollingWindow(3, 10, 1), take(RollingWindow(3, 10, 1), EMPTY, 3, 5)[0], -2, 6)[1].left == 2


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.4, 1.0, 5.0]), st.sampled_from("abc"))))
@examples(100, 3000)
def test_who_asks_twice_is_told_the_same(steps: list[tuple[float, str]]) -> None:
    memory, now, kept = Remembered(1.0), 1000.0, dict[str, tuple[float, Grant]]()
    for number, (pause, name) in enumerate(steps):
        now += pause
        found = memory.find(name, now)
        if name in kept and now - kept[name][0] < 1.0:
            assert found == kept[name][1]
        if name not in kept or now - kept[name][0] >= 1.0:
            assert found is None
        if found is None:
            kept[name] = (now, Grant(number, 0))
            memory.keep(name, kept[name][1], now)
