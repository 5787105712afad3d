"""What reaches a workload, on the real Envoy: modes of mesh TLS, protocols told by first bytes, a Sidecar's ingress."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from pathlib import Path

import pytest

from lateen.mesh.model import Workload, WorkloadPort
from lateen.values.protocol import Protocol, parse_protocol
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Authority

PORT = 18080
HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
PEER = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def server(protocol: str = "", **more: object) -> Workload:
    ports = (WorkloadPort("p", PORT, PORT, parse_protocol(protocol) or Protocol.UNSPECIFIED),)
    fields = {"labels": (("app", "server"),), "service_account": "server", "address": "", "ports": ports, **more}
    return Workload(id="server-0", namespace="default", name="server", ready=True, **fields)  # type: ignore[arg-type]


def app_address(proxy: Running) -> str:
    return f"127.{proxy.prefix}.255.1"


def connect(proxy: Running, port: int = PORT) -> socket.socket:
    return socket.create_connection((proxy.inbound, port), timeout=5)


def mesh_tls(
    authority: Authority, tmp_path: Path, alpn: list[str], account: str = "client", subject: str = ""
) -> ssl.SSLContext:
    pem = authority.mesh(account, subject=subject)
    (tmp_path / "pem").write_bytes(pem.certificate + pem.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=pem.roots.decode())
    context.load_cert_chain(tmp_path / "pem")
    context.set_alpn_protocols(alpn)
    return context


class Server:
    """Listens where the application would, answers HTTP with what it saw and other bytes with ``tcp:`` before them."""

    def __init__(self, address: str, port: int = PORT, greeting: bytes = b"") -> None:
        self._socket = socket.create_server((address, port))
        self._greeting = greeting
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # else the thread in accept() keeps the port
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                if self._greeting:
                    connection.sendall(self._greeting)
                data = connection.recv(65536)
                if data.split(b"\r\n")[0].endswith(b"HTTP/1.1"):
                    has_id = b"x-request-id" in data.lower()
                    body = b"http:id" if has_id else b"http:as-it-came"
                    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                    connection.sendall(head.encode() + body)
                elif data:
                    connection.sendall(b"tcp:" + data)


def ask_http(connection: socket.socket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return response.read()
    finally:
        connection.close()


def ask_tcp(connection: socket.socket) -> bytes:
    connection.sendall(b"hello\n")
    try:
        return connection.recv(100)
    finally:
        connection.close()


@pytest.mark.covers("PeerAuthentication mtls.mode")
def test_an_undeclared_port_under_permissive_takes_all_that_there_is(tmp_path: Path) -> None:
    authority = Authority()
    with sidecar(PEER.format(mode="PERMISSIVE"), workload=server(), authority=authority) as proxy:  # noqa: SIM117
        with Server(app_address(proxy)):
            assert ask_http(connect(proxy)) == b"http:id"
            assert ask_tcp(connect(proxy)) == b"tcp:hello\n"
            for alpn, ask, wanted in (
                ("istio-http/1.1", ask_http, b"http:id"),
                ("istio", ask_tcp, b"tcp:hello\n"),
                ("istio", ask_http, b"http:as-it-came"),
            ):
                context = mesh_tls(authority, tmp_path, [alpn])
                assert ask(context.wrap_socket(connect(proxy))) == wanted
            with connect(proxy) as foreign:  # TLS of the application's own passes as it comes
                foreign.sendall(HELLO)
                assert foreign.recv(100) == b"tcp:" + HELLO


@pytest.mark.covers("PeerAuthentication mtls.mode")
def test_under_strict_only_mesh_tls_is_taken(tmp_path: Path) -> None:
    authority = Authority()
    with sidecar(PEER.format(mode="STRICT"), workload=server(), authority=authority) as proxy:  # noqa: SIM117
        with Server(app_address(proxy)):
            with pytest.raises((http.client.BadStatusLine, ConnectionError)):
                ask_http(connect(proxy))
            context = mesh_tls(authority, tmp_path, ["istio-http/1.1"])
            assert ask_http(context.wrap_socket(connect(proxy))) == b"http:id"


@pytest.mark.covers("PeerAuthentication mtls.mode")
def test_an_undeclared_port_without_mesh_tls_takes_http_other_bytes_and_tls_as_it_comes() -> None:
    with sidecar(PEER.format(mode="DISABLE"), workload=server()) as proxy, Server(app_address(proxy)):
        assert ask_http(connect(proxy)) == b"http:id"
        assert ask_tcp(connect(proxy)) == b"tcp:hello\n"
        with connect(proxy) as foreign:
            foreign.sendall(HELLO)
            assert foreign.recv(100) == b"tcp:" + HELLO


@pytest.mark.covers("PeerAuthentication mtls.mode")
def test_a_server_that_speaks_first_is_not_kept_waiting_without_tls() -> None:
    with sidecar(PEER.format(mode="DISABLE"), workload=server("TCP")) as proxy:  # noqa: SIM117
        with Server(app_address(proxy), greeting=b"220 hello\r\n"), connect(proxy) as connection:
            assert connection.recv(100) == b"220 hello\r\n"


@pytest.mark.parametrize(("blocks", "answer"), [("127.0.0.0/8", b"220 hello\r\ntcp:hi"), ("10.0.0.0/8", b"")])
def test_a_server_says_nothing_to_who_may_not_call_it(blocks: str, answer: bytes) -> None:
    text = (
        PEER.format(mode="DISABLE")
        + f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: only}}
spec: {{rules: [{{from: [{{source: {{ipBlocks: [{blocks}]}}}}]}}]}}
"""
    )
    with (
        sidecar(text, workload=server("TCP")) as proxy,
        Server(app_address(proxy), greeting=b"220 hello\r\n"),
        connect(proxy) as connection,
    ):
        connection.sendall(b"hi")
        with contextlib.suppress(ConnectionError):
            assert b"".join(iter(lambda: connection.recv(100), b"")) == answer


