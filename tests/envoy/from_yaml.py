"""One real Envoy from YAML as a user writes it: resources in, the plan in the loopback layout, a static file, traffic.

    with Application("v1") as app, sidecar(f"... ServiceEntry with endpoint 127.0.0.1:{app.port} ...") as proxy:
        answer = proxy.get("shop.example", 8080, "/path")

The proxy stands on addresses of 127.0.0.0/8 of its own, so tests may run beside each other. Ports of services must be
above 1023, as an ordinary user runs this too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lateen.control.coordinator import Coordinator, ProxyOptions
from lateen.control.store import ResourceStore
from lateen.envoy.resources import EnvoyResources
from lateen.findings import Finding
from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.members import LOOPBACK_INBOUND
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.plan.model import ProxyPlan
from lateen.plan.planner import Planner, proxy_of
from lateen.settings import Settings
from lateen.sources.files import read_file
from tests.envoy.harness import Answer, Authority, Envoy, eventually, run_file, write_file

LOCK_PORT = 20009
ACCESS_LOG = "access.log"
CLIENT = Workload("client-0", "default", "client", (("app", "client"),), "client", "", ready=True)


@contextlib.contextmanager
def own_prefix() -> Iterator[int]:
    """A second octet that no other test on this machine uses; a socket on its last address keeps it."""
    for prefix in random.sample(range(128, 255), 127):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lock:
            try:
                lock.bind((f"127.{prefix}.255.254", LOCK_PORT))
            except OSError:
                continue
            yield prefix
            return
    raise AssertionError("all prefixes are taken")


class Running(Envoy):
    """A running Envoy, what it was made from, and ways to call through it."""

    plan: ProxyPlan
    resources: EnvoyResources
    snapshot: MeshSnapshot
    findings: tuple[Finding, ...]
    prefix: int

    def address(self, host: str) -> str:
        """Where the proxied application calls a service (a full host name of the registry)."""
        return in_loopback_view(self.snapshot.services[host].address, self.prefix)

    def logged(self, path: str) -> dict[str, Any]:
        """The entry of the access log for a request, which is written once it has ended."""
        log = self.folder / ACCESS_LOG

        def found() -> dict[str, Any] | None:
            text = log.read_text() if log.exists() else ""
            lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may not be whole yet
            entries = [json.loads(line) for line in lines]
            return next((entry for entry in reversed(entries) if entry.get("path") == path), None)

        return eventually(found)

    @property
    def inbound(self) -> str:
        """Where the proxy takes calls to its workload's ports."""
        return in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", self.prefix)

    def get(
        self,
        host: str,
        port: int,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        address: str = "",
    ) -> Answer:
        """One request to a service on a connection of its own; ``address`` where it is not the service's (gateways)."""
        connection = http.client.HTTPConnection(address or self.address(host), port, timeout=10)
        try:
            connection.request(method, path, body=body, headers={"host": host, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@contextlib.contextmanager
def sidecar(
    text: str,
    *,
    workload: Workload | None = None,
    others: Sequence[Workload] = (),
    settings: Settings | None = None,
    authority: Authority | None = None,
    allow_findings: bool = False,
    logs: bool = False,
    settings_of_process: Mapping[str, Any] | None = None,
) -> Iterator[Running]:
    """Run the proxy of ``workload`` (by default a client named ``client``) with the configuration of ``text``.

    ``others`` are further workloads of the mesh. Errors fail the test unless they are expected. ``logs``: it writes an
    access log. ``settings_of_process`` take the place of fields of the bootstrap.
    """
    with own_prefix() as prefix, tempfile.TemporaryDirectory(prefix="lt-") as name:
        own = _placed(workload or CLIENT, prefix)
        folder = Path(name)
        (folder / "mesh.yaml").write_text(textwrap.dedent(text))
        store = ResourceStore("default")
        store.apply(read_file(folder / "mesh.yaml"))
        published: dict[str, EnvoyResources | None] = {}
        options = ProxyOptions(access_log=str(folder / ACCESS_LOG) if logs else "")
        coordinator = Coordinator(settings or Settings(), published.__setitem__, lambda _: options)
        coordinator.update(store.resources(), [own, *others])
        findings = (*store.findings(), *coordinator.findings)
        assert allow_findings or not any(finding.is_error for finding in findings), findings
        snapshot, resources = coordinator.snapshot, published[own.id]
        assert snapshot is not None and resources is not None
        plan = Planner(snapshot).plan(proxy_of(own), access_log=options.access_log).plan
        pem = (authority or Authority()).mesh(own.service_account)
        write_file(folder, plan, resources, pem)
        if settings_of_process:
            file = folder / "envoy.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **settings_of_process}))
        with run_file(folder) as envoy:
            running = Running(folder, envoy.process)
            running.plan, running.resources, running.snapshot = plan, resources, snapshot
            running.findings, running.prefix = findings, prefix
            yield running


def _placed(workload: Workload, prefix: int) -> Workload:
    return msgspec.structs.replace(workload, network="loopback", prefix=prefix)
