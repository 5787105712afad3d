"""An HTTP application served on a listening socket: the APIs of the supervisor and of the control plane stand on it.

Comes in: a Starlette application and a socket that listens already, so that whoever connects before the server has
started waits and is not refused. Goes out: nothing; it serves until it is cancelled. Signals stay the process's own.
Over TCP callers are strangers: where there are too many connections the oldest makes room, and one on which no request
comes is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 64
REQUEST_S = 10.0


class BodyTooLarge(ValueError):
    """A request has more to say than anybody reads."""


class _Bounded(H11Protocol):
    """One connection of a stranger."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.began = self.loop.time()
        present = [one for one in self.connections if isinstance(one, _Bounded) and not one.transport.is_closing()]
        if len(present) > MOST_CONNECTIONS:
            min(present, key=lambda one: one.began).transport.abort()
        self.loop.call_later(REQUEST_S, self._unless_asked)

    def _unless_asked(self) -> None:
        if not self.cycle:
            self.transport.abort()


class _Server(uvicorn.Server):
    """Signals are the matter of whoever serves."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def owner_socket(path: Path) -> socket.socket:
    """A listening Unix socket for its owner alone."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def tcp_socket(address: str) -> socket.socket:
    """A listening TCP socket on ``host:port``. Raises OSError or ValueError if that cannot be."""
    host, _, port = address.rpartition(":")
    return socket.create_server((host or "127.0.0.1", int(port)))


async def serve(application: Starlette, listener: socket.socket) -> None:
    """Serve until cancelled."""
    config = uvicorn.Config(
        application,
        http=H11Protocol if listener.family == socket.AF_UNIX else _Bounded,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
    )
    server = _Server(config)
    try:
        await server.serve(sockets=[listener])
    finally:
        for listening in server.servers if server.started else ():
            listening.close()
        listener.close()


async def body_of(request: Request, limit: int) -> bytes:
    """The body of a request. Raises BodyTooLarge as soon as it is longer than ``limit`` bytes."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
    return bytes(body)
