"""Small stand-ins for the rooms around the supervisor: the host's network, no certificates, a tiny proxy process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lateen.local.control_child import ControlChild
from lateen.local.events import EventLog
from lateen.local.links import IdentityRequest, Link, LinkRequest
from lateen.local.mesh import Mesh
from lateen.local.procfs import RUN_ID_VARIABLE, reference
from lateen.local.project import Project
from lateen.local.project_file import read_project
from lateen.local.registry import Registry
from lateen.local.rundir import RunBook, RunDir, RunRecord

PROXY = """#!{python}
import json, os, socket, sys
path = json.load(open(sys.argv[sys.argv.index("-c") + 1]))["admin"]["address"]["pipe"]["path"]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(8)
while True:
    connection, _ = server.accept()
    request = connection.recv(65536).split(b" ")
    body = b"LIVE"
    if b"prometheus" in request[1]:
        body = b"# TYPE envoy_istio_requests_total counter\\n"
        body += b'envoy_istio_requests_total{{reporter="destination",response_code="200"}} 7\\n'
    connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
    connection.close()
"""

CONTROL = """
import json, os, socket, sys
listeners = {}
for name in ("xds.sock", "ca.sock", "control.sock"):
    listeners[name] = socket.socket(socket.AF_UNIX)
    listeners[name].bind(sys.argv[1] + "/" + name)
    listeners[name].listen(8)
while True:
    connection, _ = listeners["control.sock"].accept()
    connection.recv(65536)
    names = os.listdir(sys.argv[1] + "/proxies")
    proxies = [{"id": name, "types": {"clusters": {"state": "SYNCED"}}} for name in names]
    body = json.dumps({"findings": [], "proxies": proxies}).encode()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
    connection.close()
"""


class HostNetwork:
    """Every instance stands in the host's own network."""

    mode = "host"
    reason = "a test"

    def __init__(self) -> None:
        self.present: set[str] = set()

    async def start(self) -> None:
        return

    async def add(self, request: LinkRequest) -> Link:
        self.present.add(request.instance_id)
        return Link(address="127.0.0.1", registry={"mode": "loopback", "prefix": 7})

    async def remove(self, instance_id: str) -> None:
        self.present.discard(instance_id)

    def probe_socket(self, instance_id: str) -> socket.socket:
        return socket.socket()

    async def close(self) -> None:
        return


class NoIdentities:
    """Nobody asks for a certificate."""

    async def add(self, request: IdentityRequest) -> None:
        return

    async def remove(self, instance_id: str) -> None:
        return

    async def close(self) -> None:
        return


def project(text: str, folder: Path) -> Project:
    file = folder / "lateen.yaml"
    file.write_text(text)
    found, findings = read_project(file.read_bytes(), str(file))
    assert found is not None, [finding.render() for finding in findings]
    return found


@asynccontextmanager
async def running_mesh(wanted: Project, folder: Path) -> AsyncIterator[Mesh]:
    """A mesh whose control plane and proxies are stand-ins; stopped at the end if it still runs."""
    run = RunDir(folder / "run")
    run.create()
    assert run.lock()
    own = reference(os.getpid())
    assert own is not None
    record = RunRecord("test", str(uuid.uuid4()), wanted.file, 0.0, own, processes={})
    book = RunBook(run, record)
    proxy = folder / "proxy"
    proxy.write_text(PROXY.format(python=sys.executable))
    proxy.chmod(0o755)
    events, registry = EventLog(), Registry(run)
    registry.publish_services(wanted.services)
    environment = {**os.environ, RUN_ID_VARIABLE: record.run_id}
    argv = [sys.executable, "-c", CONTROL, str(run.path)]
    control = ControlChild(run, argv, environment, events, book.note)
    control.start()
    mesh = Mesh(
        wanted,
        run,
        book,
        network=HostNetwork(),
        identities=NoIdentities(),
        control=control,
        stop_asked=asyncio.Event(),
        registry=registry,
        events=events,
        envoy=proxy,
        environment=environment,
    )
    mesh.start()
    try:
        yield mesh
    finally:
        async with asyncio.timeout(20):
            await mesh.stop()
        run.remove()
