"""Upstreams that fall silent: one that takes no connection, and one that speaks HTTP/2 but answers nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
PING = 6


@contextlib.contextmanager
def full_socket(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port whose queue is full, so that connections to it are neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, port))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address[1]


class SilentHttp2:
    """Begins HTTP/2 and answers neither requests nor pings; ``pings`` counts these."""

    def __init__(self) -> None:
        self.pings = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> SilentHttp2:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # else the thread in accept() keeps the port
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
                connection.sendall(SETTINGS)
                stream.read(PREFACE)
                while head := stream.read(9):
                    stream.read(struct.unpack(">I", b"\0" + head[:3])[0])
                    self.pings += head[3] == PING
