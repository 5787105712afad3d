"""The holder: one small process that owns the mesh's network namespaces for as long as the mesh runs.

Started by the supervisor as a script on the standard library alone. It makes the mesh's namespace and one for each
workload, and opens sockets inside them on request. Requests come over two inherited ``SOCK_SEQPACKET`` sockets as JSON
objects with ``op``; an answer has what was asked for, or ``error``, a sentence; ``turn`` comes back. A supervisor that
dies closes its ends and changes nothing else: traffic goes on until a signal, or the word ``stop``, ends the holder.

For an ordinary user the first process stays outside as the border (see ``border``), and its child, in a user
namespace of its own, is the holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from lateen.local.network import netlink, rules, selftest, syscalls
from lateen.local.network.border import Border

MAX_REQUEST = 65536
LOWEST_FD = 64
DNS_BACKLOG = 64


class Holder:
    """The namespaces of one mesh. File numbers are not given out again soon: others know them by path."""

    def __init__(self, rootless: bool) -> None:
        self._next_fd = LOWEST_FD
        self._workloads: dict[str, int] = {}
        if rootless:
            syscalls.unshare(syscalls.CLONE_NEWNET, "create a network namespace")
        self.home = self._open_current()
        self.mesh = self._make(rules.mesh_routes(), rules.mesh_rules())
        with self._inside(self.mesh):
            selftest.check_inbound()

    def check_outbound(self) -> None:
        """Make a workload's namespace, see that its connections are redirected, take it away."""
        name = "lateen-self-test"
        self.add(name, selftest.WORKLOAD_ADDRESS)
        try:
            with self._inside(self._workloads[name]):
                selftest.check_outbound()
        finally:
            self.remove(name)

    def add(self, name: str, address: str) -> int:
        """Make a workload's namespace; one that is there already goes first. Returns its file number."""
        self.remove(name)
        self._workloads[name] = self._make(rules.workload_routes(address), rules.workload_rules(address))
        return self._workloads[name]

    def remove(self, name: str) -> None:
        """Let go of a workload's namespace: it ends with the last process or socket in it."""
        number = self._workloads.pop(name, None)
        if number is not None:
            os.close(number)

    def probe_socket(self, name: str) -> socket.socket:
        """A TCP socket beside the application."""
        with self._inside(self._find(name)):
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def mesh_socket(self) -> socket.socket:
        """A TCP socket in the mesh's namespace."""
        with self._inside(self.mesh):
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def dns_sockets(self, name: str) -> tuple[socket.socket, socket.socket]:
        """The UDP and the listening TCP socket to which the workload's questions for names are redirected."""
        with self._inside(self._find(name)):
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                for one in (datagrams, streams):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind(("127.0.0.1", rules.DNS_PORT))
                streams.listen(DNS_BACKLOG)
            except OSError:
                datagrams.close()
                streams.close()
                raise
            return datagrams, streams

    def _find(self, name: str) -> int:
        try:
            return self._workloads[name]
        except KeyError:
            raise LookupError(f"{name} has no network namespace") from None

    def _make(self, routes: list[netlink.Message], filters: list[netlink.Message]) -> int:
        syscalls.unshare(syscalls.CLONE_NEWNET, "create a network namespace")
        try:
            netlink.talk(netlink.ROUTE, routes)
            netlink.talk(netlink.NETFILTER, filters)
            _allow_all_ports()
            return self._open_current()
        finally:
            self._go_home()

    @contextlib.contextmanager
    def _inside(self, namespace: int) -> Iterator[None]:
        syscalls.setns(namespace, syscalls.CLONE_NEWNET, "enter a network namespace")
        try:
            yield
        finally:
            self._go_home()

    def _go_home(self) -> None:
        syscalls.setns(self.home, syscalls.CLONE_NEWNET, "return to the first network namespace")

    def _open_current(self) -> int:
        first = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if self._next_fd >= limit - LOWEST_FD:
            self._next_fd = LOWEST_FD
        try:
            number = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, self._next_fd)
        finally:
            os.close(first)
        self._next_fd = number + 1
        return number


def _allow_all_ports() -> None:
    """Let the applications of ordinary users listen on ports below 1024 too, as they may in a pod."""
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as file:  # noqa: PTH123
        file.write("0")


