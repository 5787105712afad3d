"""Certificates that come, change and go while a gateway runs: over the control plane, and in files."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from lateen.control.coordinator import Coordinator
from lateen.control.store import ResourceStore
from lateen.envoy.resources import EnvoyResources
from lateen.mesh.model import Workload
from lateen.settings import Settings
from lateen.sources.files import FileEvent
from tests.envoy.harness import Application, Pem, eventually, free_port
from tests.envoy.plane import ID, Plane, controlled
from tests.envoy.tls_support import EdgeAuthority, call, connected, context_for, refuses, secret

GATEWAY = Workload(ID, "default", "gw", (("istio", "ingressgateway"),), "gw", "", is_gateway=True, ready=True)
TEXT = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: one, protocol: HTTPS}}
    hosts: [one.example]
    tls: {{mode: SIMPLE, credentialName: one}}
  - port: {{number: {port}, name: two, protocol: HTTPS}}
    hosts: [two.example]
    tls: {{mode: SIMPLE, credentialName: two}}
  - port: {{number: {port}, name: files, protocol: HTTPS}}
    hosts: [files.example]
    tls: {{mode: SIMPLE, serverCertificate: {folder}/crt, privateKey: {folder}/key}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all}}
spec: {{hosts: ["*"], gateways: [edge], http: [{{route: [{{destination: {{host: app.backend}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app}}
spec:
  hosts: [app.backend]
  ports: [{{name: http, number: 8080, protocol: HTTP}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {application}}}}}]
"""


class Live:
    """A gateway that follows its configuration, as in a running mesh."""

    def __init__(self, port: int, text: str, folder: Path, authority: EdgeAuthority) -> None:
        self.port, self.folder, self.authority = port, folder, authority
        self._text, self._secrets = text, dict[str, str]()
        self._store = ResourceStore("default")
        self._given: dict[str, EnvoyResources] = {}
        self.coordinator = Coordinator(Settings(), self._publish)
        self.plane: Plane | None = None

    def _publish(self, name: str, resources: EnvoyResources | None) -> None:
        if resources is not None:
            self._given[name] = resources

    def configure(self, **secrets: Pem | None) -> EnvoyResources:
        """Give or (None) take Secrets; what the proxy should have now."""
        for name, pem in secrets.items():
            self._secrets.pop(name, None)
            if pem is not None:
                self._secrets[name] = secret(name, tls_crt=pem.certificate, tls_key=pem.key)
        data = (self._text + "".join(self._secrets.values())).encode()
        self._store.apply(FileEvent("mesh.yaml", data))
        self.coordinator.update(self._store.resources(), [GATEWAY])
        if self.plane is not None:
            self.plane.serve(self._given[ID])
        return self._given[ID]

    def files(self, pem: Pem) -> None:
        """Put a certificate into the place of the files, each in one step."""
        for name, data in (("crt", pem.certificate), ("key", pem.key)):
            (self.folder / f"{name}.new").write_bytes(data)
            (self.folder / f"{name}.new").rename(self.folder / name)

    @property
    def context(self) -> ssl.SSLContext:
        return context_for(self.authority.roots)

    def served(self, name: str) -> int:
        """The serial number of the certificate that answers for a name; 0 if nobody does."""
        answer = call(self.port, name, self.context)
        return 0 if answer.refused else x509.load_der_x509_certificate(answer.certificate).serial_number


def serial(pem: Pem) -> int:
    return x509.load_pem_x509_certificate(pem.certificate).serial_number


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    authority, port = EdgeAuthority(), free_port()
    with Application("app") as application:
        text = TEXT.format(port=port, application=application.port, folder=tmp_path)
        made = Live(port, text, tmp_path, authority)
        made.files(authority.issue("files.example"))
        resources = made.configure(one=authority.issue("one.example"))
        with controlled(resources, authority.mesh("gw")) as (plane, _):
            made.plane = plane
            yield made


def ask(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n")
    return connection.recv(65536).partition(b"\r\n")[0]


def outcomes(live: Live, name: str, done: threading.Event) -> list[bool]:
    """Whether each of the new connections was refused that are made one after another until ``done``."""
    found = []
    while not done.is_set():
        found.append(refuses(live.port, name, live.context))
    return found


@pytest.mark.covers("Gateway servers[].tls.credentialName")
def test_a_secret_changes_and_no_connection_fails(live: Live) -> None:
    second, done = live.authority.issue("one.example"), threading.Event()
    with connected(live.port, "one.example", live.context) as connection, ThreadPoolExecutor() as pool:
        assert ask(connection) == b"HTTP/1.1 200 OK"
        refused = pool.submit(outcomes, live, "one.example", done)
        try:
            live.configure(one=second)
            eventually(lambda: live.served("one.example") == serial(second))
        finally:
            done.set()
        assert refused.result() and not any(refused.result())
        assert ask(connection) == b"HTTP/1.1 200 OK"


@pytest.mark.covers("Gateway servers[].tls.credentialName")
def test_a_secret_comes_and_goes_and_the_others_do_not_notice(live: Live) -> None:
    assert refuses(live.port, "two.example", live.context)
    assert "missing-secret" in {finding.code for finding in live.coordinator.findings}
    live.configure(two=live.authority.issue("two.example"))
    eventually(lambda: live.served("two.example"))
    assert not [finding for finding in live.coordinator.findings if finding.is_error]
    live.configure(two=None)
    eventually(lambda: refuses(live.port, "two.example", live.context))
    assert live.served("one.example")


@pytest.mark.covers("Gateway servers[].tls.serverCertificate", "Gateway servers[].tls.privateKey")
def test_files_change_in_place(live: Live) -> None:
    second = live.authority.issue("files.example")
    assert live.served("files.example") not in (0, serial(second))
    live.files(second)
    eventually(lambda: live.served("files.example") == serial(second))
