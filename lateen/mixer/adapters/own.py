"""An adapter of your own, as the mixer calls it: through a process of its own.

Comes in: instances. Goes out: what the adapter answers there. The process is started with the first call, and again
after it has ended, but not at once again and again. A start goes on where the call that began it has given up: on a
busy machine it takes longer than any call may. One that leaves calls unanswered for long is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pickle
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from lateen.mixer.adapter import CheckAdapter, CheckResult, QuotaAdapter, QuotaArgs, QuotaResult, ReportAdapter
from lateen.mixer.own_adapters import LENGTH, command
from lateen.mixer.templates import Instance

LONGEST_ANSWER = 1 << 20
START_S = 30.0
STUCK_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
_T = TypeVar("_T")


class WorkerError(OSError):
    """The process of an adapter is not there, or gives no answer that can be used."""


class OwnAdapter(CheckAdapter, QuotaAdapter, ReportAdapter):
    """``name`` is its entry point's; ``params`` are a handler's."""

    def __init__(self, name: str, params: Mapping[str, Any]) -> None:
        self._name, self._params = name, dict(params)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._asked_at: dict[int, float] = {}
        self._numbers = itertools.count()
        self._pause = FIRST_PAUSE_S
        self._not_before = 0.0
        self._starting: asyncio.Task[None] | None = None

    async def check(self, instance: Instance) -> CheckResult:
        return _as(CheckResult, await self._ask("check", instance))

    async def allot(self, instance: Instance, args: QuotaArgs) -> QuotaResult:
        return _as(QuotaResult, await self._ask("allot", instance, args))

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        await self._ask("report", template, list(instances))

    async def close(self) -> None:
        if self._process is None:
            return
        try:
            with contextlib.suppress(OSError, RuntimeError):
                await self._ask("close")
        finally:
            self._end()

    async def _ask(self, method: str, *arguments: Any) -> Any:
        """Raises WorkerError, or RuntimeError with what the adapter raised."""
        if self._starting is None:
            if time.monotonic() < self._not_before:
                raise WorkerError("its process has ended, and is started again soon")
            self._starting = asyncio.ensure_future(self._start())
            self._starting.add_done_callback(_heard)
        await asyncio.shield(self._starting)
        return await self._exchange(method, arguments)

    async def _exchange(self, method: str, arguments: tuple[Any, ...]) -> Any:
        process = self._process
        if process is None or process.stdin is None:
            raise WorkerError("its process has ended")
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._asked_at[number] = time.monotonic()
        self._end_if_stuck()
        data = pickle.dumps((number, method, arguments))
        try:
            process.stdin.write(LENGTH.pack(len(data)) + data)
            await process.stdin.drain()
            return await waiting
        except ConnectionError as problem:
            raise WorkerError("its process has ended") from problem
        finally:
            if waiting.done() and not waiting.cancelled():
                self._asked_at.pop(number, None)
            self._waiting.pop(number, None)

    def _end_if_stuck(self) -> None:
        """What was asked long ago and never answered, though whoever asked has given up, keeps others waiting."""
        if time.monotonic() - min(self._asked_at.values()) > STUCK_S:
            self._end()

    async def _start(self) -> None:
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        self._not_before = time.monotonic() + self._pause
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command("serve", self._name), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            self._reading = asyncio.ensure_future(self._read(self._process))
            async with asyncio.timeout(START_S):
                await self._exchange("start", (self._params,))
        except BaseException:
            self._end()
            raise

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hand answers to who waits for them, until the process ends."""
        assert process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, WorkerError, msgspec.DecodeError):
            while True:
                (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
                if length > LONGEST_ANSWER:
                    raise WorkerError("its answer is too long")
                number, well, value = msgspec.msgpack.decode(
                    await process.stdout.readexactly(length), type=tuple[int, bool, Any]
                )
                self._pause = FIRST_PAUSE_S
                self._asked_at.pop(number, None)
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():
                    if well:
                        waiting.set_result(value)
                    else:
                        waiting.set_exception(RuntimeError(str(value)))
        if self._process is process:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        self._starting = None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        self._asked_at.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(WorkerError("its process has ended"))


def _heard(start: asyncio.Task[None]) -> None:
    """How a start ended is told to the calls that wait for it, if there are any left."""
    if not start.cancelled():
        start.exception()


def _as(kind: type[_T], value: Any) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as problem:
        raise WorkerError(f"its answer is no {kind.__name__}: {problem}") from problem
