"""Counting in a Redis that several servers share.

Comes in: what is asked for. Goes out: grants, worked out within Redis by one script, so that nobody takes what another
takes at the same moment. An answer that does not come in time is an error for whoever asked; the connection is given
up, and the next one asks anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import NoScriptError, RedisError

from lateen.mixer.counters import Asked, CounterError
from lateen.mixer.redis_script import MICROS, NEVER, SCRIPT, arguments
from lateen.mixer.windows import Grant

DEFAULT_TIMEOUT_S = 0.5
DEFAULT_CONNECTIONS = 10
_DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisCounter:
    """``url`` as in ``redis://host:6379/0``, ``rediss://`` or ``unix:///path``. ``timeout`` (seconds) is for each call.

    ``prefix`` stands before all keys, so that several may use one Redis.
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

    async def take(self, asked: Sequence[Asked]) -> list[Grant]:
        """A grant for each, in order, by one exchange. Raises CounterError."""
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    answers = await self._ask(asked)
                except NoScriptError:
                    await self._redis.script_load(SCRIPT)
                    answers = await self._ask(asked)
        except (RedisError, OSError, TimeoutError) as problem:
            raise CounterError(f"Redis does not answer: {problem or type(problem).__name__}") from problem
        return [Grant(int(given), int(left), _seconds(int(wait))) for given, left, wait in answers]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

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


def _seconds(micros: int) -> float:
    return math.inf if micros == NEVER else micros / MICROS
