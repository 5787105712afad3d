"""The process in which one adapter of your own runs: a crash or a hang of it ends here.

Comes in: on standard input, what the mixer asks, as frames. Goes out: on standard output, answers as frames of another
form, which the mixer reads without trust. What the adapter prints goes to standard error. ``describe NAME`` says what
an adapter takes, and ends.

A frame is four bytes of length (big-endian), then so many bytes: what is asked is pickled (number, method, arguments),
answers are msgpack (number, whether it went well, value).
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import pickle
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from typing import Any, BinaryIO

import msgspec

from lateen.mixer.adapter import Adapter, NoParams
from lateen.mixer.own_adapters import GROUP, LENGTH
from lateen.resources.mixer.own import TYPES, Description, Parameter
from lateen.resources.mixer.templates import TEMPLATES

PR_SET_PDEATHSIG = 1
THREADS = 8
METHODS = frozenset({"check", "allot", "report", "close"})


def load(name: str) -> type[Adapter]:
    """The class behind an entry point. Raises whatever its package raises, TypeError or LookupError."""
    point = next((one for one in entry_points(group=GROUP) if one.name == name), None)
    if point is None:
        raise LookupError(f"there is no entry point {name} in the group {GROUP}")
    found = point.load()
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise TypeError(f"{point.value} is no class that derives from lateen.mixer.adapter.Adapter")
    return found


def described(name: str, adapter: type[Adapter]) -> Description:
    """What an adapter takes. Raises TypeError where that cannot be."""
    unknown = adapter.templates - TEMPLATES.keys()
    if unknown or not adapter.templates:
        raise TypeError(f"templates of {adapter.__name__} are to be some of {', '.join(sorted(TEMPLATES))}")
    return Description(name, tuple(sorted(adapter.templates)), tuple(_parameters(adapter)))


def _parameters(adapter: type[Adapter]) -> list[Parameter]:
    found = []
    for field in msgspec.structs.fields(adapter.Params):
        written = getattr(field.type, "__name__", "") if isinstance(field.type, type) else ""
        written = written if written in TYPES else str(field.type)
        if written not in TYPES:
            message = f"the parameter {field.name} has the type {written}; it may be {', '.join(TYPES)}"
            raise TypeError(message)
        found.append(Parameter(field.name, written, required=field.required))
    return found


class Worker:
    """Serves one adapter until standard input ends."""

    def __init__(self, adapter: type[Adapter], answers: BinaryIO) -> None:
        self._type = adapter
        self._answers = answers
        self._adapter: Any = None
        self._threads = ThreadPoolExecutor(THREADS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 26)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        while True:
            try:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                asked = await reader.readexactly(length)
            except asyncio.IncompleteReadError:
                return
            task = asyncio.ensure_future(self._serve(*pickle.loads(asked)))  # noqa: S301 - from the mixer itself
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            value, well = await self._called(method, arguments), True
        except Exception as problem:
            value, well = f"{type(problem).__name__}: {problem}", False
        data = msgspec.msgpack.encode([number, well, value], enc_hook=str)
        self._answers.write(LENGTH.pack(len(data)) + data)
        self._answers.flush()

    async def _called(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if method == "start":
            make: Any = self._type
            takes = self._type.Params is not NoParams
            self._adapter = make(msgspec.convert(arguments[0], self._type.Params)) if takes else make()
            return None
        if method not in METHODS or not hasattr(self._adapter, method):
            raise LookupError(f"it has no {method}")
        work = getattr(self._adapter, method)
        if self._type.blocking:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        found = work(*arguments)
        return await found if inspect.isawaitable(found) else found


def end_with_parent() -> None:
    """Have the kernel end this process as soon as the mixer has ended, whatever it is doing."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(words: list[str]) -> int:
    """``describe NAME``, or ``serve NAME``."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task, name = words
    end_with_parent()
    adapter = load(name)
    if task == "describe":
        answers.write(msgspec.json.encode(described(name, adapter)))
        answers.flush()
        return 0
    asyncio.run(Worker(adapter, answers).serve())
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
