"""A real mixer process on a folder of its own, for proxies that run without a mesh."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.envoy.harness import UnixConnection
from tests.machine import eventually


class MixerProcess:
    """May be killed, stopped for a while, and started again."""

    def __init__(self, folder: Path, redis: str = "") -> None:
        self._folder = folder
        self.socket = folder / "mixer.sock"
        (folder / "mixer").mkdir()
        (folder / "mixer" / "order.json").write_text(json.dumps({"redis": redis} if redis else {}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "lateen", "mixer", "serve", "--run-dir", str(self._folder)]
        with (self._folder / "mixer.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        eventually(self._listens)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self._folder / "mixer.log").read_text()
        with grpc.insecure_channel(f"unix:{self.socket}") as channel, contextlib.suppress(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(1)
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """It is there, and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def metrics(self) -> dict[str, float]:
        """What it counts of itself, by name."""
        connection = UnixConnection(str(self._folder / "mixer" / "metrics.sock"))
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def log(self) -> str:
        return (self._folder / "mixer.log").read_text()


@contextlib.contextmanager
def mixer_process(redis: str = "") -> Iterator[MixerProcess]:
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        mixer = MixerProcess(Path(name), redis)
        mixer.start()
        try:
            yield mixer
        finally:
            mixer.kill()
