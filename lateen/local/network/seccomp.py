"""Ask another process for each internet socket that a program opens: a seccomp filter and the answers to it.

An Envoy of an ordinary user may enter the namespaces of the mesh, but not return to the machine's own, where gateways
listen and the outside is reached. So it lives in an empty namespace, and a process outside hands it sockets of the
machine's namespace instead. Only ``socket()`` is asked about: data flows without a detour.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
from collections.abc import Callable

_MACHINES = {  # machine -> (audit architecture, socket(), seccomp())
    "x86_64": (0xC000_003E, 41, 317),
    "aarch64": (0xC000_00B7, 198, 277),
}
_SET_MODE_FILTER = 1
_FLAG_SPEC_ALLOW = 0x4
_FLAG_NEW_LISTENER = 0x8
_RET_ALLOW = 0x7FFF_0000
_RET_USER_NOTIF = 0x7FC0_0000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_FIRST_ARGUMENT = 0, 4, 16

_RECEIVE = 0xC050_2100
_SEND = 0xC018_2101
_ADD_FD = 0x4018_2103
_CONTINUE = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADDITION = struct.Struct("=QIIII")

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _machine() -> tuple[int, int, int]:
    try:
        return _MACHINES[platform.machine()]
    except KeyError:
        raise OSError(errno.ENOSYS, f"seccomp filters are not known for {platform.machine()}") from None


def install_filter() -> int:
    """Have every internet socket that this process and its descendants open asked about. Returns where to listen.

    Raises OSError if the kernel does not do this (Linux 5.9 or newer is needed).
    """
    architecture, number, seccomp = _machine()
    steps = [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_JUMP_IF_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_IF_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _OFFSET_FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 1, 0, socket.AF_INET),
        (_JUMP_IF_EQUAL, 0, 1, socket.AF_INET6),
        (_RETURN, 0, 0, _RET_USER_NOTIF),
        (_RETURN, 0, 0, _RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    flags = _FLAG_SPEC_ALLOW | _FLAG_NEW_LISTENER
    listener = int(_libc.syscall(ctypes.c_long(seccomp), _SET_MODE_FILTER, flags, ctypes.byref(program)))
    if listener < 0:
        code_number = ctypes.get_errno()
        raise OSError(code_number, f"install a seccomp filter: {os.strerror(code_number)}")
    return listener


def answer(listener: int, is_home: Callable[[int], bool]) -> None:
    """Answer one waiting question: a socket of this process's namespace if ``is_home(thread id)``, else carry on.

    Nothing happens if the question was withdrawn meanwhile. Raises OSError if the listener itself is broken.
    """
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.EINTR):
            return
        raise
    question, thread, _, _, _, _, family, kind, protocol, *_ = _NOTIFICATION.unpack(buffer)
    if not is_home(thread):
        _respond(listener, _RESPONSE.pack(question, 0, 0, _CONTINUE))
        return
    try:
        made = socket.socket(family & 0xFFFF_FFFF, kind & 0xFFFF_FFFF, protocol & 0xFFFF_FFFF)
    except OSError as problem:
        _respond(listener, _RESPONSE.pack(question, 0, -(problem.errno or errno.EINVAL), 0))
        return
    with made:
        flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
        addition = bytearray(_ADDITION.pack(question, 0, made.fileno(), 0, flags))
        try:
            number = fcntl.ioctl(listener, _ADD_FD, addition)
        except OSError as problem:
            _respond(listener, _RESPONSE.pack(question, 0, -(problem.errno or errno.EINVAL), 0))
        else:
            _respond(listener, _RESPONSE.pack(question, number, 0, 0))


def _respond(listener: int, response: bytes) -> None:
    with contextlib.suppress(OSError):  # the asker may be gone
        fcntl.ioctl(listener, _SEND, response)
