"""Modes of PeerAuthentication x kinds of clients: who gets through to the application, on the real Envoy."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Authority, Pem, unverified
from tests.envoy.test_live_inbound import PORT, Server, app_address, server

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: server}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: {port}}}]}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mesh, namespace: istio-system}}
spec: {{mtls: {{mode: {mesh}}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: namespace}}
spec: {{mtls: {{mode: {namespace}}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: server}}
spec:
  selector: {{matchLabels: {{app: server}}}}
  mtls: {{mode: {own}}}
  portLevelMtls: {{{port}: {{mode: {at_port}}}}}
"""
CLIENTS = ("plain", "mesh", "mesh without alpn", "tls without certificate", "other authority", "other trust domain",
           "no mesh identity")  # fmt: skip
TAKEN = {
    "STRICT": {"mesh", "mesh without alpn"},
    "PERMISSIVE": {"plain", "mesh"},
    "DISABLE": {"plain"},
}
LEVELS = {
    "STRICT": ("DISABLE", "DISABLE", "STRICT", "UNSET"),
    "PERMISSIVE": ("STRICT", "PERMISSIVE", "UNSET", "UNSET"),
    "DISABLE": ("STRICT", "STRICT", "STRICT", "DISABLE"),
}
"""For each mode that comes out, what mesh, namespace, workload and port say: the nearest that says anything counts."""


def status(proxy: Running, authority: Authority, client: str) -> int:
    """What a client of a kind is answered; 0 where it is not answered at all."""
    try:
        with socket.create_connection((proxy.inbound, PORT), timeout=20) as plain:
            connection = plain if client == "plain" else context(authority, client).wrap_socket(plain)
            with contextlib.closing(connection):
                connection.sendall(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
                response = http.client.HTTPResponse(connection)
                response.begin()
                return response.status if response.read().startswith(b"http") else 0
    except (OSError, http.client.HTTPException):
        return 0


def context(authority: Authority, client: str) -> ssl.SSLContext:
    pems: dict[str, Callable[[], Pem | None]] = {
        "other authority": lambda: Authority().mesh("client"),
        "other trust domain": lambda: authority.mesh("client", "other.example"),
        "no mesh identity": lambda: authority.issue("client.example"),
        "tls without certificate": lambda: None,
    }
    alpn = () if client == "mesh without alpn" else ("istio-http/1.1", "istio", "http/1.1")
    return unverified(pems.get(client, lambda: authority.mesh("client"))(), alpn)


@pytest.fixture(scope="module", params=list(TAKEN))
def running(request: pytest.FixtureRequest) -> Iterator[tuple[str, Running, Authority]]:
    mesh, namespace, own, at_port = LEVELS[request.param]
    authority = Authority()
    text = SERVICE.format(port=PORT, mesh=mesh, namespace=namespace, own=own, at_port=at_port)
    with sidecar(text, workload=server("http"), authority=authority) as proxy, Server(app_address(proxy)):
        yield request.param, proxy, authority


@pytest.mark.covers(
    "PeerAuthentication mtls.mode",
    "PeerAuthentication portLevelMtls{}.mode",
    "PeerAuthentication selector.matchLabels",
)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_port_takes_what_its_mode_says(running: tuple[str, Running, Authority], client: str) -> None:
    mode, proxy, authority = running
    assert (status(proxy, authority, client) == 200) == (client in TAKEN[mode]), (mode, client)
