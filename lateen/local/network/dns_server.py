"""Answer the questions for names of one workload, on sockets that stand in its namespace.

Nothing here blocks the event loop: what is not known is forwarded in a task of its own, within bounds of time and
number. Whatever arrives, the responder lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from lateen.local.network.dns_answers import Otherwise, Renamed, answer, failure
from lateen.local.network.dns_forward import Forwarder
from lateen.local.network.dns_names import NameTable, search_list

UDP_LIMIT = 1232
TCP_LIMIT = 65535
TCP_IDLE_S = 10.0
MAX_TCP_CONNECTIONS = 64
MAX_TASKS = 256
_SERVFAIL = 2
_LENGTH = struct.Struct("!H")


class Responder:
    """DNS for one workload. Owns the two sockets."""

    def __init__(self, table: NameTable, forwarder: Forwarder, namespace: str, domain: str) -> None:
        self._table = table
        self._forwarder = forwarder
        self._search = search_list(namespace, domain)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self, datagrams: socket.socket, streams: socket.socket) -> None:
        """Begin to answer on a bound UDP socket and a listening TCP socket."""
        for one in (datagrams, streams):
            one.setblocking(False)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        self._server = await asyncio.start_server(self._serve_stream, sock=streams)

    def close(self) -> None:
        """Stop answering."""
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()

    def resolve(self, query: bytes, limit: int) -> bytes | Renamed | Otherwise:
        """What the mesh itself knows about a query."""
        self._table.refresh()
        return answer(query, self._table, self._search, limit)

    def datagram(self, query: bytes, sender: tuple[str, int]) -> None:
        """One query over UDP."""
        found = self.resolve(query, UDP_LIMIT)
        if isinstance(found, bytes):
            self._send(found, sender)
        elif found is not Otherwise.DROP:
            if len(self._tasks) >= MAX_TASKS:
                self._send(failure(query, _SERVFAIL), sender)
                return
            task = asyncio.ensure_future(self._forward_datagram(query, found, sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _send(self, data: bytes, sender: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, sender)

    async def _forward_datagram(self, query: bytes, found: Renamed | Otherwise, sender: tuple[str, int]) -> None:
        self._send(await self._ask_outside(query, found, over_tcp=False), sender)

    async def _ask_outside(self, query: bytes, found: Renamed | Otherwise, *, over_tcp: bool) -> bytes:
        """The answer of the machine's resolvers to a query, or to what its name stands for."""
        asked = found.query if isinstance(found, Renamed) else query
        answered = await self._forwarder.ask(asked, over_tcp=over_tcp)
        if answered is None:
            return failure(query, _SERVFAIL)
        return found.reply(answered) if isinstance(found, Renamed) else answered

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._connections >= MAX_TCP_CONNECTIONS or task is None:
            writer.close()
            return
        self._connections += 1
        self._tasks.add(task)
        try:
            await self._serve_queries(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the asker went away, stayed silent, or the responder closes
        finally:
            self._tasks.discard(task)
            self._connections -= 1
            writer.close()

    async def _serve_queries(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(TCP_IDLE_S):
                (length,) = _LENGTH.unpack(await reader.readexactly(2))
                query = await reader.readexactly(length)
            found = self.resolve(query, TCP_LIMIT)
            if found is Otherwise.DROP:
                return
            said = found if isinstance(found, bytes) else await self._ask_outside(query, found, over_tcp=True)
            writer.write(_LENGTH.pack(len(said)) + said)
            async with asyncio.timeout(TCP_IDLE_S):
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._responder.datagram(data, addr)
