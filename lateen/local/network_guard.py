"""Keeps the network that all instances share: sets it up, watches it, sets it up anew where it is lost.

Comes in: the network. Goes out: ``ready``, set while it stands; a finding while something is wrong with it; calls to
the mesh when it is lost and when it cannot be had. Without it no request passes, so nothing here is done quietly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lateen.findings import Finding, error
from lateen.local.backoff import Backoff
from lateen.local.events import EventLog
from lateen.local.links import Network
from lateen.values.names import Origin

ATTEMPTS = 6


class NetworkGuard:
    """Guards one network. ``on_lost`` gets a sentence; ``restored`` returns once all instances are ready again."""

    def __init__(
        self,
        network: Network,
        events: EventLog,
        origin: Origin,
        *,
        on_up: Callable[[], None],
        on_lost: Callable[[str], None],
        on_failed: Callable[[], None],
    ) -> None:
        self.ready = asyncio.Event()
        self.finding: Finding | None = None
        self._network = network
        self._events = events
        self._origin = origin
        self._on_up = on_up
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._backoff = Backoff()

    async def run(self) -> None:
        """For as long as there is a network; returns once it cannot be had, after ``on_failed``."""
        try:
            await self._network.start()
        except (OSError, RuntimeError) as problem:
            self._fail(f"the network cannot be set up: {problem}")
            return
        self._events.emit("capture", f"{self._network.mode}: {self._network.reason}")
        self._stand()
        while True:
            started = asyncio.get_running_loop().time()
            self._lose(await self._network.lost())
            self._backoff = self._backoff.after_exit(asyncio.get_running_loop().time() - started)
            if not await self._rebuild():
                return

    def settle(self) -> None:
        """All instances are ready again: what was wrong is over."""
        if self.finding is not None and self.ready.is_set():
            self.finding = None
            self._events.emit("network-restored", "everything is ready again in the new network namespaces")

    def _stand(self) -> None:
        self.ready.set()
        self._on_up()

    def _lose(self, how: str) -> None:
        message = f"the process that owns the network namespaces {how}: no request passes until they are made anew"
        self.ready.clear()
        remedy = "proxies and applications are started again in new ones; if it comes back, see who ends that process"
        self.finding = error("network-lost", message, self._origin, remedy)
        self._events.emit("network-lost", self.finding.render())
        self._on_lost("its network namespace is made anew")

    async def _rebuild(self) -> bool:
        """Try, with longer and longer pauses; one that is lost again soon counts as a failure too."""
        while self._backoff.failures < ATTEMPTS:
            await asyncio.sleep(self._backoff.delay if self._backoff.failures > 1 else 0.0)
            try:
                await self._network.restart()
            except (OSError, RuntimeError) as problem:
                self._events.emit("network-failed", f"the network cannot be made anew: {problem}; it is tried again")
                self._backoff = self._backoff.after_exit(0.0)
                continue
            self._events.emit("network-rebuilt", "the network namespaces are made anew; what ran in them starts again")
            self._stand()
            return True
        self._fail(f"the network could not be kept, {ATTEMPTS} times in a row: the mesh is stopped")
        return False

    def _fail(self, text: str) -> None:
        self._events.emit("network-failed", text)
        self._on_failed()
