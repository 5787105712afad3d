"""Checks that the kernel really does what capture needs, by one connection each; an ``OSError`` says what it does not.

Some kernels accept a rule and ignore it, or grant a namespace without its powers: only a trial tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct

from lateen.local.network import border, rules

WORKLOAD_ADDRESS = "240.241.255.254"
_SERVICE = ("240.240.255.254", 80)
_SO_ORIGINAL_DST = 80
_TIMEOUT_S = 2.0


def check_outbound() -> None:
    """In a workload's namespace: a connection to a service's address arrives at the sidecar's port."""
    _check(("0.0.0.0", rules.OUTBOUND_PORT), _SERVICE, "outbound")  # noqa: S104 - inside an own namespace


def check_inbound() -> None:
    """In the mesh's namespace: a connection to a workload's port arrives at its sidecar's inbound port."""
    _check((WORKLOAD_ADDRESS, rules.INBOUND_PORT), (WORKLOAD_ADDRESS, 80), "inbound")


def _check(listen_on: tuple[str, int], wanted: tuple[str, int], direction: str) -> None:
    with socket.socket() as listener, socket.socket() as client:
        listener.settimeout(_TIMEOUT_S)
        client.settimeout(_TIMEOUT_S)
        listener.bind(listen_on)
        listener.listen(1)
        try:
            client.connect(wanted)
            server, _ = listener.accept()
        except OSError as problem:
            code = problem.errno or errno.ETIMEDOUT
            raise OSError(code, f"{direction} connections are not redirected: {os.strerror(code)}") from None
        with server:
            raw = server.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    port, packed = struct.unpack("!2xH4s8x", raw)
    if (socket.inet_ntoa(packed), port) != wanted:
        raise OSError(errno.EPROTO, f"the original destination of {direction} connections is lost")


def check_border(path: str) -> None:
    """At home, in a child: the border hands out a socket of the machine's own network."""
    visitor = border.connect(path)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            signal.alarm(int(_TIMEOUT_S) + 1)
            code = _open_under_filter(visitor)
        os._exit(code)
    visitor.close()
    _, status = os.waitpid(child, 0)
    result = os.waitstatus_to_exitcode(status)
    if result != 0:
        number = result if result > 0 else errno.ETIMEDOUT
        text = "the kernel does not hand over sockets by seccomp (Linux 5.9 or newer is needed)"
        raise OSError(number, f"{text}: {os.strerror(number)}")


def _open_under_filter(visitor: socket.socket) -> int:
    try:
        border.ask_about_sockets(visitor)
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError as problem:
        return min(problem.errno or errno.EPROTO, 255)
    return 0
