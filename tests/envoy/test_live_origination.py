"""Bytes on their way out of a pool, as DestinationRules ask for: PROXY protocol, tunnels, TLS origination."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.envoy.from_yaml import sidecar
from tests.envoy.harness import Application, Authority, Pem, eventually
from tests.envoy.pools import HOST, PORT, entry_of, rule
from tests.envoy.tls_support import EdgeAuthority


@pytest.mark.covers("DestinationRule trafficPolicy.proxyProtocol.version")
@pytest.mark.parametrize(("version", "start"), [("V1", b"PROXY TCP4 127."), ("V2", b"\r\n\r\n\x00\r\nQUIT\n")])
def test_the_proxy_protocol_goes_before_the_bytes(version: str, start: bytes) -> None:
    with Heard() as heard, sidecar(tcp_entry(heard.port) + rule(f"{{proxyProtocol: {{version: {version}}}}}")) as proxy:
        heard.send(proxy.address(HOST), b"hello")
        eventually(lambda: heard.bytes.startswith(start) and heard.bytes.endswith(b"hello"))


@pytest.mark.covers(
    "DestinationRule trafficPolicy.tunnel.protocol",
    "DestinationRule trafficPolicy.tunnel.targetHost",
    "DestinationRule trafficPolicy.tunnel.targetPort",
)
@pytest.mark.parametrize("method", ["CONNECT", "POST"])
def test_bytes_go_through_an_http_proxy(method: str) -> None:
    tunnel = f"{{tunnel: {{protocol: {method}, targetHost: far.example, targetPort: 9000}}}}"
    with Heard() as heard, sidecar(tcp_entry(heard.port) + rule(tunnel) + tcp_route()) as proxy:
        heard.send(proxy.address(HOST), b"hello")
        wanted = b"CONNECT far.example:9000 HTTP/1.1" if method == "CONNECT" else b"POST / HTTP/1.1"
        eventually(lambda: heard.bytes.startswith(wanted) and b"far.example:9000" in heard.bytes)


class Heard:
    """A server that keeps the first bytes that it hears."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.bytes = b""
        self._clients: list[socket.socket] = []

    def __enter__(self) -> Heard:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: object) -> None:
        with contextlib.suppress(OSError):
            while part := connection.recv(4096):  # type: ignore[attr-defined]
                self.bytes += part

    def send(self, address: str, data: bytes) -> None:
        client = socket.create_connection((address, PORT), timeout=5)
        client.sendall(data)
        self._clients.append(client)

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._server.close()


def tcp_entry(port: int) -> str:
    return entry_of("TCP", f"{{address: 127.0.0.1, ports: {{tcp: {port}}}}}")


