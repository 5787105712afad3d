"""Child processes: started in a session of their own, their output in files, their end reported through a pidfd.

The thin shell below the state machines: no decision is taken here. Output goes to the file directly, so a child
outlives a supervisor that was killed; what grows too large is moved aside by ``LogCap``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lateen.local.procfs import ProcessRef, reference

LOG_CAP_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 64 * 1024
"""How much of a log is read first to find its last lines."""


class Child:
    """One running child. ``on_exit`` is called once, in the loop, with the code that wait gave."""

    def __init__(self, process: subprocess.Popen[bytes], on_exit: Callable[[int], None]) -> None:
        self._process = process
        self._on_exit = on_exit
        self.pid = process.pid
        self.ref = reference(process.pid) or ProcessRef(process.pid, 0)
        self._loop = asyncio.get_running_loop()
        self._handle: int | None = os.pidfd_open(process.pid)
        self._loop.add_reader(self._handle, self._ended)

    def _ended(self) -> None:
        if self._handle is None:
            return
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        self._handle = None
        self._sweep()
        self._on_exit(self._process.wait())

    def _sweep(self) -> None:
        """End what the child left in its group; it has not been waited for yet, so the number is still its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    @property
    def alive(self) -> bool:
        return self._handle is not None

    def terminate(self) -> None:
        """SIGTERM to the process group."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process group."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: Path,
    on_exit: Callable[[int], None],
    working_dir: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a process. Raises OSError if the program or the folder is not there or cannot be run."""
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=working_dir,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    finally:
        os.close(handle)
    return Child(process, on_exit)


class LogCap:
    """Keeps log files small: one above the cap is copied to ``<name>.1`` and emptied."""

    def __init__(self, folder: Path, cap_bytes: int = LOG_CAP_BYTES) -> None:
        self._folder = folder
        self._cap = cap_bytes

    async def run(self, interval_s: float = 5.0) -> None:
        """Look at every log below the folder, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(self.trim)

    def trim(self) -> list[Path]:
        """Trim once; returns the files that were trimmed."""
        trimmed = []
        for path in [*self._folder.glob("*.log"), *self._folder.glob("proxies/*/*.log")]:
            with contextlib.suppress(OSError):
                if path.stat().st_size > self._cap:
                    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
                    os.truncate(path, 0)
                    trimmed.append(path)
        return trimmed


def tail(path: Path, lines: int = 20) -> list[str]:
    """The last lines of a file, each of them whole; empty if it is not there.

    A line ends at ``\\n`` alone: what else may end one is in headers that access logs hold.
    """
    if lines < 1:
        return []
    taken = TAIL_BYTES
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            while True:
                file.seek(max(0, size - taken))
                data = file.read(taken)
                if taken >= size or data.count(b"\n") > lines:
                    break
                taken *= 4
    except OSError:
        return []
    whole = data.decode(errors="replace").removesuffix("\n")
    return [line.removesuffix("\r") for line in whole.split("\n")[-lines:]] if whole else []


def last_words(path: Path) -> str:
    """The last line of a log, in brackets, to say why a process ended; empty if it wrote nothing."""
    lines = [line.strip() for line in tail(path, 3) if line.strip()]
    return f" ({lines[-1][:200]})" if lines else ""
