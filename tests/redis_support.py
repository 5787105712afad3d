"""A real Redis on a Unix socket, for one test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.debian import program
from tests.machine import eventually

PACKAGES = ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1")


class RedisServer:
    """Runs until the block ends; it may be stopped, killed and started again in between."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        found = program("redis-server", *PACKAGES)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("ab") as log:
            command = [found.path, *options, "--dir", str(self._folder)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=found.environment)
        eventually(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.command("PING").startswith(b"+PONG")
        return False

    def command(self, text: str) -> bytes:
        """The answer to a command, such as ``CLIENT PAUSE 1000 WRITE``, which keeps others waiting."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(f"{text}\r\n".encode())
            return connection.recv(100)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        server = RedisServer(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()
