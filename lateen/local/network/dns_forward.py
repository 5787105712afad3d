"""Ask the machine's own resolvers: a query goes out as it came, and the first fitting answer comes back as it is."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
TRY_S = 2.0
ROUNDS = 2
MAX_SERVERS = 3
MAX_WAITING = 256
_LENGTH = struct.Struct("!H")


class Forwarder:
    """One for all workloads. ``servers``: addresses to ask; else those of the machine, as they are at that time."""

    def __init__(self, servers: tuple[tuple[str, int], ...] = (), resolv_conf: Path = RESOLV_CONF) -> None:
        self._fixed = servers
        self._file = resolv_conf
        self._seen: tuple[int, int] | None = None
        self._servers: tuple[tuple[str, int], ...] = ()
        self._waiting = 0

    def servers(self) -> tuple[tuple[str, int], ...]:
        """Where to ask, in order."""
        if self._fixed:
            return self._fixed
        try:
            found = self._file.stat()
            version = (found.st_ino, found.st_mtime_ns)
            if version != self._seen:
                self._servers = read_servers(self._file.read_text(errors="replace"))
                self._seen = version
        except OSError:
            self._servers, self._seen = (), None
        return self._servers or (("127.0.0.1", 53),)

    async def ask(self, query: bytes, over_tcp: bool) -> bytes | None:
        """The answer; None if nobody gave one in time, or too many questions wait already."""
        if self._waiting >= MAX_WAITING:
            return None
        self._waiting += 1
        try:
            for _ in range(ROUNDS):
                for server in self.servers():
                    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                        async with asyncio.timeout(TRY_S):
                            return await (_ask_tcp(query, server) if over_tcp else _ask_udp(query, server))
        finally:
            self._waiting -= 1
        return None


def read_servers(text: str) -> tuple[tuple[str, int], ...]:
    """The resolvers that a resolv.conf names."""
    found = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append((words[1], 53))
    return tuple(found[:MAX_SERVERS])


class _Exchange(asyncio.DatagramProtocol):
    """One question to one resolver over a socket of its own: strangers' datagrams do not reach it."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        if data[:2] == self._query[:2] and len(data) > 2 and data[2] & 0x80 and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_udp(query: bytes, server: tuple[str, int]) -> bytes:
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(lambda: _Exchange(query), remote_addr=server)
    try:
        transport.sendto(query)
        return await exchange.answer
    finally:
        transport.close()


async def _ask_tcp(query: bytes, server: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(_LENGTH.pack(len(query)) + query)
        (length,) = _LENGTH.unpack(await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
