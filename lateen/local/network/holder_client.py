"""The supervisor's side of the holder: starts it, asks it, ends it.

Requests that change something wait in the event loop and are answered in order; a socket for a probe is fetched at
once, over a channel of its own. Every failure is an ``OSError`` or ``RuntimeError`` with a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

ROOT = str(Path(__file__).parents[3])
PATIENCE_S = 10.0
PROBE_PATIENCE_S = 2.0
END_PATIENCE_S = 2.0
MAX_ANSWER = 65536
MAX_SOCKETS = 4
FIRST_OF_SIGNALS = 256 - 64


_CODE = "import sys; sys.path.append(sys.argv[1]); from lateen.local.network.{} import main; main(sys.argv[2:])"


def script(module: str, *arguments: str) -> list[str]:
    """The command that runs ``main`` of a module of this room with the standard library alone."""
    return [sys.executable, "-I", "-S", "-c", _CODE.format(module), ROOT, *arguments]


class Places(msgspec.Struct, frozen=True):
    """Where the holder keeps what others enter: paths that stay true for as long as it lives."""

    pid: int
    mesh: int
    home: int

    def path(self, number: int) -> str:
        return f"/proc/{self.pid}/fd/{number}"

    @property
    def user_namespace(self) -> str:
        return f"/proc/{self.pid}/ns/user"


class _Answer(msgspec.Struct):
    error: str = ""
    fd: int = -1
    turn: str = ""


class HolderClient:
    """One holder process and the two channels to it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        probe: socket.socket,
        log: Path,
        border: Path | None,
    ) -> None:
        self._process = process
        self._log = log
        self._border = border
        self._control = control
        self._probe = probe
        self._turn = asyncio.Lock()
        self._fetch_turn = 0
        self.places = Places(0, -1, -1)

    @classmethod
    async def start(cls, environment: Mapping[str, str], log: Path, border: Path | None) -> HolderClient:
        """Start a holder, for an ordinary user if a ``border`` socket is named, and wait until all of it works.

        Raises OSError with what the kernel refused.
        """
        ours, theirs = zip(*(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)), strict=True)
        numbers = [end.fileno() for end in theirs]
        command = script("holder", *map(str, numbers), *([str(border)] if border else []))
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: ASYNC220 - returns once the child runs
                    command,
                    env=dict(environment),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=numbers,
                )
        except OSError:
            for end in ours:
                end.close()
            raise
        finally:
            for end in theirs:
                end.close()
        control, probe = ours
        client = cls(process, control, probe, log, border)
        try:
            await client._hear_hello()
        except BaseException:
            await client.stop()
            raise
        return client

    async def _hear_hello(self) -> None:
        self._control.setblocking(False)
        self._probe.settimeout(PROBE_PATIENCE_S)
        data, _ = await self._receive()
        answer = msgspec.json.decode(data, type=_Answer)
        if answer.error:
            raise OSError(answer.error)
        self.places = msgspec.json.decode(data, type=Places)

    @property
    def pid(self) -> int:
        """The first process: the holder itself, or its border."""
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    async def add(self, name: str, address: str) -> str:
        """Make a workload's namespace; returns the path by which it is entered."""
        answer, _ = await self._ask(op="add", id=name, address=address)
        return self.places.path(answer.fd)

    async def remove(self, name: str) -> None:
        """Let go of a workload's namespace."""
        await self._ask(op="remove", id=name)

    async def dns_sockets(self, name: str) -> tuple[socket.socket, socket.socket]:
        """The UDP and the listening TCP socket for the workload's questions."""
        _, sockets = await self._ask(op="dns", id=name)
        datagrams, streams = sockets
        return datagrams, streams

    def probe_socket(self, name: str) -> socket.socket:
        """A TCP socket in the workload's namespace. The holder answers within a fraction of a millisecond."""
        return self._fetch({"op": "probe", "id": name})

    def mesh_socket(self) -> socket.socket:
        """A TCP socket in the mesh's namespace: from there a workload's address is reached without a sidecar."""
        return self._fetch({"op": "mesh"})

    def _fetch(self, request: dict[str, str]) -> socket.socket:
        self._fetch_turn += 1
        turn = str(self._fetch_turn)
        try:
            self._probe.send(json.dumps(request | {"turn": turn}).encode())
            while True:
                data, numbers, _, _ = socket.recv_fds(self._probe, MAX_ANSWER, MAX_SOCKETS)
                if not data:
                    raise OSError(errno.ECONNRESET, "it has ended")
                answer, sockets = _read(data, numbers)
                if answer.turn == turn:
                    break
                _close(sockets)  # an answer that came too late for an earlier request
        except OSError as problem:
            text = f"the network's holder does not answer: {problem.strerror or problem}"
            raise OSError(problem.errno, text) from None
        _raise_error(answer, sockets)
        return sockets[0]

    async def _ask(self, **request: str) -> tuple[_Answer, list[socket.socket]]:
        """One request and its answer. Goes on if the caller is cancelled: nobody may find another's answer."""
        exchange = asyncio.ensure_future(self._exchange(request))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            exchange.add_done_callback(_discard)
            raise

    async def _exchange(self, request: dict[str, str]) -> tuple[_Answer, list[socket.socket]]:
        async with self._turn:
            try:
                self._control.send(json.dumps(request).encode())
            except OSError as problem:
                raise OSError(problem.errno, f"the network's holder is gone: {problem.strerror}") from None
            answer, sockets = _read(*await self._receive())
        _raise_error(answer, sockets)
        return answer, sockets

    async def _receive(self) -> tuple[bytes, list[int]]:
        """The next message. One that is not there in time closes the channel: it would answer a later request."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._control, ready.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await ready.wait()
        except TimeoutError:
            self._control.close()
            raise OSError(f"the network's holder does not answer within {PATIENCE_S:g} s") from None
        finally:
            loop.remove_reader(self._control)
        try:
            data, numbers, _, _ = socket.recv_fds(self._control, MAX_ANSWER, MAX_SOCKETS)
        except ConnectionError:
            data, numbers = b"", []
        if not data:
            raise OSError(f"the network's holder ended{self._last_words()}")
        return data, numbers

    def _last_words(self) -> str:
        """The last line that the process wrote, which is its error."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return f": {lines[-1]}" if lines else ""
        return ""

    async def stop(self) -> None:
        """End the holder, and wait for it: what it held is let go."""
        with contextlib.suppress(OSError):
            self._control.send(b'{"op": "stop"}')
        if not await self._ended(END_PATIENCE_S):
            self._process.kill()
            await self._ended(END_PATIENCE_S)
        self._control.close()
        self._probe.close()
        if self._border is not None:
            self._border.unlink(missing_ok=True)  # where it was killed

    async def ended(self) -> str:
        """Wait until the holder, or its border, has ended; says how."""
        await self._ended(None)
        code = self._process.wait()
        if self._border is not None and code >= FIRST_OF_SIGNALS:  # the border ends with what ended the holder
            code -= 256
        return f"ended by signal {-code}" if code < 0 else f"ended with status {code}{self._last_words()}"

    async def _ended(self, bound_s: float | None) -> bool:
        if self._process.poll() is not None:
            return True
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        handle = os.pidfd_open(self._process.pid)
        loop.add_reader(handle, ended.set)
        try:
            async with asyncio.timeout(bound_s):
                await ended.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        self._process.wait()
        return True


def _read(data: bytes, numbers: list[int]) -> tuple[_Answer, list[socket.socket]]:
    for number in numbers:
        os.set_inheritable(number, False)
    sockets = [socket.socket(fileno=number) for number in numbers]
    return msgspec.json.decode(data, type=_Answer), sockets


def _raise_error(answer: _Answer, sockets: list[socket.socket]) -> None:
    if answer.error:
        _close(sockets)
        raise OSError(answer.error)


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _discard(exchange: asyncio.Future[tuple[_Answer, list[socket.socket]]]) -> None:
    """Let go of what nobody waits for any more."""
    if not exchange.cancelled() and exchange.exception() is None:
        _close(exchange.result()[1])
