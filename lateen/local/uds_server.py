"""An HTTP application served on a listening socket: the APIs of the supervisor and of the control plane stand on it.

Comes in: a Starlette application and a socket that listens already, so that whoever connects before the server has
started waits and is not refused. Goes out: nothing; it serves until it is cancelled. Signals stay the process's own.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette


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
        application, log_config=None, log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    server = _Server(config)
    try:
        await server.serve(sockets=[listener])
    finally:
        for listening in server.servers if server.started else ():
            listening.close()
        listener.close()
