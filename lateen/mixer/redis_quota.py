"""Counting in a Redis that several servers share.

Comes in: what is asked for. Goes out: grants, worked out within Redis by one script, so that nobody takes what another
takes at the same moment. What is asked for while an exchange is under way goes together in the next one. An answer that
does not come in time is an error for whoever asked; the connection is given up, and the next exchange makes a new one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import NoScriptError, RedisError

from lateen.mixer.counters import Asked, CounterError
from lateen.mixer.redis_script import MICROS, NEVER, SCRIPT, arguments
from lateen.mixer.windows import Grant

DEFAULT_TIMEOUT_S = 0.4
"""Shorter than the time that proxies give the mixer, so that it is the mixer that tells what is wrong."""
DEFAULT_CONNECTIONS = 2
MOST_AT_ONCE = 256
_DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class _Waiting(NamedTuple):
    """Who waits, and for what."""

    asked: Sequence[Asked]
    grants: asyncio.Future[list[Grant]]


class RedisCounter:
    """``url`` as in ``redis://host:6379/0``, ``rediss://`` or ``unix:///path``. ``timeout`` (seconds) is for each call.

    ``connections``: so many exchanges are under way at most. ``prefix`` stands before all keys, so that several may use
    one Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        connections: int = DEFAULT_CONNECTIONS,
        deduplication: float = 1.0,
        prefix: str = "lateen:",
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=connections, timeout=timeout, socket_timeout=timeout, socket_connect_timeout=timeout
        )
        self._redis: Any = Redis(connection_pool=pool)
        self._timeout = timeout
        self._kept = math.ceil(deduplication * 1000)
        self._prefix = prefix
        self._most_under_way = connections
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def take(self, asked: Sequence[Asked]) -> list[Grant]:
        """A grant for each, in order. Raises CounterError."""
        waiting = _Waiting(asked, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._under_way) < self._most_under_way:
            task = asyncio.ensure_future(self._exchange())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        try:
            async with asyncio.timeout(self._timeout):
                return await waiting.grants
        except TimeoutError as problem:
            raise CounterError("Redis does not answer in time") from problem

    async def close(self) -> None:
        """Close the connections; who waits is told that nothing was counted."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._redis.aclose()

    async def _exchange(self) -> None:
        """Ask for what waits, again and again until nothing does."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            batch = [one for one in batch if not one.grants.done()]  # nobody is charged who has given up
            try:
                answers = iter(await self._answers([asked for one in batch for asked in one.asked]))
            except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as problem:
                _fail(batch, CounterError(f"Redis does not answer: {problem or type(problem).__name__}"))
                if isinstance(problem, asyncio.CancelledError):
                    _fail(self._waiting, CounterError("Redis is not asked any more"))
                    raise
                continue
            for one in batch:
                grants = [_grant(next(answers)) for _ in one.asked]
                if not one.grants.done():
                    one.grants.set_result(grants)

    async def _answers(self, asked: Sequence[Asked]) -> list[Any]:
        async with asyncio.timeout(self._timeout):
            try:
                return await self._ask(asked)
            except NoScriptError:
                await self._redis.script_load(SCRIPT)
                return await self._ask(asked)

    async def _ask(self, asked: Sequence[Asked]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for one in asked:
                keys = [f"{self._prefix}{{{one.key}}}"]
                if one.deduplication_id:
                    keys.append(f"{keys[0]}:{one.deduplication_id}")
                figures = (*arguments(one.window), one.amount, int(one.best_effort), self._kept)
                pipeline.evalsha(_DIGEST, len(keys), *keys, *figures)
            found: list[Any] = await pipeline.execute()
            return found


def _fail(batch: Iterable[_Waiting], problem: CounterError) -> None:
    for one in batch:
        if not one.grants.done():
            one.grants.set_exception(problem)


def _grant(answer: Any) -> Grant:
    given, left, wait = (int(figure) for figure in answer)
    return Grant(given, left, _seconds(wait))


def _seconds(micros: int) -> float:
    return math.inf if micros == NEVER else micros / MICROS
