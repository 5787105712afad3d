"""The border: what stands outside the user namespace and hands sockets of the machine's own network to the Envoys.

An Envoy of an ordinary user is launched with a seccomp filter whose listener is sent here; from then on each internet
socket that it opens while it is at home, in the holder's empty namespace, is made here instead. One process and one
thread: nothing here waits for anyone.
"""

# ruff: noqa: PTH101, PTH108, PTH116
# pathlib would add to the time of each launch
from __future__ import annotations

import contextlib
import os
import select
import socket
import stat

from lateen.local.network import seccomp

READY = b"ready"
BACKLOG = 64
PATIENCE_S = 5.0


class Border:
    """One border: a Unix socket for launchers, a private socket pair with the holder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._doors = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._outer, self._inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._doors.bind(path)
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        self._doors.listen(BACKLOG)
        self._home = 0
        self._visitors: dict[int, socket.socket] = {}
        self._listeners: set[int] = set()
        self._poll = select.poll()

    # In the holder, after the fork

    def become_inner(self) -> None:
        """Keep only the holder's end."""
        self._doors.close()
        self._outer.close()

    def tell_home(self, namespace: int) -> None:
        """Tell the border which namespace is home, and wait until it knows."""
        self._inner.send(str(os.fstat(namespace).st_ino).encode())
        if self._inner.recv(len(READY)) != READY:
            raise ConnectionError("the border process ended")

    # In the border

    def serve(self, child: int) -> int:
        """Answer until the holder ends; returns its exit code."""
        self._inner.close()
        for number in (self._doors.fileno(), self._outer.fileno()):
            self._poll.register(number, select.POLLIN)
        while True:
            for number, event in self._poll.poll():
                if number == self._outer.fileno():
                    if not self._hear_holder():
                        return self._end(child)
                elif number == self._doors.fileno():
                    self._let_in()
                elif number in self._visitors:
                    self._take_listener(number)
                elif event & select.POLLIN:
                    self._answer(number)
                else:
                    self._drop(number)

    def _end(self, child: int) -> int:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) & 0xFF

    def _hear_holder(self) -> bool:
        try:
            data = self._outer.recv(64)
        except OSError:
            return False
        if not data:
            return False
        self._home = int(data)
        self._outer.send(READY)
        return True

    def _let_in(self) -> None:
        with contextlib.suppress(OSError):
            visitor, _ = self._doors.accept()
            visitor.setblocking(False)
            self._visitors[visitor.fileno()] = visitor
            self._poll.register(visitor.fileno(), select.POLLIN)

    def _take_listener(self, number: int) -> None:
        visitor = self._visitors.pop(number)
        self._poll.unregister(number)
        with visitor, contextlib.suppress(OSError):
            _, received, _, _ = socket.recv_fds(visitor, 64, 1)
            for listener in received:
                os.set_inheritable(listener, False)
                self._listeners.add(listener)
                self._poll.register(listener, select.POLLIN)
            visitor.send(READY)

    def _answer(self, listener: int) -> None:
        try:
            seccomp.answer(listener, self._is_home)
        except OSError:
            self._drop(listener)

    def _is_home(self, thread: int) -> bool:
        try:
            return os.stat(f"/proc/{thread}/ns/net").st_ino == self._home
        except OSError:
            return False

    def _drop(self, listener: int) -> None:
        if listener in self._listeners:
            self._listeners.discard(listener)
            self._poll.unregister(listener)
            os.close(listener)


def connect(path: str) -> socket.socket:
    """A connection to the border: to be made before the filter stands. Raises OSError if there is no border."""
    visitor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    visitor.settimeout(PATIENCE_S)
    try:
        visitor.connect(path)
    except OSError as problem:
        visitor.close()
        raise OSError(problem.errno, f"reach the border process at {path}: {problem.strerror}") from None
    return visitor


def ask_about_sockets(visitor: socket.socket) -> None:
    """From now on the border answers for each internet socket of this process. Closes ``visitor``."""
    with visitor:
        listener = seccomp.install_filter()
        try:
            socket.send_fds(visitor, [b"listener"], [listener])
            if visitor.recv(len(READY)) != READY:
                raise ConnectionError("the border process ended")
        finally:
            os.close(listener)