@pytest.mark.covers(
    "Sidecar ingress[].defaultEndpoint", "Sidecar ingress[].port.number", "Sidecar ingress[].port.protocol"
)
def test_a_sidecars_ingress_says_all_ports_and_where_they_lead(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    text = (
        PEER.format(mode="DISABLE")
        + f"""
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  workloadSelector: {{labels: {{app: server}}}}
  ingress:
  - port: {{number: 18081, protocol: HTTP, name: http}}
    defaultEndpoint: 127.0.0.1:18082
  - port: {{number: 18083, protocol: TCP, name: tcp}}
    defaultEndpoint: unix://{path}
"""
    )
    with sidecar(text, workload=server("HTTP")) as proxy:
        with Server(app_address(proxy), 18082):
            assert ask_http(connect(proxy, 18081)) == b"http:id"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            with connect(proxy, 18083) as client:
                client.sendall(b"ping")
                served, _ = listening.accept()
                with served:
                    assert served.recv(10) == b"ping"
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)  # the service's own port is not in ingress


@pytest.mark.covers(
    "Sidecar ingress[].tls.mode", "Sidecar ingress[].tls.serverCertificate", "Sidecar ingress[].tls.privateKey"
)
def test_a_sidecars_ingress_ends_tls_for_clients_outside_of_the_mesh(tmp_path: Path) -> None:
    pem = Authority().issue("outside.example")
    (tmp_path / "c").write_bytes(pem.certificate)
    (tmp_path / "k").write_bytes(pem.key)
    text = (
        PEER.format(mode="DISABLE")
        + f"""
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  ingress:
  - port: {{number: 18443, protocol: HTTPS, name: https}}
    defaultEndpoint: 127.0.0.1:18082
    tls: {{mode: SIMPLE, serverCertificate: {tmp_path}/c, privateKey: {tmp_path}/k}}
"""
    )
    with sidecar(text, workload=server("HTTP")) as proxy, Server(app_address(proxy), 18082):
        context = ssl.create_default_context(cadata=pem.roots.decode())
        connection = context.wrap_socket(connect(proxy, 18443), server_hostname="outside.example")
        assert ask_http(connection) == b"http:id"
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            ask_http(connect(proxy, 18443))
