"""``listchecker``: lets through what is in a list, or (``blacklist``) what is not.

The list has entries of its own and, where it is told a URL, those that are fetched there again and again. A list that
could not be fetched goes on as it was for ``ttl``; after that, and before the first one has come, there is no verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from lateen.mixer.adapter import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    CheckAdapter,
    CheckResult,
)
from lateen.mixer.adapters.lists import STRINGS, NotAnEntry, ValueList, entries_of, make_list
from lateen.mixer.templates import Instance, ListEntry
from lateen.resources.mixer.adapters import LISTED, NOT_LISTED

Fetch = Callable[[str], Awaitable[bytes]]


class ListUnavailable(OSError):
    """There is no list to look into."""


class ListChecker(CheckAdapter):
    """``refresh``, ``ttl`` and ``valid`` are seconds. ``fetch`` reads ``provider_url``, or raises OSError."""

    templates = frozenset({"listentry"})

    def __init__(
        self,
        entries: tuple[str, ...] = (),
        kind: str = STRINGS,
        *,
        blacklist: bool = False,
        provider_url: str = "",
        refresh: float = 60.0,
        ttl: float = 300.0,
        valid: float = 300.0,
        uses: int = 10_000,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._kind = kind
        self._blacklist = blacklist
        self._url = provider_url
        self._refresh, self._ttl = refresh, ttl
        self._valid, self._uses = valid, uses
        self._fetch = fetch
        self._clock = clock
        self._list: ValueList | None = None if provider_url else make_list(kind, entries)
        self._until = float("inf")
        self._fault = "its list has not been fetched yet"
        self._first = asyncio.Event()
        self._task = asyncio.ensure_future(self._keep_fresh()) if provider_url and fetch is not None else None

    async def check(self, instance: Instance) -> CheckResult:
        """Raises ListUnavailable."""
        if self._task is not None and self._list is None:
            await self._first.wait()
        if self._list is None or self._clock() > self._until:
            raise ListUnavailable(self._fault)
        value = instance.value if isinstance(instance, ListEntry) else None
        try:
            held = self._list.holds(value)
        except NotAnEntry as problem:
            return CheckResult(INVALID_ARGUMENT, str(problem), self._valid, self._uses)
        if held is self._blacklist:
            return CheckResult(PERMISSION_DENIED, LISTED if held else NOT_LISTED, self._valid, self._uses)
        return CheckResult(valid=self._valid, uses=self._uses)

    async def _keep_fresh(self) -> None:
        while True:
            try:
                await self._take()
            except (OSError, TimeoutError, ValueError) as problem:
                self._fault = f"its list cannot be had from {self._url}: {problem}"
            self._first.set()
            await asyncio.sleep(self._refresh)

    async def _take(self) -> None:
        if self._fetch is None:
            return
        body = (await self._fetch(self._url)).decode()
        self._list = make_list(self._kind, (*entries_of(body), *self._entries))
        self._until = self._clock() + self._ttl

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
