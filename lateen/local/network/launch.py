"""The launcher: puts a command in its place, then becomes it. Run as ``python -I -S -c ... WORDS -- COMMAND``.

Words are ``key=value``. An application (``role=app``) gets a workload's network, its own view of the files that tell
where names are asked for, and no view of the mesh's run directory; as an ordinary user it is mapped back to that user
without any power over the namespaces. An Envoy of an ordinary user (``role=envoy``) gets power over the mesh's
namespaces, and sockets of the machine's network by way of the border. The standard library alone: it must be fast.
"""

# ruff: noqa: PTH110, PTH112, PTH114, PTH123
# pathlib would add to the time of each launch
from __future__ import annotations

import contextlib
import os
import signal

from lateen.local.network import border, syscalls

NAME_SERVICE_CACHES = ("/run/nscd", "/var/run/nscd")
CANNOT_SET_UP, CANNOT_RUN, NOT_FOUND = 125, 126, 127


def main(arguments: list[str]) -> None:
    """Enter and execute; never returns. Exit codes as those of a shell: 127 for a command that is not there."""
    cut = arguments.index("--")
    words = {key: value for key, _, value in (word.partition("=") for word in arguments[:cut])}
    command = arguments[cut + 1 :]
    environment = _first_environment()
    try:
        _enter_app(words, environment) if words["role"] == "app" else _enter_envoy(words)
    except OSError as problem:
        _fail(CANNOT_SET_UP, f"the network of this process cannot be entered: {problem.strerror or problem}")
    _become(command, environment)


def _become(command: list[str], environment: dict[bytes, bytes]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores these; the command must not inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - to become the command is the purpose
    except FileNotFoundError:
        _fail(NOT_FOUND, f"{command[0]}: no such program, or its interpreter is missing")
    except OSError as problem:
        _fail(CANNOT_RUN, f"{command[0]}: {problem.strerror}")


def _fail(code: int, text: str) -> None:
    os.write(2, f"lateen: {text}\n".encode())
    os._exit(code)


def _first_environment() -> dict[bytes, bytes]:
    """The environment as it was given, before the interpreter set a locale in it."""
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    return {name: value for name, found, value in (entry.partition(b"=") for entry in entries) if found}


def _enter(path: str, kind: int, what: str) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise OSError(problem.errno, f"open {what}: {problem.strerror}") from None
    try:
        syscalls.setns(handle, kind, f"enter {what}")
    finally:
        os.close(handle)


def _enter_envoy(words: dict[str, str]) -> None:
    visitor = border.connect(words["border"])
    _enter(words["user"], syscalls.CLONE_NEWUSER, "the mesh's user namespace")
    _enter(words["net"], syscalls.CLONE_NEWNET, "the proxies' network namespace")
    border.ask_about_sockets(visitor)


def _enter_app(words: dict[str, str], environment: dict[bytes, bytes]) -> None:
    uid, gid = os.geteuid(), os.getegid()
    if "user" in words:
        _enter(words["user"], syscalls.CLONE_NEWUSER, "the mesh's user namespace")
    _enter(words["net"], syscalls.CLONE_NEWNET, "the workload's network namespace")
    syscalls.unshare(syscalls.CLONE_NEWNS, "create a mount namespace")
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    _show_name_files(words, environment)
    for path in (*NAME_SERVICE_CACHES, words["hide"]):
        if os.path.isdir(path) and not os.path.islink(path):
            syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=4k,mode=0700")
    if "user" in words:
        syscalls.enter_new_user_namespace(uid, gid)


def _show_name_files(words: dict[str, str], environment: dict[bytes, bytes]) -> None:
    """Lay the workload's own files over the machine's. Where there is none, nothing can be laid over it: a resolver
    then asks 127.0.0.1, which is right here, and is told the search list by the environment."""
    folder = words["files"]
    if not _lay_over(f"{folder}/resolv.conf", "/etc/resolv.conf"):
        environment.setdefault(b"LOCALDOMAIN", os.fsencode(words["search"]))
        environment.setdefault(b"RES_OPTIONS", b"ndots:5")
    _lay_over(f"{folder}/nsswitch.conf", "/etc/nsswitch.conf")


def _lay_over(source: str, target: str) -> bool:
    if not os.path.exists(target) or not os.path.exists(source):
        return False
    syscalls.mount(source, target, flags=syscalls.MS_BIND)
    with contextlib.suppress(OSError):
        syscalls.mount("none", target, flags=syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
    return True
