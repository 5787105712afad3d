"""AuthorizationPolicies at a gateway: they guard its HTTP, its mutual TLS and its plain TCP, also while it has none."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, serves_mesh
from tests.envoy.harness import Answer, Application, free_port
from tests.envoy.tls_support import Echo, EdgeAuthority, call, greeting

MESH = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - {{match: [{{uri: {{prefix: /static}}}}], directResponse: {{status: 200, body: {{string: static}}}}}}
  - {{route: [{{destination: {{host: app.example}}}}]}}
  tcp: [{{route: [{{destination: {{host: bytes.example}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: for-all, namespace: istio-system}}
spec:
  action: DENY
  rules:
  - to: [{{operation: {{paths: [/admin, /admin/*], ports: ["{port}"]}}}}]
  - to: [{{operation: {{paths: [/never], ports: ["{shut}"]}}}}]  # no bytes have a path: closed
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: selecting, namespace: edge}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  rules:
  - to: [{{operation: {{hosts: [shop.example], ports: ["{port}"]}}}}]
  - from: [{{source: {{remoteIpBlocks: [127.0.0.9]}}}}]
    to: [{{operation: {{hosts: [office.example], ports: ["{port}"]}}}}]
  - from: [{{source: {{namespaces: [default], principals: [cluster.local/ns/default/sa/friend]}}}}]
    to: [{{operation: {{ports: ["{mutual}"], methods: [GET]}}}}]
  - from: [{{source: {{ipBlocks: [127.0.0.0/8]}}}}]
    to: [{{operation: {{ports: ["{tcp}", "{shut}", "{greets}"]}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: not-here, namespace: default}}
spec: {{action: DENY, rules: [{{}}]}}
"""


class Edge(NamedTuple):
    proxy: Running
    port: int
    mutual: int
    tcp: int
    shut: int
    greets: int
    authority: EdgeAuthority

    def get(self, host: str, path: str = "/", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.proxy.get(host, self.port, path, named, address="127.0.0.1")

    def said(self, port: int, length: int) -> bytes:
        """The first bytes that come back to a client that sends a word; fewer where the connection is closed."""
        found = b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stream, contextlib.suppress(ConnectionError):
            stream.sendall(b"hello")
            while len(found) < length and (part := stream.recv(100)):
                found += part
        return found


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    authority, ports = EdgeAuthority(), [free_port() for _ in range(5)]
    names = dict(zip(("port", "mutual", "tcp", "shut", "greets"), ports, strict=True))
    with Application("app") as app, Echo("bytes") as echo:
        text = entry("app", app.port) + entry("bytes", echo.port, "TCP", number=9000, namespace="edge")
        servers = (serves(names["tcp"], "TCP"), serves(names["shut"], "TCP"), serves(names["greets"], "MYSQL"))
        text += gateway(serves(names["port"]), serves_mesh(names["mutual"]), *servers, namespace="edge")
        text += MESH.format(**names)
        with sidecar(text, workload=gateway_workload("edge"), authority=authority) as proxy:
            yield Edge(proxy, *ports, authority)


@pytest.mark.covers("AuthorizationPolicy rules[].to[].operation.hosts", "AuthorizationPolicy selector.matchLabels")
def test_only_the_allowed_host_is_served(edge: Edge) -> None:
    assert edge.get("shop.example").seen["app"] == "app"
    assert edge.get("SHOP.example:80").seen["app"] == "app"
    denied = edge.get("other.example")
    assert (denied.status, denied.body) == (403, b"RBAC: access denied")


@pytest.mark.parametrize(
    "path", ["/admin", "/admin/", "/admin?x=1", "//admin", "/a/../admin", "/./admin/x", "/%61dmin"]
)
def test_a_mesh_wide_denial_holds_for_every_spelling(edge: Edge, path: str) -> None:
    assert edge.get("shop.example", path).status == 403


def test_what_the_gateway_answers_by_itself_is_guarded_too(edge: Edge) -> None:
    assert edge.get("shop.example", "/static").body == b"static"
    assert edge.get("other.example", "/static").status == 403


def test_a_client_cannot_claim_its_address(edge: Edge) -> None:
    assert edge.get("office.example").status == 403
    assert edge.get("office.example", x_forwarded_for="127.0.0.9").status == 403
    assert edge.get("office.example", x_envoy_external_address="127.0.0.9").status == 403


@pytest.mark.covers("AuthorizationPolicy rules[].from[].source.principals")
def test_mutual_tls_tells_who_calls(edge: Edge) -> None:
    def status(account: str) -> int:
        context = edge.authority.context_of(account)
        return call(edge.mutual, "any.example", context).status

    assert status("friend") == 200
    assert status("stranger") == 403


def test_bytes_are_guarded_before_the_server_can_speak(edge: Edge) -> None:
    assert edge.said(edge.tcp, 11) == b"bytes\nHELLO"
    assert edge.said(edge.shut, 1) == b""
    with socket.create_connection(("127.0.0.1", edge.greets), timeout=10) as stream:
        assert greeting(stream) == "bytes"
