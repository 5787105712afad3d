"""The few system calls that Python 3.11 has no name for: namespaces, mounts and prctl.

Used by the holder and the launcher, which run with the standard library alone. Every failure is an ``OSError`` whose
text says what was tried.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)


_FORBIDDEN = "the kernel or a container's profile forbids it: see kernel.apparmor_restrict_unprivileged_userns"
_HINTS = {
    (CLONE_NEWUSER, errno.EPERM): f"{_FORBIDDEN} and kernel.unprivileged_userns_clone",
    (CLONE_NEWUSER, errno.ENOSPC): "the limit is user.max_user_namespaces",
    (CLONE_NEWNET, errno.EPERM): _FORBIDDEN,
    (CLONE_NEWNET, errno.ENOSPC): "the limit is user.max_net_namespaces",
    (CLONE_NEWNS, errno.ENOSPC): "the limit is user.max_mnt_namespaces",
}


def _check(result: int, what: str, hints: Mapping[int, str] = MappingProxyType({})) -> None:
    if result != 0:
        number = ctypes.get_errno()
        hint = f" ({hints[number]})" if number in hints else ""
        raise OSError(number, f"{what}: {os.strerror(number)}{hint}")


def unshare(kind: int, what: str) -> None:
    """Leave one kind of namespace for a new one. ``what`` says so in an error, which names the setting behind it."""
    hints = {number: hint for (of, number), hint in _HINTS.items() if of == kind}
    _check(_libc.unshare(ctypes.c_int(kind)), what, hints)


def setns(fd: int, kind: int, what: str) -> None:
    """Enter the namespace behind an open file."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), what)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount ``source`` on ``target``; ``kind`` is the file system's type."""
    result = _libc.mount(
        ctypes.c_char_p(os.fsencode(source)),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_char_p(os.fsencode(kind)),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(os.fsencode(options)) if options else None,
    )
    _check(result, f"mount on {target}")


def set_dumpable() -> None:
    """Let the files under /proc/self belong to this process's user again, after a change of credentials."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send a signal when the parent's thread ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def enter_new_user_namespace(inner_uid: int, inner_gid: int) -> None:
    """A user namespace of one user: this process's own user and group, seen inside under the given numbers."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER, "create a user namespace")
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{inner_uid} {uid} 1"),
        ("/proc/self/gid_map", f"{inner_gid} {gid} 1"),
    ):
        _write(path, text)


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    except OSError as problem:
        raise OSError(problem.errno, f"write {path}: {problem.strerror}") from None
    finally:
        os.close(handle)
