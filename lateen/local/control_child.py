"""The control plane as a child process: started, watched, started again with back-off. Nothing else moves meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from lateen.local.backoff import Backoff
from lateen.local.events import EventLog
from lateen.local.processes import Child, last_words, spawn
from lateen.local.procfs import ProcessRef
from lateen.local.rundir import RunDir
from lateen.local.status import ControlPlaneStatus
from lateen.local.supervisor import describe_exit

POLL_S = 0.01
TERM_S = 3.0


class ControlChild:
    """Keeps one control plane running. ``ready`` is set while its sockets answer."""

    def __init__(
        self,
        run: RunDir,
        argv: Sequence[str],
        environment: Mapping[str, str],
        events: EventLog,
        record: Callable[[str, ProcessRef | None], None],
    ) -> None:
        self.ready = asyncio.Event()
        self._run = run
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
        for path in (self._run.xds_socket, self._run.ca_socket, self._run.control_socket):
            path.unlink(missing_ok=True)
        try:
            self._child = spawn(
                self._argv, environment=self._environment, output=self._run.control_log, on_exit=self._on_exit
            )
        except OSError as problem:
            self._restart_later(f"could not be started: {problem}")
            return
        self._record("control", self._child.ref)
        self._keep(self._watch())

    async def _watch(self) -> None:
        while not await self._answers():  # noqa: ASYNC110 - it is another process that is waited for
            await asyncio.sleep(POLL_S)
        self.ready.set()
        self._events.emit("control-ready", f"the control plane is ready (pid {self._child.pid if self._child else 0})")

    async def _answers(self) -> bool:
        for path in (self._run.xds_socket, self._run.ca_socket):
            try:
                _, writer = await asyncio.open_unix_connection(str(path))
            except OSError:
                return False
            writer.close()
        return True

    def _on_exit(self, code: int) -> None:
        self._child = None
        self.ready.clear()
        self._record("control", None)
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
        words = last_words(self._run.control_log)
        text = f"the control plane {what}{words}; it is started again in {delay:g} s, and traffic goes on without it"
        self._events.emit("control-exited", text)
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
            await asyncio.wait_for(self._ended.wait(), TERM_S)
        if self._child is not None:
            self._child.kill()
            await self._ended.wait()

    def status(self) -> ControlPlaneStatus:
        return ControlPlaneStatus(
            pid=self._child.pid if self._child else 0, ready=self.ready.is_set(), restarts=self._restarts
        )

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