def tcp_route() -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec: {{hosts: [{HOST}], tcp: [{{route: [{{destination: {{host: {HOST}, port: {{number: {PORT}}}}}}}]}}]}}
---
"""


def tls_entry(port: int) -> str:
    return entry_of("HTTP", f"{{address: 127.0.0.1, ports: {{http: {port}}}}}")


def secret(name: str, **entries: bytes) -> str:
    listed = ", ".join(f"{key.replace('_', '.')}: {base64.b64encode(value).decode()}" for key, value in entries.items())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{{listed}}}\n---\n"


@contextlib.contextmanager
def tls_server(
    authority: Authority, name: str, *, mutual: bool = False, pem: Pem | None = None
) -> Iterator[tuple[int, list[str]]]:
    """An HTTP server behind TLS: its port, and the server names that clients asked for."""
    pem = pem or authority.issue(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as certificate, tempfile.NamedTemporaryFile() as key:
        certificate.write(pem.certificate)
        certificate.flush()
        key.write(pem.key)
        key.flush()
        context.load_cert_chain(certificate.name, key.name)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority.roots.decode())
    asked: list[str] = []
    context.sni_callback = lambda _, found, __: asked.append(str(found))
    with Application("tls") as app:
        app._server.socket = context.wrap_socket(app._server.socket, server_side=True)
        yield app.port, asked


@pytest.mark.covers(
    "DestinationRule trafficPolicy.tls.mode",
    "DestinationRule trafficPolicy.tls.sni",
    "DestinationRule trafficPolicy.tls.subjectAltNames",
    "DestinationRule trafficPolicy.tls.credentialName",
    "DestinationRule trafficPolicy.tls.insecureSkipVerify",
)
@pytest.mark.parametrize(
    ("tls", "status"),
    [
        ("{mode: SIMPLE, credentialName: own}", 200),
        ("{mode: SIMPLE, credentialName: own, sni: far.example, subjectAltNames: [shop.example]}", 200),
        ("{mode: SIMPLE, credentialName: own, subjectAltNames: [other.example]}", 503),
        ("{mode: SIMPLE}", 503),
        ("{mode: SIMPLE, insecureSkipVerify: true}", 200),
        ("{mode: DISABLE}", 503),
    ],
)
def test_tls_origination(tls: str, status: int) -> None:
    authority = Authority()
    selected = rule(f"{{tls: {tls}}}").replace("spec:", "spec:\n  workloadSelector: {matchLabels: {app: client}}", 1)
    with tls_server(authority, HOST) as (port, asked):
        text = tls_entry(port) + selected + secret("own", ca_crt=authority.roots)
        with sidecar(text) as proxy:
            assert proxy.get(HOST, PORT).status == status
    if status == 200:
        assert asked[-1] == ("far.example" if "sni" in tls else HOST)


@pytest.mark.covers("DestinationRule trafficPolicy.tls.mode", "DestinationRule workloadSelector.matchLabels")
def test_mutual_tls_origination_by_credential() -> None:
    authority = Authority()
    pem = authority.issue("client.example")
    made = secret("own", tls_crt=pem.certificate, tls_key=pem.key, ca_crt=authority.roots)
    mutual = rule("{tls: {mode: MUTUAL, credentialName: own}}")
    selected = mutual.replace("spec:", "spec:\n  workloadSelector: {matchLabels: {app: client}}", 1)
    with tls_server(authority, HOST, mutual=True) as (port, _):
        with sidecar(tls_entry(port) + selected + made) as proxy:
            assert proxy.get(HOST, PORT).status == 200
        with sidecar(tls_entry(port) + mutual + made) as proxy:
            assert proxy.get(HOST, PORT).status == 503


@pytest.mark.covers(
    "DestinationRule trafficPolicy.tls.clientCertificate",
    "DestinationRule trafficPolicy.tls.privateKey",
    "DestinationRule trafficPolicy.tls.caCertificates",
)
def test_mutual_tls_origination_by_files(tmp_path: Path) -> None:
    authority = Authority()
    pem = authority.issue("client.example")
    for name, data in (("crt", pem.certificate), ("key", pem.key), ("ca", authority.roots)):
        (tmp_path / name).write_bytes(data)
    files = f"clientCertificate: {tmp_path}/crt, privateKey: {tmp_path}/key, caCertificates: {tmp_path}/ca"
    policy = rule(f"{{tls: {{mode: MUTUAL, {files}}}}}")
    with tls_server(authority, HOST, mutual=True) as (port, _), sidecar(tls_entry(port) + policy) as proxy:
        assert proxy.get(HOST, PORT).status == 200


@pytest.mark.covers("DestinationRule trafficPolicy.tls.caCrl")
def test_a_server_whose_certificate_was_taken_back_is_not_called(tmp_path: Path) -> None:
    authority = EdgeAuthority()
    good, gone = authority.issue(HOST), authority.issue(HOST)
    (tmp_path / "ca").write_bytes(authority.roots)
    (tmp_path / "crl").write_bytes(authority.revoke(gone.certificate))
    policy = rule(f"{{tls: {{mode: SIMPLE, caCertificates: {tmp_path}/ca, caCrl: {tmp_path}/crl}}}}")
    for pem, status in ((good, 200), (gone, 503)):
        with tls_server(authority, HOST, pem=pem) as (port, _), sidecar(tls_entry(port) + policy) as proxy:
            assert proxy.get(HOST, PORT).status == status
