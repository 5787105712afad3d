"""Counting in memory and in a real Redis: the same grants, errors in time, nothing taken twice."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from lateen.mixer.counters import Asked, CounterError, MemoryCounter
from lateen.mixer.redis_quota import RedisCounter
from lateen.mixer.windows import EMPTY, FixedWindow, Grant, RollingWindow, TokenBucket, Window, take
from tests.redis_support import RedisServer, redis_server

HOUR = 3600.0
WINDOWS: list[Window] = [FixedWindow(5, HOUR), RollingWindow(5, HOUR, 60.0), TokenBucket(5, 5, HOUR), FixedWindow(5, 0)]
STEPS = [(3, False), (3, False), (3, True), (1, False), (-2, False), (2, True), (9, True)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


async def sequence(counter: Any, asked: Sequence[Asked]) -> list[Grant]:
    return [(await counter.take([one]))[0] for one in asked]


def told(grants: list[Grant]) -> list[tuple[int, int, bool]]:
    return [(grant.granted, grant.left, grant.wait > 0) for grant in grants]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: type(window).__name__)
def test_redis_grants_what_the_windows_say(server: RedisServer, window: Window) -> None:
    asked = [Asked(f"same-{window}", window, amount, best_effort) for amount, best_effort in STEPS]

    async def run() -> tuple[list[Grant], list[Grant]]:
        counter, memory = RedisCounter(server.url), MemoryCounter(clock=time.time)
        try:
            return await sequence(counter, asked), await sequence(memory, asked)
        finally:
            await counter.close()

    in_redis, in_memory = asyncio.run(run())
    assert told(in_redis) == told(in_memory)
    for one, other in zip(in_redis, in_memory, strict=True):
        assert one.wait == other.wait or abs(one.wait - other.wait) < 5


def test_time_gives_back_in_redis_as_the_windows_say(server: RedisServer) -> None:
    async def run() -> None:
        counter = RedisCounter(server.url)
        for window in (FixedWindow(2, 0.2), RollingWindow(2, 0.2, 0.05), TokenBucket(2, 2, 0.2)):
            began, granted = time.monotonic(), 0
            while (elapsed := time.monotonic() - began) < 1.0:
                granted += (await counter.take([Asked(f"time-{window}", window)]))[0].granted
            most = {FixedWindow: 2 * (elapsed / 0.2 + 2), RollingWindow: 2 * (elapsed / 0.2 + 1)}
            assert 4 <= granted <= most.get(type(window), 2 + elapsed * 10) + 2
        await counter.close()

    asyncio.run(run())


def test_many_at_once_from_two_servers_take_no_more_than_there_is(server: RedisServer) -> None:
    async def run() -> int:
        counters = [RedisCounter(server.url, timeout=30) for _ in range(2)]
        asked = [counters[number % 2].take([Asked("shared", FixedWindow(100, HOUR))]) for number in range(300)]
        grants = await asyncio.gather(*asked)
        for counter in counters:
            await counter.close()
        return sum(found[0].granted for found in grants)

    assert asyncio.run(run()) == 100


@pytest.mark.parametrize("shared", [True, False], ids=["redis", "memory"])
def test_who_asks_twice_is_charged_once(server: RedisServer, shared: bool) -> None:
    window = FixedWindow(10, HOUR)

    async def run() -> list[int]:
        counter: Any = RedisCounter(server.url, deduplication=60) if shared else MemoryCounter(deduplication=60)
        names = ["a", "a", "b", "", ""]
        asked = [Asked("twice", window, 2, deduplication_id=name) for name in names]
        other = Asked("other", window, 1, deduplication_id="a")
        found = [grant.left for grant in await sequence(counter, [*asked, other])]
        await counter.close()
        return found

    assert asyncio.run(run()) == [8, 8, 6, 4, 2, 9]


def test_keys_are_gone_once_they_are_as_good_as_new(server: RedisServer) -> None:
    async def run() -> int:
        counter = RedisCounter(server.url, prefix="gone:")
        await counter.take([Asked("x", TokenBucket(1, 1, 30.0)), Asked("y", RollingWindow(1, 20.0, 1.0))])
        await counter.take([Asked("z", FixedWindow(1, 0)), Asked("w", FixedWindow(1, 25.0), deduplication_id="d")])
        await counter.close()
        client: Any = Redis.from_url(server.url)
        left = {key.decode(): await client.pttl(key) for key in await client.keys("gone:*")}
        await client.aclose()
        assert 0 < left["gone:{x}"] <= 30_100
        assert 0 < left["gone:{y}"] <= 21_100
        assert 0 < left["gone:{w}:d"] <= 1_000
        return int(left["gone:{z}"])

    assert asyncio.run(run()) == -1, "what never comes back is kept"


def test_a_redis_that_hangs_or_is_gone_is_an_error_in_time_and_one_that_is_back_counts() -> None:
    asked = [Asked("x", FixedWindow(2, HOUR))]

    async def run(server: RedisServer) -> None:
        counter = RedisCounter(server.url, timeout=0.3)
        assert (await counter.take(asked))[0].left == 1
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(CounterError, match="does not answer"):
            await asyncio.wait_for(counter.take(asked), 30)
        server.process.send_signal(signal.SIGCONT)
        await _granted(counter, asked)
        server.stop()
        with pytest.raises(CounterError, match="does not answer"):
            await asyncio.wait_for(counter.take(asked), 30)
        server.start()
        assert (await _granted(counter, asked)).left == 1, "a new Redis has forgotten its scripts and its counts"
        await counter.close()

    with redis_server() as server:
        asyncio.run(run(server))


async def _granted(counter: RedisCounter, asked: Sequence[Asked]) -> Grant:
    for _ in range(100):
        try:
            return (await counter.take(asked))[0]
        except CounterError:
            await asyncio.sleep(0.05)
    raise AssertionError("it does not come back")


def test_memory_holds_so_many_keys_and_forgets_first_what_is_full_again() -> None:
    now = [1000.0]
    counter = MemoryCounter(max_keys=10, clock=lambda: now[0])

    async def run() -> None:
        for number in range(10):
            await counter.take([Asked(f"old-{number}", FixedWindow(1, 1.0))])
        now[0] += 5
        for number in range(10):
            await counter.take([Asked(f"new-{number}", FixedWindow(1, HOUR))])
        assert (len(counter), counter.forgotten) == (10, 0)
        await counter.take([Asked("one-more", FixedWindow(1, HOUR))])
        assert (len(counter), counter.forgotten) == (10, 1)

    asyncio.run(run())


def test_the_wait_that_never_ends() -> None:
    assert take(FixedWindow(1, 0), EMPTY, 1, 0.0)[1].wait == math.inf
