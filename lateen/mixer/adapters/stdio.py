"""``stdio``: log entries and metrics as lines on standard output or error, or in a file, as JSON or as text.

Lines are written by one thread, so that a slow disk or a full pipe holds nobody up; what finds too many waiting is
counted as lost.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.rotation import RotatedFile, now
from lateen.mixer.adapters.texts import plain
from lateen.mixer.templates import Instance, LogEntry, Metric

LONGEST_WAIT = 10_000
"""How many lines may wait for the thread."""
LEVELS = ("INFO", "WARNING", "ERROR")
_WRITTEN = {"INFO": "info", "WARNING": "warn", "ERROR": "error"}
_DEFAULT: Mapping[str, Iterable[str]] = {
    "INFO": ("INFORMATIONAL", "INFO"),
    "WARNING": ("WARNING", "WARN"),
    "ERROR": ("ERROR", "ERR", "FATAL"),
}
DEFAULT_SEVERITIES: Mapping[str, str] = {
    name: level for level, names in _DEFAULT.items() for upper in names for name in (upper, upper.lower())
}


class Sink(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Stream:
    """Standard output or error, which stays open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def plain_file(path: Path) -> Sink:
    """A file that only grows."""
    return RotatedFile(path, megabytes=0, days=0, files=0)


class Stdio(ReportAdapter):
    """``severities``: the level of each severity (others are INFO); ``least``: the lowest level that is written."""

    templates = frozenset({"logentry", "metric"})

    def __init__(
        self,
        sink: Sink,
        *,
        severities: Mapping[str, str] = DEFAULT_SEVERITIES,
        metric_level: str = "INFO",
        least: str = "INFO",
        as_json: bool = False,
        clock: Callable[[], datetime.datetime] = now,
    ) -> None:
        self._sink = sink
        self._severities = severities
        self._metric_level = metric_level
        self._least = LEVELS.index(least)
        self._as_json = as_json
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stdio")
        self._waiting = 0
        self.lost = 0

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        lines = [line for instance in instances if (line := self._line(instance)) is not None]
        if not lines:
            return
        if self._waiting + len(lines) > LONGEST_WAIT:
            self.lost += len(lines)
            return
        self._waiting += len(lines)
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._sink.write, b"".join(lines))
        work.add_done_callback(lambda done: self._written(len(lines), done))
        await asyncio.shield(work)

    def _written(self, count: int, done: asyncio.Future[None]) -> None:
        self._waiting -= count
        if done.cancelled() or done.exception() is not None:
            self.lost += count

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._sink.close)
        finally:
            self._thread.shutdown(wait=False)

    def _line(self, instance: Instance) -> bytes | None:
        if isinstance(instance, LogEntry):
            level, moment = self._severities.get(instance.severity, "INFO"), instance.timestamp
            fields = {name: plain(value) for name, value in sorted(instance.variables.items())}
        elif isinstance(instance, Metric):
            level, moment = self._metric_level, None
            named = {name: plain(value) for name, value in sorted(instance.dimensions.items())}
            fields = {"value": plain(instance.value), **named}
        else:
            raise TypeError(f"stdio takes no {type(instance).__name__}")
        if LEVELS.index(level) < self._least:
            return None
        return self._written_as(level, moment or self._clock(), instance.name, fields)

    def _written_as(self, level: str, moment: datetime.datetime, name: str, fields: dict[str, Any]) -> bytes:
        stamp = plain(moment.astimezone(datetime.UTC))
        if self._as_json:
            head = {"level": _WRITTEN[level], "time": stamp, "instance": name}
            return (
                msgspec.json.encode({**fields, **head} if head.keys() & fields.keys() else {**head, **fields}) + b"\n"
            )
        body = msgspec.json.encode(fields).decode()
        return f"{stamp}\t{_WRITTEN[level]}\t{name}\t{body}\n".encode()
