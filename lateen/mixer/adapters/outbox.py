"""A bounded buffer before something slow: what comes in is sent in batches by a task of its own.

Comes in: items with a size. Goes out: batches, when enough has come or when ``interval`` is over. What finds the buffer
full, or cannot be sent, is counted as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from lateen.mixer.seldom import Seldom

LOG = logging.getLogger("lateen.mixer")
_T = TypeVar("_T")


class Outbox(Generic[_T]):
    """``interval`` is seconds; ``batch`` how much one batch may come to, ``longest`` how many items may wait.

    ``send`` raises where a batch did not arrive; it is sent ``tries`` times in all. ``name``: whose it is, for the log.
    """

    def __init__(
        self,
        send: Callable[[Sequence[_T]], Awaitable[None]],
        *,
        name: str,
        interval: float,
        batch: int,
        longest: int,
        tries: int = 1,
    ) -> None:
        self._send, self._name = send, name
        self._seldom = Seldom()
        self._interval, self._batch, self._longest, self._tries = interval, batch, longest, tries
        self._waiting: deque[tuple[int, _T]] = deque()
        self._size = 0
        self._some, self._due, self._closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    def put(self, item: _T, size: int = 1) -> None:
        """Take an item, whose size counts towards ``batch``."""
        if self._closing.is_set() or len(self._waiting) >= self._longest:
            self.lost += 1
            return
        self._waiting.append((size, item))
        self._size += size
        self._some.set()
        if self._size >= self._batch:
            self._due.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Send what is left. Whoever cancels this loses it, and it is counted."""
        for event in (self._closing, self._due, self._some):
            event.set()
        if self._task is None:
            return
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            raise

    async def _run(self) -> None:
        batch: list[_T] = []
        try:
            while self._waiting or not self._closing.is_set():
                await self._some.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._due.wait()
                while self._waiting:
                    batch = self._next()
                    await self._deliver(batch)
                    batch = []
                if not self._closing.is_set():
                    self._some.clear()
                    self._due.clear()
        except asyncio.CancelledError:
            self.lost += len(batch) + len(self._waiting)
            self._waiting.clear()
            raise

    def _next(self) -> list[_T]:
        found: list[_T] = []
        size = 0
        while self._waiting and (not found or size + self._waiting[0][0] <= self._batch):
            more, item = self._waiting.popleft()
            found.append(item)
            size += more
        self._size -= size
        return found

    async def _deliver(self, batch: list[_T]) -> None:
        for attempt in range(self._tries):
            try:
                await self._send(batch)
            except Exception as problem:
                if attempt + 1 == self._tries or self._closing.is_set():
                    self.lost += len(batch)
                    if self._seldom.may(type(problem).__name__):
                        words = str(problem) or type(problem).__name__
                        LOG.warning("handler %s: reports are lost, %d by now: %s", self._name, self.lost, words)
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(self._interval, 2.0**attempt)):
                        await self._closing.wait()
            else:
                return
