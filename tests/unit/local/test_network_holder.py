"""The holder and the launcher on this machine's kernel, as root where the tests run so and as an ordinary user."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from lateen.local.links import Link, LinkRequest
from lateen.local.network import netlink, rules, syscalls
from lateen.local.network.holder_client import HolderClient, script
from lateen.local.network.namespaces import NamespaceNetwork
from tests.machine import eventually, marked

WAYS = [False, True] if os.geteuid() == 0 else [True]
MARK = "LATEEN_RUN_ID"
pytestmark = pytest.mark.parametrize("rootless", WAYS, ids=lambda rootless: "user" if rootless else "root")
Run = Callable[[Callable[[NamespaceNetwork], Awaitable[None]]], None]


@contextlib.asynccontextmanager
async def network(folder: Path, rootless: bool) -> AsyncIterator[NamespaceNetwork]:
    environment = {"PATH": os.environ["PATH"], MARK: str(folder)}
    found = NamespaceNetwork(folder, environment, rootless=rootless, domain="cluster.local")
    await found.start()
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
def run(tmp_path: Path, rootless: bool) -> Run:
    """Run a scenario on a started network, and see that nothing of it is left."""

    async def within(scenario: Callable[[NamespaceNetwork], Awaitable[None]]) -> None:
        async with asyncio.timeout(30), network(tmp_path, rootless) as found:
            await scenario(found)

    def start(scenario: Callable[[NamespaceNetwork], Awaitable[None]]) -> None:
        before = open_files()
        asyncio.run(within(scenario))
        assert open_files() <= before
        eventually(lambda: not marked(MARK, str(tmp_path)))

    return start


def open_files(pid: int | str = "self") -> set[str]:
    return {path.name for path in Path(f"/proc/{pid}/fd").iterdir()}


def request(name: str, last: int = 1, gateway: bool = False) -> LinkRequest:
    return LinkRequest(name, "default", f"240.241.9.{last}", is_gateway=gateway)


def outcome(prefix: tuple[str, ...], *command: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a command behind a prefix."""
    return subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=20, check=False)