# Requests and answers


def _add(holder: Holder, request: dict[str, str]) -> tuple[dict[str, object], list[socket.socket]]:
    return {"fd": holder.add(request["id"], request["address"])}, []


def _remove(holder: Holder, request: dict[str, str]) -> tuple[dict[str, object], list[socket.socket]]:
    holder.remove(request["id"])
    return {}, []


def _probe(holder: Holder, request: dict[str, str]) -> tuple[dict[str, object], list[socket.socket]]:
    return {}, [holder.probe_socket(request["id"])]


def _mesh(holder: Holder, _: dict[str, str]) -> tuple[dict[str, object], list[socket.socket]]:
    return {}, [holder.mesh_socket()]


def _dns(holder: Holder, request: dict[str, str]) -> tuple[dict[str, object], list[socket.socket]]:
    return {}, [*holder.dns_sockets(request["id"])]


def _stop(_: Holder, __: dict[str, str]) -> tuple[dict[str, object], list[socket.socket]]:
    return {"stopped": True}, []


_OPERATIONS: dict[str, Callable[[Holder, dict[str, str]], tuple[dict[str, object], list[socket.socket]]]] = {
    "add": _add,
    "remove": _remove,
    "probe": _probe,
    "mesh": _mesh,
    "dns": _dns,
    "stop": _stop,
}


def _answer(holder: Holder, channel: socket.socket, data: bytes) -> bool:
    """Carry out one request; False if it was the word to stop."""
    made: list[socket.socket] = []
    request: dict[str, str] = {}
    try:
        request = json.loads(data)
        result, made = _OPERATIONS[request["op"]](holder, request)
    except (OSError, LookupError, ValueError) as problem:
        result = {"error": _sentence(problem)}
    result["turn"] = request.get("turn", "")
    try:
        socket.send_fds(channel, [json.dumps(result).encode()], [one.fileno() for one in made])
    except OSError:
        pass  # the asker is gone; the loop sees its end
    finally:
        for one in made:
            one.close()
    return "stopped" not in result


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return str(problem.args[0]) if problem.args else type(problem).__name__


def _serve(holder: Holder, channels: list[socket.socket]) -> None:
    """Answer until told to stop. With all channels closed it holds on, and waits for a signal."""
    poll = select.poll()
    by_fd = {channel.fileno(): channel for channel in channels}
    for number in by_fd:
        poll.register(number, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            channel = by_fd[number]
            try:
                data = channel.recv(MAX_REQUEST)
            except OSError:
                data = b""
            if not data:
                poll.unregister(number)
                by_fd.pop(number).close()
            elif not _answer(holder, channel, data):
                return


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _hold(channels: list[socket.socket], border: Border | None) -> int:
    """Be the holder: make the namespaces, say hello with their places, serve. Returns the exit code."""
    try:
        if border is not None:
            syscalls.die_with_parent(signal.SIGKILL)
            syscalls.enter_new_user_namespace(0, 0)
            syscalls.die_with_parent(signal.SIGKILL)
            syscalls.set_dumpable()
        holder = Holder(rootless=border is not None)
        holder.check_outbound()
        if border is not None:
            border.tell_home(holder.home)
            selftest.check_border(border.path)
    except (OSError, LookupError) as problem:
        channels[0].send(json.dumps({"error": _sentence(problem)}).encode())
        return 1
    channels[0].send(json.dumps({"pid": os.getpid(), "mesh": holder.mesh, "home": holder.home}).encode())
    _serve(holder, channels)
    return 0


def main(arguments: list[str]) -> None:
    """``holder CONTROL_FD PROBE_FD [BORDER_SOCKET]``: with a border socket, as an ordinary user."""
    channels = [socket.socket(fileno=int(number)) for number in arguments[:2]]
    for channel in channels:
        channel.setblocking(True)
        channel.set_inheritable(False)
    _raise_file_limit()
    if len(arguments) == 2:
        sys.exit(_hold(channels, None))
    border = Border(arguments[2])
    child = os.fork()
    if child == 0:
        border.become_inner()
        os._exit(_hold(channels, border))
    for channel in channels:
        channel.close()
    sys.exit(border.serve(child))
