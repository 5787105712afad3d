"""A connected UDP socket: datagrams that go, or are lost without a word from below."""

from __future__ import annotations

import asyncio
import socket


class Datagrams:
    """``address`` is HOST:PORT. The host is looked up at the first datagram, and again after a failure."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]") or "localhost", int(port)
        self._socket: socket.socket | None = None

    async def send(self, data: bytes) -> None:
        """Raises OSError where the host cannot be found or nobody listens (which is known from the datagram before)."""
        if self._socket is None:
            self._socket = await self._connected()
        try:
            self._socket.send(data)
        except BlockingIOError as problem:
            raise OSError("the socket's buffer is full") from problem
        except OSError:
            self.close()
            raise

    async def _connected(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        try:
            opened.connect(address)
        except OSError:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """The next datagram opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
