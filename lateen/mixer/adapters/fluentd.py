"""``fluentd``: log entries over the Forward protocol of Fluentd and Fluent Bit.

Comes in: instances of ``logentry``. Goes out: batches of one tag (the instance's name), each of which the receiver
acknowledges; one that it does not is sent again over a new connection, and after some tries is counted as lost.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.outbox import Outbox
from lateen.mixer.adapters.rotation import now
from lateen.mixer.adapters.texts import plain
from lateen.mixer.templates import Instance, LogEntry, Value

TRIES = 5
LONGEST_ACK = 4096
EVENT_TIME = 0
"""The extension type of a time with nanoseconds."""
Entry = tuple[str, bytes]


class Fluentd(ReportAdapter):
    """``integer_duration``: durations as whole milliseconds. ``buffer``: how many entries may wait.

    ``batch`` is bytes, ``push_interval`` and ``push_timeout`` are seconds.
    """

    templates = frozenset({"logentry"})

    def __init__(
        self,
        address: str,
        *,
        integer_duration: bool = False,
        buffer: int = 1024,
        batch: int = 8 << 20,
        push_interval: float = 60.0,
        push_timeout: float = 60.0,
        name: str = "fluentd",
        clock: Callable[[], datetime.datetime] = now,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]") or "localhost", int(port)
        self._integer_duration = integer_duration
        self._timeout = push_timeout
        self._clock = clock
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._out: Outbox[Entry] = Outbox(
            self._send, name=name, interval=max(push_interval, 0.001), batch=batch, longest=buffer, tries=TRIES
        )

    @property
    def lost(self) -> int:  # type: ignore[override]
        """How many entries did not arrive."""
        return self._out.lost

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if not isinstance(instance, LogEntry):
                raise TypeError(f"fluentd takes no {type(instance).__name__}")
            entry = self._entry(instance)
            self._out.put((instance.name, entry), len(entry))

    async def close(self) -> None:
        try:
            await self._out.close()
        finally:
            self._hang_up()

    def _entry(self, instance: LogEntry) -> bytes:
        record = {name: self._plain(value) for name, value in instance.variables.items()}
        record["severity"] = instance.severity
        return msgspec.msgpack.encode([_event_time(instance.timestamp or self._clock()), record])

    def _plain(self, value: Value) -> Any:
        if self._integer_duration and isinstance(value, datetime.timedelta):
            return value // datetime.timedelta(milliseconds=1)
        return plain(value)

    async def _send(self, entries: Sequence[Entry]) -> None:
        by_tag: dict[str, list[bytes]] = {}
        for tag, entry in entries:
            by_tag.setdefault(tag, []).append(entry)
        try:
            async with asyncio.timeout(self._timeout):
                for tag, packed in by_tag.items():
                    await self._push(tag, packed)
        except (OSError, TimeoutError):
            self._hang_up()
            raise

    async def _push(self, tag: str, entries: list[bytes]) -> None:
        """PackedForward: the entries one after the other, as bytes."""
        if self._connection is None:
            self._connection = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._connection
        chunk = base64.b64encode(os.urandom(16)).decode()
        writer.write(msgspec.msgpack.encode([tag, b"".join(entries), {"size": len(entries), "chunk": chunk}]))
        await writer.drain()
        if await _acknowledged(reader) != chunk:
            raise ConnectionError(f"{self._host} acknowledges something else")

    def _hang_up(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection[1].close()
            self._connection = None


async def _acknowledged(reader: asyncio.StreamReader) -> str | None:
    """The chunk that is acknowledged. Raises OSError where the connection ends first."""
    found = b""
    while len(found) < LONGEST_ACK:
        data = await reader.read(LONGEST_ACK)
        if not data:
            raise ConnectionError("the connection ended before the acknowledgement")
        found += data
        with contextlib.suppress(msgspec.DecodeError):
            answer = msgspec.msgpack.decode(found)
            return answer.get("ack") if isinstance(answer, Mapping) else None
    raise ConnectionError("the acknowledgement has no end")


def _event_time(moment: datetime.datetime) -> msgspec.msgpack.Ext:
    seconds = int(moment.timestamp())
    nanoseconds = moment.microsecond * 1000
    return msgspec.msgpack.Ext(EVENT_TIME, seconds.to_bytes(4, "big") + nanoseconds.to_bytes(4, "big"))
