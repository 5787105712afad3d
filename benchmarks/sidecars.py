"""Lateen's own sidecars for benchmarks: planned and translated as in a mesh, run from static files on loopback.

Comes in: resources, and on which sides of a call there is a sidecar. Goes out: where to send, and what runs. With rules
of Mixer that are asked or told, a mixer process runs beside them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.upstream import direct_response_config, free_port, run_envoy
from lateen.control.mixer_link import order_of
from lateen.envoy.static import static_bootstrap
from lateen.envoy.translate import translate
from lateen.identity.certificate import (
    build_request,
    build_root,
    build_workload,
    certificate_pem,
    key_pem,
    new_key,
    read_request,
)
from lateen.mesh.build import build_snapshot
from lateen.mesh.model import MeshSnapshot, Workload, WorkloadPort
from lateen.mixer.order import encoded
from lateen.plan.mixer.rules import asks
from lateen.plan.planner import Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.names import SpiffeId
from lateen.values.protocol import Protocol
from lateen.values.told_names import told_names

FIRST_PREFIX = 160
MIXER_START_S = 20.0
HOST = "server.default.svc.cluster.local"


class Ways(NamedTuple):
    """Where to send, and the processes on the way: the sidecars, and the mixer where there is one."""

    url: str
    sidecars: tuple[int, ...]
    mixer: int | None = None


class Authority:
    """Certificates of one run."""

    def __init__(self) -> None:
        self._now = datetime.datetime.now(datetime.UTC)
        self._key = new_key()
        self._root = build_root(self._key, "cluster.local", self._now)

    def issue(self, name: str) -> tuple[bytes, bytes, bytes]:
        """Chain, key and roots as PEM."""
        key, identity = new_key(), SpiffeId("cluster.local", "default", name)
        public = read_request(build_request(key, identity))
        told = told_names(name, {"app": name})
        life = datetime.timedelta(days=1)
        leaf = build_workload(public, identity, self._root, self._key, self._now, life, told=told)
        return certificate_pem(leaf), bytes(key_pem(key)), certificate_pem(self._root)


class Sidecars:
    """Makes ways to a server of its own each. ``log`` is where sidecars log, empty for nowhere; ``size`` bytes are
    answered."""

    def __init__(self, size: int, log: str) -> None:
        self._size, self._log = size, log
        self._authority = Authority()
        self._prefixes = iter(range(FIRST_PREFIX, 254, 2))

    @contextlib.contextmanager
    def way(self, *, both: bool, rules: str = "") -> Iterator[Ways]:
        """Through the server's sidecar; with ``both`` through the client's as well, with mutual TLS between them."""
        port, prefix = free_port(), next(self._prefixes)
        client, server = _workload("client", prefix, port), _workload("server", prefix + 1, port)
        resources = _resources(_service(port) + rules)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lt-")))
            settings = Settings(default_mtls="STRICT" if both else "DISABLE", mixer_socket=str(folder / "mixer.sock"))
            snapshot = build_snapshot(settings, resources, [client, server])
            planner = Planner(snapshot)
            mixer = stack.enter_context(_mixer(folder, snapshot, resources)) if asks(snapshot.mixer) else None
            app, inbound = f"127.{server.prefix}.255.1", f"127.{server.prefix}.255.2"
            stack.enter_context(run_envoy(direct_response_config(port, self._size, app), port, app))
            pids = [stack.enter_context(run_envoy(self._configured(planner, server), port, inbound))]
            if not both:
                yield Ways(f"http://{inbound}:{port}/", tuple(pids), mixer)
                return
            _, _, third, fourth = snapshot.services[HOST].address.split(".")
            outbound = f"127.{client.prefix}.{third}.{fourth}"
            pids.append(stack.enter_context(run_envoy(self._configured(planner, client), port, outbound)))
            yield Ways(f"http://{outbound}:{port}/", tuple(pids), mixer)

    def _configured(self, planner: Planner, workload: Workload) -> dict[str, object]:
        plan = planner.plan(proxy_of(workload), access_log=self._log).plan
        certificate, key, roots = self._authority.issue(workload.name)
        text = static_bootstrap(plan, translate(plan), certificate=certificate, key=key, roots=roots)
        config: dict[str, object] = json.loads(text)
        return config


@contextlib.contextmanager
def _mixer(folder: Path, snapshot: MeshSnapshot, resources: list[Resource]) -> Iterator[int]:
    """A mixer that is at work on the rules; gives its process id."""
    (folder / "mixer").mkdir()
    order = order_of(snapshot, resources, ())
    (folder / "mixer" / "order.json").write_bytes(encoded(order))
    command = [sys.executable, "-m", "lateen", "mixer", "serve", "--run-dir", str(folder)]
    with (folder / "mixer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + MIXER_START_S
        while not (folder / "mixer.sock").exists():
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"no mixer: {(folder / 'mixer.log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _service(port: int) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: server}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: {port}}}]}}
"""


def _resources(text: str) -> list[Resource]:
    documents, _ = parse_documents(text.encode(), "benchmark")
    decoded = [decode(document) for document in documents]
    wrong = [finding.render() for _, findings in decoded for finding in findings if finding.is_error]
    if wrong:
        raise ValueError("\n".join(wrong))
    return [found for found, _ in decoded if found is not None]


def _workload(name: str, prefix: int, port: int) -> Workload:
    return Workload(
        id=name,
        namespace="default",
        name=name,
        labels=(("app", name),),
        service_account=name,
        address="",
        ports=(WorkloadPort("http", port, port, Protocol.HTTP),) if name == "server" else (),
        ready=True,
        network="loopback",
        prefix=prefix,
    )