def inside(prefix: tuple[str, ...], code: str, **environment: str) -> str:
    """What Python code prints behind a prefix."""
    done = subprocess.run(
        [*prefix, sys.executable, "-I", "-S", "-c", code],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The holder


def test_two_workloads_have_one_port_each_and_do_not_meet(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        sockets = []
        for last, name in enumerate(("a", "b"), start=1):
            await found.add(request(name, last))
            listener = found.probe_socket(name)
            listener.bind(("0.0.0.0", 8080))
            listener.listen()
            sockets.append(listener)
        with found.probe_socket("a") as client:
            client.settimeout(2)
            client.connect(("127.0.0.1", 8080))
            client.getpeername()
            sockets[1].setblocking(False)
            with pytest.raises(BlockingIOError):
                sockets[1].accept()
        for one in sockets:
            one.close()

    run(scenario)


def test_a_workload_has_its_address_and_reaches_neither_the_machine_nor_the_mesh(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        await found.add(request("a"))
        with socket.socket() as machine, found.probe_socket("a") as own:
            machine.bind(("127.0.0.1", 0))
            machine.listen()
            own.bind(("240.241.9.1", 0))
            own.listen()
            for target, refused in ((own.getsockname(), False), (machine.getsockname(), True)):
                with found.probe_socket("a") as client:
                    client.settimeout(2)
                    assert (client.connect_ex(target) != 0) is refused
            for target in (("240.241.9.2", 80), ("192.0.2.1", 80), ("10.0.0.1", machine.getsockname()[1])):
                with found.probe_socket("a") as client:  # to the sidecar's port, where none listens
                    client.settimeout(2)
                    assert client.connect_ex(target) == errno.ECONNREFUSED

    run(scenario)


def test_what_cannot_leave_is_refused_at_once(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        link = await found.add(request("a"))
        code = (
            "import socket, time; start = time.monotonic()\n"
            "client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.settimeout(5)\n"
            "try:\n client.sendto(b'x', ('192.0.2.1', 123)); client.recv(1)\n"
            "except OSError as problem: print(type(problem).__name__, time.monotonic() - start < 1)\n"
        )
        assert inside(link.app_prefix, code) in ("PermissionError True", "ConnectionRefusedError True")

    run(scenario)


def test_names_are_answered_in_the_namespace_whatever_resolver_is_asked(run: Run, tmp_path: Path) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        names = {"reviews.default.svc.cluster.local": ["240.240.3.4"]}
        (tmp_path / "names.json").write_text(json.dumps({"names": names}))
        link = await found.add(request("a"))
        code = (
            "import socket\n"
            "names = ('reviews', 'reviews.default', 'reviews.default.svc', 'reviews.default.svc.cluster.local')\n"
            "print([socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)[0][4][0] for name in names])\n"
            "query = b'\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7reviews\\0\\0\\1\\0\\1'\n"
            "for place in ('127.0.0.53', '192.0.2.53'):\n"
            " with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:\n"
            "  client.settimeout(3); client.connect((place, 53)); client.send(query); print(client.recv(512)[-4:])\n"
            " with socket.create_connection((place, 53), 3) as client:\n"
            "  client.sendall(b'\\0' + bytes([len(query)]) + query); print(client.recv(512)[-4:])\n"
        )
        loop = asyncio.get_running_loop()
        lines = (await loop.run_in_executor(None, inside, link.app_prefix, code)).splitlines()
        assert lines[0] == str(["240.240.3.4"] * 4)
        assert lines[1:] == [str(b"\xf0\xf0\x03\x04")] * 4

    run(scenario)


def test_a_workload_that_is_not_there_is_named(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        with pytest.raises(OSError, match="nobody has no network namespace"):
            found.probe_socket("nobody")
        await found.remove("nobody")
        await found.add(request("a"))
        await found.remove("a")
        with pytest.raises(OSError, match="a has no network namespace"):
            found.probe_socket("a")

    run(scenario)


def test_nothing_is_left_of_workloads_that_come_and_go(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        await found.add(request("a"))
        holder = str((await found.add(request("a"))).registry["mesh_netns"]).split("/")[2]
        await asyncio.sleep(0.1)  # the holder lets go of what it handed out just after handing it out
        held = len(open_files(holder))
        seen = set()
        for _ in range(40):
            link = await found.add(request("b", 2))
            found.probe_socket("b").close()
            seen.add(link.registry["workload_netns"])
            await found.remove("b")
        await asyncio.gather(*(found.add(request(f"c{last}", last)) for last in range(10, 30)))
        await asyncio.gather(*(found.remove(f"c{last}") for last in range(10, 30)))
        eventually(lambda: len(open_files(holder)) == held)
        assert len(seen) == 40, "a path names one namespace: it is not given to the next"

    run(scenario)


def test_a_request_that_is_given_up_does_not_disturb_the_next(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        for _ in range(10):
            task = asyncio.ensure_future(found.add(request("a")))
            await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        link = await found.add(request("b", 2))
        assert "240.241.9.2" in inside(link.app_prefix, "print(open('/proc/net/fib_trie').read())")

    run(scenario)


def test_the_holder_outlives_the_supervisor_and_ends_by_a_signal(tmp_path: Path, rootless: bool) -> None:
    code = (
        "import asyncio, os, pathlib, sys, time\n"
        "from lateen.local.links import LinkRequest\n"
        "from lateen.local.network.namespaces import NamespaceNetwork\n"
        "async def main():\n"
        f" folder = pathlib.Path({str(tmp_path)!r})\n"
        f" found = NamespaceNetwork(folder, dict(os.environ), rootless={rootless}, domain='d')\n"
        " await found.start()\n"
        " link = await found.add(LinkRequest('a', 'default', '240.241.9.1', False))\n"
        " print(found.pid, link.registry['workload_netns'], flush=True)\n"
        " time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, MARK: str(tmp_path)}
    supervisor = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pid, path = supervisor.stdout.readline().split()
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    time.sleep(0.2)
    processes = marked(MARK, str(tmp_path))
    assert int(pid) in processes
    assert len(processes) == (2 if rootless else 1)
    assert Path(path).exists()
    os.kill(int(pid), signal.SIGTERM)
    eventually(lambda: not marked(MARK, str(tmp_path)))


@pytest.mark.parametrize("first", ["border", "holder"])
def test_holder_and_border_end_together(run: Run, tmp_path: Path, rootless: bool, first: str) -> None:
    if not rootless:
        pytest.skip("root needs no border")

    async def scenario(found: NamespaceNetwork) -> None:
        both = marked(MARK, str(tmp_path))
        assert len(both) == 2
        [other] = set(both) - {found.pid}
        os.kill(found.pid if first == "border" else other, signal.SIGKILL)
        with pytest.raises(OSError, match="the network's holder"):
            for _ in range(100):
                await found.add(request("a"))
                await asyncio.sleep(0.01)

    run(scenario)


@pytest.mark.parametrize("first", ["first process", "holder"])
def test_a_lost_network_is_noticed_and_set_up_anew(run: Run, tmp_path: Path, rootless: bool, first: str) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        before = (await found.add(request("a"))).registry["workload_netns"]
        loss = asyncio.ensure_future(found.lost())
        owner = int(str(before).split("/")[2])
        os.kill(found.pid if first == "first process" else owner, signal.SIGKILL)
        how = await asyncio.wait_for(loss, 5)
        assert how == "ended by signal 9"
        await found.restart()
        link = await found.add(request("a"))
        assert link.registry["workload_netns"] != before
        assert Path(str(link.registry["workload_netns"])).exists()
        found.probe_socket("a").close()

    run(scenario)


def test_a_refusal_of_the_kernel_is_told(rootless: bool) -> None:
    del rootless
    packed = socket.inet_aton("203.0.113.77")
    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, 1) + netlink.attr(2, packed)
    remove = netlink.Message(21, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK, body, "remove an address")
    with pytest.raises(OSError, match=r"remove an address: (Cannot assign|Operation not permitted)"):
        netlink.talk(netlink.ROUTE, [remove])
    with pytest.raises(OSError, match="enter nothing"):
        syscalls.setns(0, syscalls.CLONE_NEWNET, "enter nothing")


def test_the_rules_leave_the_sidecars_own_calls_alone(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        await found.add(request("a"))
        with found.probe_socket("a") as server, found.probe_socket("a") as sidecar:
            server.bind(("127.0.0.1", 53))  # an application may serve DNS itself
            server.listen()
            server.settimeout(2)
            sidecar.settimeout(2)
            sidecar.bind((rules.SIDECAR_SOURCE, 0))
            sidecar.connect(("127.0.0.1", 53))
            connection, peer = server.accept()
            connection.close()
            assert peer[0] == rules.SIDECAR_SOURCE

    run(scenario)


# The launcher


def test_an_application_keeps_its_user_environment_signals_and_has_no_power(run: Run, rootless: bool) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        link = await found.add(request("a"))
        code = (
            "import os\n"
            "status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())\n"
            "given = open('/proc/self/environ', 'rb').read().split(b'\\0')\n"
            "given = sorted(entry.split(b'=')[0].decode() for entry in given if entry)\n"
            "print(os.getuid(), os.getgid(), given, status['CapEff'].strip(), os.getcwd())\n"
        )
        done = inside(link.app_prefix, code, ONE="1")
        uid, gid, *rest = done.split(" ")
        assert (int(uid), int(gid)) == (os.getuid(), os.getgid())
        assert "['ONE', 'PATH']" in done
        if rootless and os.getuid() != 0:
            assert "0000000000000000" in rest
        ignored = [outcome(prefix, "grep", "SigIgn", "/proc/self/status").stdout for prefix in ((), link.app_prefix)]
        assert ignored[0] == ignored[1]

    run(scenario)


def test_an_application_sees_its_resolver_and_not_the_run_directory(run: Run, tmp_path: Path) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        (tmp_path / "secret").write_text("key")
        link = await found.add(request("a"))
        code = (
            f"import os; print(os.listdir({str(tmp_path)!r})); print(open('/etc/resolv.conf').read().split())\n"
            "try: open('/etc/resolv.conf', 'a')\n"
            "except OSError as problem: print('kept', problem.errno)\n"
        )
        listed, resolver, kept = inside(link.app_prefix, code).splitlines()
        assert listed == "[]"
        assert "127.0.0.1" in resolver
        assert "default.svc.cluster.local" in resolver
        assert kept.startswith("kept")
        assert "127.0.0.1\nsearch default.svc" not in Path("/etc/resolv.conf").read_text()

    run(scenario)


def test_an_application_cannot_undo_its_capture(run: Run, rootless: bool, tmp_path: Path) -> None:
    if not rootless:
        pytest.skip("an application of root's may do anything")

    async def scenario(found: NamespaceNetwork) -> None:
        link: Link = await found.add(request("a"))
        holder = str(link.registry["mesh_netns"]).rsplit("/", 2)[0]
        code = (
            "import ctypes, os, socket\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            f"mesh = {str(link.registry['mesh_netns'])!r}\n"
            f"for path in ({holder!r} + '/ns/user', mesh, '/proc/{os.getpid()}/ns/net'):\n"
            " try: number = os.open(path, os.O_RDONLY); print(libc.setns(number, 0))\n"
            " except OSError: print(-1)\n"
            f"print(libc.umount2({str(tmp_path).encode()!r}, 2))\n"
            "print(libc.unshare(0x40000000) if os.getuid() else -1)\n"
        )
        assert inside(link.app_prefix, code).split() == ["-1"] * 5

    run(scenario)


def test_ports_below_1024_are_free_to_use(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        link = await found.add(request("a"))
        code = "import socket; server = socket.socket(); server.bind(('0.0.0.0', 80)); print(server.getsockname()[1])"
        assert inside(link.app_prefix, code) == "80"

    run(scenario)


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/", 126)])
def test_a_command_that_cannot_run_is_named(run: Run, command: str, code: int) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        link = await found.add(request("a"))
        done = outcome(link.app_prefix, command)
        assert done.returncode == code
        assert done.stderr.startswith(f"lateen: {command}: ")

    run(scenario)


def test_a_launch_into_a_network_that_is_gone_says_so(run: Run, rootless: bool) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        link = await found.add(request("a"))
        await found.remove("a")
        done = outcome(link.app_prefix, "true")
        assert done.returncode == 125
        assert "open the workload's network namespace: No such file or directory" in done.stderr
        if rootless:
            words = [word for word in link.envoy_prefix if not word.startswith("border=")]
            words.insert(-1, "border=/nowhere/border.sock")
            done = outcome(tuple(words), "true")
            assert done.returncode == 125
            assert "reach the border process" in done.stderr

    run(scenario)


def test_a_proxy_stands_in_the_machines_network_and_may_enter_the_meshs(run: Run) -> None:
    async def scenario(found: NamespaceNetwork) -> None:
        gateway = await found.add(request("gateway", 9, gateway=True))
        workload = await found.add(request("a"))
        assert gateway.envoy_prefix == workload.envoy_prefix
        with socket.socket() as machine:
            machine.bind(("127.0.0.1", 0))
            machine.listen()
            code = (
                "import ctypes, os, socket\n"
                "libc = ctypes.CDLL(None)\n"
                f"socket.create_connection({machine.getsockname()!r}, 2).close(); print('machine')\n"
                "home = os.open('/proc/self/ns/net', os.O_RDONLY)\n"
                f"there = os.open({str(workload.registry['workload_netns'])!r}, os.O_RDONLY)\n"
                "print(libc.setns(there, 0x40000000))\n"
                f"print(socket.socket().connect_ex({machine.getsockname()!r}))\n"
                "print(libc.setns(home, 0x40000000))\n"
                f"print(socket.socket().connect_ex({machine.getsockname()!r}))\n"
            )
            assert inside(gateway.envoy_prefix, code).split() == ["machine", "0", str(errno.ECONNREFUSED), "0", "0"]

    run(scenario)


def test_a_proxy_learns_why_the_machine_refuses_a_socket(run: Run, rootless: bool) -> None:
    if not rootless:
        pytest.skip("root's proxies open their sockets themselves")

    async def scenario(found: NamespaceNetwork) -> None:
        gateway = await found.add(request("gateway", 9, gateway=True))
        code = (
            "import socket\n"
            "try: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 250)\n"
            "except OSError as problem: print(problem.errno)\n"
            "made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)\n"
            "print(made.get_inheritable(), made.gettimeout())\n"
            "print(len({socket.socket().fileno() for _ in range(100)}) <= 2)\n"
        )
        lines = inside(gateway.envoy_prefix, code).splitlines()
        assert int(lines[0]) in (errno.EPROTONOSUPPORT, errno.EINVAL)
        assert lines[1:] == ["False 0.0", "True"]

    run(scenario)


def test_what_starts_a_holder_says_what_is_wrong(tmp_path: Path, rootless: bool) -> None:
    async def scenario() -> None:
        border = Path("/nowhere/border.sock") if rootless else None
        if border is None:
            assert outcome((), *script("holder", "0", "1")).returncode
            return
        with pytest.raises(OSError, match="the network's holder ended: FileNotFoundError"):
            await HolderClient.start({}, tmp_path / "network.log", border)

    asyncio.run(scenario())
