"""Capture in network namespaces, judged by real Envoys: as root and by way of a user namespace, one set of files."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.envoy.capture_support import (
    APP_PORT,
    PEER,
    POD,
    SERVER,
    VIP,
    ended,
    gateway,
    namespaces,
    sidecar,
)
from tests.envoy.harness import eventually, free_port, get

pytestmark = [pytest.mark.xdist_group("capture")]
OUTSIDE = """
import socket, sys
with socket.socket() as one:
    one.settimeout(3)
    print(one.connect_ex((sys.argv[1], int(sys.argv[2]))))
"""
LOOK_UP = "import socket, sys; print(*sorted({i[4][0] for i in socket.getaddrinfo(sys.argv[1], 80)}))"
FACTS = """
import os, sys
def seen(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError as problem:
        return type(problem).__name__
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(repr({
    "uid": os.getuid(), "gid": os.getgid(), "capabilities": int(status["CapEff"], 16),
    "seccomp": int(status["Seccomp"]), "resolv": seen("/etc/resolv.conf"), "nsswitch": seen("/etc/nsswitch.conf"),
    "run": seen(sys.argv[1]), "mesh": seen(sys.argv[2]), "files": sorted(os.listdir("/proc/self/fd"))[:-1],
}))
"""


def is_possible(rootless):
    """Whether this machine lets this user do it."""
    try:
        with namespaces(rootless):
            return True
    except OSError:
        return False


WAYS = [way for way in (False, True) if (way or os.geteuid() == 0) and is_possible(way)]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: "user" if way else "root")
def mesh(request):
    """Two workloads that listen on the same port, their sidecars, and a gateway at ``ports``."""
    with namespaces(request.param) as runtime:
        for name in ("a", "b", "gateway"):
            runtime.add(name)
        for name in PEER:
            runtime.serve(name)
            runtime.envoy(name, sidecar(name, runtime.registry(name)))
        runtime.serve("b", 9999)
        config, *runtime.ports = gateway(runtime.registry("gateway"))
        runtime.envoy("gateway", config)
        yield runtime


def logged(mesh, name, kind):
    """The newest line of an access log of this kind: who asked, whom, where it went, code and flags."""
    path = mesh.folder / "proxies" / name / "access.log"
    lines = eventually(lambda: [line for line in path.read_text().splitlines() if line.startswith(f"{kind} ")])
    return re.sub(r"(240\.241\.\d+\.\d+):\d{5}", r"\1", lines[-1]).split()[1:]


@pytest.mark.parametrize("host", ["b", "b.default", "b.default.svc", "b.default.svc.cluster.local", VIP["b"]])
def test_a_service_is_reached_by_each_of_its_names(mesh, host):
    status, seen = mesh.fetch("a", host)
    assert (status, seen["app"], seen["peer"], seen["local"]) == ("200", "b", "127.0.0.6", "127.0.0.1")


def test_both_ends_see_where_the_connection_was_meant_to_go(mesh):
    assert mesh.fetch("b", "a")[1]["app"] == "a"
    assert logged(mesh, "b", "service") == [POD["b"], f"{VIP['a']}:80", f"{POD['a']}:{APP_PORT}", "200", "-"]
    assert logged(mesh, "a", "inbound") == [POD["b"], f"{POD['a']}:{APP_PORT}", f"127.0.0.1:{APP_PORT}", "200", "-"]


def test_an_http_listener_takes_its_port_at_every_address(mesh):
    status, seen = mesh.fetch("a", "203.0.113.5", 9080)
    assert (status, seen["app"]) == ("200", "b")
    assert logged(mesh, "a", "wildcard")[1] == "203.0.113.5:9080"


def test_the_gateway_stands_on_the_machine(mesh):
    answer = get(mesh.ports[0])
    assert (answer.status, answer.seen["app"], answer.seen["peer"]) == (200, "b", "127.0.0.6")


def test_a_port_without_a_filter_chain_reaches_the_application_at_its_pod_address(mesh):
    answer = get(mesh.ports[1])
    assert (answer.status, answer.seen["local"], answer.seen["port"]) == (200, POD["b"], 9999)


def test_a_workload_reaches_itself_without_its_sidecar(mesh):
    for host in ("127.0.0.1", "localhost", POD["a"]):
        status, seen = mesh.fetch("a", host, APP_PORT)
        assert (status, seen["app"]) == ("200", "a")
        assert seen["peer"] != "127.0.0.6"


def machine_address():
    """An address of this machine that is not on its loopback; empty where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.connect(("192.0.2.1", 9))
        found = one.getsockname()[0]
        return "" if found.startswith("127.") else found
    return ""


@pytest.mark.skipif(not machine_address(), reason="this machine has no address beside its loopback")
def test_the_outside_is_reached_through_the_sidecar(mesh):
    port = free_port()
    with ended(subprocess.Popen([sys.executable, "-c", SERVER, "outside", str(port)])):
        eventually(lambda: port_answers(machine_address(), port))
        status, seen = mesh.fetch("a", machine_address(), port)
    assert (status, seen["app"], seen["peer"]) == ("200", "outside", machine_address())


def port_answers(host, port):
    with socket.socket() as one:
        return one.connect_ex((host, port)) == 0


def test_the_loopback_of_the_machine_is_not_that_of_a_workload(mesh):
    assert mesh.fetch("a", "127.0.0.1", mesh.ports[0])[0] == "ConnectionRefusedError"


def test_a_virtual_address_of_no_service_goes_nowhere(mesh):
    assert mesh.fetch("a", "240.240.99.99")[0] in ("RemoteDisconnected", "ConnectionResetError")


def test_what_cannot_be_captured_is_refused_at_once(mesh):
    code = """
import errno, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.settimeout(5)
    try:
        one.connect(("192.0.2.1", 123))
        one.send(b"x")
        one.recv(10)
    except OSError as problem:
        print(errno.errorcode.get(problem.errno, "late"))
with socket.socket(socket.AF_INET6) as one:
    print(errno.errorcode.get(one.connect_ex(("2001:db8::1", 80)), "late"))
"""
    found = mesh.run("a", code).split()
    assert found[0] in ("EPERM", "EHOSTUNREACH", "ECONNREFUSED", "EACCES")
    assert found[1] in ("ENETUNREACH", "EADDRNOTAVAIL")


DNS = """
import socket, struct, sys
server, kind = sys.argv[1], int(sys.argv[2])
name = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[3].split(".")) + b"\\0"
query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)
with socket.socket(socket.AF_INET, kind) as one:
    one.settimeout(3)
    one.connect((server, 53))
    one.sendall(query if kind == socket.SOCK_DGRAM else struct.pack(">H", len(query)) + query)
    answer = one.recv(2000)
    if kind == socket.SOCK_STREAM:
        while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2], "big"):
            answer += one.recv(2000)
    print(socket.inet_ntoa(answer[-4:]))
"""


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.53", "8.8.8.8"])
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_every_resolver_is_the_agent(mesh, server, kind):
    assert mesh.run("a", DNS, server, int(kind), "b.default.svc.cluster.local") == VIP["b"]


def test_names_change_without_a_restart(mesh):
    file = mesh.folder / "names.json"
    before = file.read_text()
    file.with_suffix(".new").write_text('{"names": {"c.default.svc.cluster.local": ["240.240.7.3"]}}')
    file.with_suffix(".new").replace(file)
    try:
        assert mesh.run("a", LOOK_UP, "c") == "240.240.7.3"
    finally:
        file.with_suffix(".new").write_text(before)
        file.with_suffix(".new").replace(file)
    assert mesh.run("a", LOOK_UP, "b") == VIP["b"]


def test_what_an_application_sees_of_the_machine(mesh):
    facts = eval(mesh.run("a", FACTS, mesh.folder, mesh.registry("a")["mesh_netns"]))
    assert (facts["uid"], facts["gid"]) == (os.getuid(), os.getgid())
    assert facts["resolv"].splitlines()[1:] == [
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ]
    assert facts["resolv"].startswith("nameserver 127.0.0.1\n")
    assert "hosts: files dns" in facts["nsswitch"] or facts["nsswitch"] == "FileNotFoundError"
    assert facts["run"] in ([], "PermissionError")
    assert facts["files"] == ["0", "1", "2"]
    assert facts["seccomp"] == seccomp_of_this_process()
    if os.getuid() != 0:
        assert facts["capabilities"] == 0
        assert facts["mesh"] == "PermissionError"


def seccomp_of_this_process():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Seccomp:")).split()[1])


def test_the_machine_keeps_its_own_files(mesh):
    mesh.run("a", "pass")
    assert "svc.cluster.local" not in Path("/etc/resolv.conf").read_text()
    assert str(mesh.folder) not in Path("/proc/self/mountinfo").read_text()


def test_a_probe_stands_beside_the_application(mesh):
    with mesh.network.probe_socket("a") as one:
        one.settimeout(2)
        one.connect(("127.0.0.1", APP_PORT))
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200" in one.recv(1000)
    with mesh.network.probe_socket("a") as one:
        assert one.connect_ex(("127.0.0.1", 9999)) != 0


def test_an_unknown_workload_has_no_probe(mesh):
    with pytest.raises(OSError, match="nobody has no network namespace"):
        mesh.network.probe_socket("nobody")


def test_many_connections_at_once(mesh):
    """Each takes new sockets in three namespaces; not one may fail or stray."""
    answers = []

    def ask():
        answers.extend(get(mesh.ports[0]) for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(answers) == 200
    assert {(answer.status, answer.seen["app"]) for answer in answers} == {(200, "b")}


def test_commands_that_cannot_run_say_so(mesh):
    def run(*command):
        return subprocess.run([*mesh.links["a"].app_prefix, *command], capture_output=True, text=True, timeout=10)

    missing = run("/no/such/program")
    assert missing.returncode == 127
    assert missing.stderr == "lateen: /no/such/program: no such program, or its interpreter is missing\n"
    folder = run("/tmp")
    assert folder.returncode == 126
    assert run("sh", "-c", "exit 7").returncode == 7
    assert run("sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL


def test_a_namespace_that_is_gone_is_named(mesh):
    words = [word if not word.startswith("net=") else "net=/proc/self/fd/999" for word in mesh.links["a"].app_prefix]
    done = subprocess.run([*words, "true"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 125
    assert done.stderr.startswith("lateen: the network of this process cannot be entered: open the workload's network")


def test_an_envoy_killed_and_started_again(mesh):
    mesh.add("second")
    config, port, _ = gateway(mesh.registry("second"), POD["second"])
    first = mesh.envoy("second", config)
    assert get(port).status == 200
    first.process.kill()
    first.process.wait(5)
    mesh.envoy("second", config)
    assert get(port).status == 200
    assert logged(mesh, "b", "inbound")[0] == POD["second"]


def test_a_workload_goes_and_comes_again(mesh):
    first = mesh.add("c")
    assert mesh.run("c", LOOK_UP, "b") == VIP["b"]
    for _ in range(2):
        mesh.call(mesh.network.remove("c"))
    done = subprocess.run([*first.app_prefix, "true"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 125
    assert mesh.add("c").registry["workload_netns"] != first.registry["workload_netns"]
    assert mesh.run("c", LOOK_UP, "b") == VIP["b"]
    mesh.call(mesh.network.remove("c"))
