"""Ask an application whether it is ready: one probe, once. When to ask, and what follows, the state machine knows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence

import msgspec

from lateen.local.project import Probe, ProbeKind


class ProbeResult(msgspec.Struct, frozen=True):
    """``detail`` says in a few words why it is not ready."""

    ok: bool
    detail: str = ""


class Target(msgspec.Struct, frozen=True):
    """Where an application is: how to make a socket beside it, its address there, and how to run a command there."""

    make_socket: Callable[[], socket.socket]
    address: str
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = {}
    working_dir: str = "/"


async def run_probe(probe: Probe, target: Target) -> ProbeResult:
    """Probe once, within the probe's timeout. Never raises for what the application does."""
    try:
        async with asyncio.timeout(probe.timeout):
            if probe.kind is ProbeKind.TCP:
                return await _tcp(probe, target)
            if probe.kind is ProbeKind.HTTP:
                return await _http(probe, target)
            if probe.kind is ProbeKind.EXEC:
                return await _exec(probe, target)
    except TimeoutError:
        return ProbeResult(False, f"no answer within {probe.timeout:g} s")
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        return ProbeResult(False, f"{_what(probe)}: {reason.lower()}")
    return ProbeResult(True)


def _what(probe: Probe) -> str:
    if probe.kind is ProbeKind.EXEC:
        return f"cannot run {probe.command[0]}"
    return f"port {probe.port}{probe.path}"


@contextlib.asynccontextmanager
async def _connected(probe: Probe, target: Target):  # type: ignore[no-untyped-def]
    connection = target.make_socket()
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (target.address, probe.port))
        yield connection
    finally:
        connection.close()


async def _tcp(probe: Probe, target: Target) -> ProbeResult:
    async with _connected(probe, target):
        return ProbeResult(True)


async def _http(probe: Probe, target: Target) -> ProbeResult:
    loop = asyncio.get_running_loop()
    async with _connected(probe, target) as connection:
        head = f"GET {probe.path} HTTP/1.1\r\nhost: {target.address}:{probe.port}\r\nuser-agent: lateen-probe\r\n"
        await loop.sock_sendall(connection, f"{head}accept: */*\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while b"\r\n" not in answer and len(answer) < 4096:
            piece = await loop.sock_recv(connection, 4096)
            if not piece:
                break
            answer += piece
    words = answer.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return ProbeResult(False, f"{_what(probe)}: the answer is no HTTP")
    status = int(words[1])
    return ProbeResult(200 <= status < 400, "" if 200 <= status < 400 else f"{_what(probe)}: status {status}")


async def _exec(probe: Probe, target: Target) -> ProbeResult:
    process = await asyncio.create_subprocess_exec(
        *target.prefix,
        *probe.command,
        env=dict(target.environment),
        cwd=target.working_dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        raise
    return ProbeResult(code == 0, "" if code == 0 else f"{probe.command[0]} exited with {code}")
