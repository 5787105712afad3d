"""A part of Lateen that runs as a process of its own: started, watched, started again with back-off.

Comes in: a ``Role``, such as the control plane's. Nothing else moves while it is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lateen.local.backoff import Backoff
from lateen.local.events import EventLog
from lateen.local.processes import Child, last_words, spawn
from lateen.local.procfs import ProcessRef
from lateen.local.rundir import RunDir
from lateen.local.status import ServiceStatus
from lateen.local.supervisor import describe_exit

POLL_S = 0.01
TERM_S = 3.0


class Role(msgspec.Struct, frozen=True):
    """What the process is for: ``name`` is of the record, ``title`` and ``meanwhile`` are of sentences about its end.

    ``sockets`` are removed before it starts, and those of them that ``answers`` names are asked whether it is ready.
    """

    name: str
    title: str
    meanwhile: str
    log: Path
    sockets: tuple[Path, ...]
    answers: tuple[Path, ...]


class ServiceChild:
    """Keeps one such process running. ``ready`` is set while its sockets answer."""

    def __init__(
        self,
        role: Role,
        argv: Sequence[str],
        environment: Mapping[str, str],
        events: EventLog,
        record: Callable[[str, ProcessRef | None], None],
    ) -> None:
        self.ready = asyncio.Event()
        self._role = role
        self._argv = argv
        self._environment = environment
        self._events = events
        self._record = record
        self._child: Child | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._backoff = Backoff()
        self._started_at = 0.0
        self._restarts = 0
        self._stopping = False
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Start it now."""
        self._started_at = time.monotonic()
        for path in self._role.sockets:
            path.unlink(missing_ok=True)
        try:
            self._child = spawn(self._argv, environment=self._environment, output=self._role.log, on_exit=self._on_exit)
        except OSError as problem:
            self._restart_later(f"could not be started: {problem}")
            return
        self._record(self._role.name, self._child.ref)
        self._keep(self._watch())

    async def _watch(self) -> None:
        while not await self._answers():  # noqa: ASYNC110 - it is another process that is waited for
            await asyncio.sleep(POLL_S)
        self.ready.set()
        pid = self._child.pid if self._child else 0
        self._events.emit(f"{self._role.name}-ready", f"{self._role.title} is ready (pid {pid})")

    async def _answers(self) -> bool:
        for path in self._role.answers:
            try:
                _, writer = await asyncio.open_unix_connection(str(path))
            except OSError:
                return False
            writer.close()
        return True

    def _on_exit(self, code: int) -> None:
        self._child = None
        self.ready.clear()
        self._record(self._role.name, None)
        if self._stopping:
            self._ended.set()
        else:
            self._restart_later(f"ended {describe_exit(code)}")

    def _restart_later(self, what: str) -> None:
        for task in self._tasks:
            task.cancel()
        self._backoff = self._backoff.after_exit(time.monotonic() - self._started_at)
        self._restarts += 1
        delay = self._backoff.delay
        words = last_words(self._role.log)
        text = f"{self._role.title} {what}{words}; it is started again in {delay:g} s, and {self._role.meanwhile}"
        self._events.emit(f"{self._role.name}-exited", text)
        self._keep(self._start_after(delay))

    async def _start_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        if not self._stopping:
            self.start()

    async def stop(self) -> None:
        """End it; returns once it is gone."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._child is None:
            return
        self._child.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERM_S):
                await self._ended.wait()
        if self._child is not None:
            self._child.kill()
            await self._ended.wait()

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._started_at > 0

    def status(self) -> ServiceStatus:
        return ServiceStatus(
            pid=self._child.pid if self._child else 0, ready=self.ready.is_set(), restarts=self._restarts
        )

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def control_role(run: RunDir) -> Role:
    """The control plane."""
    asked = (run.xds_socket, run.ca_socket)
    sockets = (*asked, run.control_socket)
    return Role("control", "the control plane", "traffic goes on without it", run.control_log, sockets, asked)


def mixer_role(run: RunDir) -> Role:
    """What answers checks, quotas and reports of proxies."""
    meanwhile = "each rule does what it says for that case"
    return Role("mixer", "the mixer", meanwhile, run.mixer_log, (run.mixer_socket,), (run.mixer_socket,))
