"""Every socket of a running mesh is in the documents, and gives nothing to those whom it is not for."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.features.running import ROOT

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]
PAGE = ROOT / "docs" / "reference" / "sockets.md"
LEASE = re.compile("@lateen-loopback-prefix-[0-9]+")
TRY = """
import socket, sys
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("open", path)
    except OSError:
        print("refused", path)
"""


def documented():
    """The socket names of the page's table, as patterns of paths in the run directory."""
    names = re.findall(r"^\| `([^`]+)`", PAGE.read_text(), re.MULTILINE)
    return [re.compile(re.escape(name).replace("INSTANCE", "[^/]+")) for name in names if name.endswith(".sock")]


def processes(mesh):
    supervisor = psutil.Process(mesh.record["supervisor"]["pid"])
    return [supervisor, *supervisor.children(recursive=True)]


def test_each_unix_socket_is_documented_and_for_its_owner_alone(mesh):
    found = [path for path in mesh.run_dir.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    assert len(found) >= 8
    known = documented()
    for path in found:
        name = str(path.relative_to(mesh.run_dir))
        assert any(pattern.fullmatch(name) for pattern in known), f"{name} is not in {PAGE.name}"
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, name
    assert stat.S_IMODE(mesh.run_dir.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can be somebody else")
def test_another_user_is_let_into_none_of_them(mesh):
    found = [str(path) for path in mesh.run_dir.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
    done = subprocess.run(
        [*other, shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable, "-c", TRY, *found],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"refused {path}" for path in found]


def test_nothing_of_the_mesh_listens_beyond_what_was_asked_for(mesh):
    """Gateways' ports are what the project asks for; sidecars without namespaces have addresses of 127.0.0.0/8."""
    gateways = {mesh.port, mesh.tls_port}
    for process in processes(mesh):
        try:
            listening = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        for one in listening:
            is_local = one.laddr.ip.startswith("127.") or one.laddr.ip == "::1"
            assert is_local or Path(f"/proc/{process.pid}/ns/net").stat() != Path("/proc/self/ns/net").stat(), one
            if process.name() != "python3" and one.laddr.ip == "127.0.0.1":
                assert one.laddr.port in gateways or mesh.capture == "loopback", (process.cmdline()[:3], one)


def test_no_unix_socket_without_a_file_is_served(mesh):
    """Such sockets (abstract ones) have no mode: every user of the machine could connect, were there a stream."""
    assert "`@lateen-loopback-prefix-N`" in PAGE.read_text()
    held = set()
    for process in processes(mesh):
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(str(link.readlink()))
    spaces = {Path(f"/proc/{process.pid}/net/unix").read_text() for process in processes(mesh)}
    entries = [line.split() for text in spaces for line in text.splitlines()[1:]]
    ours = [entry for entry in entries if len(entry) > 7 and f"socket:[{entry[6]}]" in held]
    assert len(ours) >= 8
    abstract = [(entry[7], entry[4]) for entry in ours if not entry[7].startswith("/")]
    datagrams = "0002"
    assert [one for one in abstract if not (LEASE.fullmatch(one[0]) and one[1] == datagrams)] == []


@pytest.mark.parametrize(
    ("name", "target"),
    [("control.sock", "/v1/explain"), ("control.sock", "/v1/denials/echo-v1-0"), ("control.sock", "/v1/ca/tokens"),
     ("api.sock", "/v1/scale"), ("api.sock", "/v1/restart")],
)  # fmt: skip
def test_what_is_too_large_or_nested_too_deep_is_refused(mesh, name, target):
    entry = b'[{"x": %s}]' if "denials" in target else b'{"client": "a", "url": "b", "claims": {"x": %s}}'
    deep = entry % (b"[" * 100_000 + b"]" * 100_000)
    huge = entry % (b'"' + b"x" * (40 << 20) + b'"')
    assert [posted(mesh.run_dir / name, target, body) for body in (deep, huge)] == [400, 400]
    assert mesh.status()["control_plane"]["ready"]


def posted(socket_path, target, body):
    connection = http.client.HTTPConnection("lateen")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(socket_path))
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before all of it was sent
            connection.request("POST", target, body)
        answer = connection.response_class(connection.sock)
        answer.begin()
        return answer.status
    finally:
        connection.close()
