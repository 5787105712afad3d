"""What happens in the mesh, told to whoever listens: the terminal, the API's clients, the log of the supervisor."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec

from lateen.values.printing import printable

KEPT = 500


class MeshEvent(msgspec.Struct, frozen=True):
    """One thing that happened: ``time`` in seconds since the epoch, ``subject`` an instance, or empty for the mesh.

    ``kind`` is stable and kebab-case: ``ready``, ``probe-failed``, ``app-exited``, ``finding``, ``mesh-ready``...
    """

    time: float
    kind: str
    subject: str
    text: str

    def render(self) -> str:
        """One line for a terminal or a log."""
        subject = f"{self.subject}: " if self.subject else ""
        text = f"{subject}{self.text}"
        return printable(text)


class EventLog:
    """Keeps the last events and hands new ones on. All in one event loop."""

    def __init__(self) -> None:
        self._kept: deque[MeshEvent] = deque(maxlen=KEPT)
        self._queues: set[asyncio.Queue[MeshEvent]] = set()
        self._listeners: list[Callable[[MeshEvent], None]] = []

    def emit(self, kind: str, text: str, subject: str = "") -> None:
        """Tell everyone. A subscriber that does not read loses the oldest events, never holds up the mesh."""
        event = MeshEvent(time.time(), kind, subject, text)
        self._kept.append(event)
        for listener in self._listeners:
            listener(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def listen(self, listener: Callable[[MeshEvent], None]) -> None:
        """Call this with each new event."""
        self._listeners.append(listener)

    def recent(self) -> list[MeshEvent]:
        """The last events, oldest first."""
        return list(self._kept)

    def subscribe(self) -> asyncio.Queue[MeshEvent]:
        """A queue of all events from now on; give it back by ``unsubscribe``."""
        queue: asyncio.Queue[MeshEvent] = asyncio.Queue(maxsize=KEPT)
        self._queues.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[MeshEvent]) -> None:
        self._queues.discard(queue)
