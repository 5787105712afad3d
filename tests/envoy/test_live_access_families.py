"""Ways in which access rules of meshes were walked around, each tried on a real Envoy.

One gateway has a port for each kind of rule, all with the same routes: ``/admin`` and ``secret.example`` lead to the
guarded application, all else to the open one. However a request is spelled, the guarded application never gets one that
the rules deny, and rules and routes agree on what a request is.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves
from tests.envoy.harness import Application, free_port
from tests.envoy.token_support import Issuer

KINDS = ("open", "deny", "allow", "token", "hosts", "headers", "audit")
MESH = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - match: [{{uri: {{prefix: /admin}}}}, {{authority: {{regex: "(?i)secret[.]example(:[0-9]+)?"}}}}]
    route: [{{destination: {{host: guarded.example}}}}]
  - route: [{{destination: {{host: free.example}}}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: edge}}
spec: {{jwtRules: [{{issuer: https://a.example, jwks: '{jwks}'}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: deny, namespace: edge}}
spec:
  action: DENY
  rules:
  - to: [{{operation: {{ports: ["{deny}"], paths: ["/admin*"]}}}}]
  - from: [{{source: {{notRequestPrincipals: ["*"]}}}}]
    to: [{{operation: {{ports: ["{token}"], paths: ["/admin*"]}}}}]
  - to: [{{operation: {{ports: ["{hosts}"], hosts: [secret.example]}}}}]
  - to: [{{operation: {{ports: ["{headers}"]}}}}]
    when: [{{key: "request.headers[x-role]", values: [admin, "root*", "*-all"]}}]
  - to: [{{operation: {{ports: ["{headers}"]}}}}]
    when: [{{key: "request.headers[x-any]", values: ["*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: allow, namespace: edge}}
spec:
  rules:
  - to: [{{operation: {{ports: [{others}]}}}}]
  - to: [{{operation: {{ports: ["{allow}"], paths: ["/admin*"]}}}}]
"""
PATHS = (
    "/admin", "/admin/", "/admin/x", "/adminx", "//admin", "///admin", "/./admin", "/x/../admin", "/x/./../admin",
    "/x//../admin", "/%61dmin", "/%61%64%6d%69%6e", "/a%64min", "/admin%2F", "/admin%2f..%2fx", "/%2Fadmin",
    "/%2fadmin", "/x%2F..%2Fadmin", "/x/%2e%2e/admin", "/x/%2E%2E/admin", "/x/.%2e/admin", "/x/%2e./admin",
    "/%2e/admin", "/.%2fadmin", "/x\\..\\admin", "\\admin", "/\\admin", "/x%5C..%5Cadmin", "/%5Cadmin", "/admin;p",
    "/admin;p=1/x", "/;p/admin", "/;/admin", "/x/..;/admin", "/x/..;p=1/admin", "/x/%2e%2e;/admin", "/x/..%3b/admin",
    "/admin?x", "/admin?/x", "/?/admin", "/x?/../admin", "/admin%3Fx", "/admin#x", "/x#/../admin", "/admin%23x",
    "/admin*", "/*/admin", "/*", "/ADMIN", "/Admin", "/%41dmin", "/aDMIN/x", "/admin.", "/admin/.", "/admin/..",
    "/admin/../x", "/admin/x/..", "/.admin", "/admin%00", "/admin%20", "/%20admin", "/admin%09", "/admin%0a",
    "/admi%6E", "/admin%252f", "/%2561dmin", "/admin//", "//admin//x", "/x/../../admin", "/../admin", "/..//admin",
    "/admin+x", "/admin|x", "/admin^", "/admin%7e", "/~/../admin", "/admin%c0%af",
)  # fmt: skip


class Edge(NamedTuple):
    proxy: Running
    ports: dict[str, int]
    issuer: Issuer

    def ask(self, kind: str, path: str = "/", host: str = "any.example", *headers: bytes) -> tuple[int, str, str]:
        """Status, the application that answered (empty: none did), and the path that it saw."""
        lines = [f"GET {path} HTTP/1.1".encode("latin-1"), f"host: {host}".encode(), *headers, b"connection: close"]
        with socket.create_connection(("127.0.0.1", self.ports[kind]), timeout=20) as connection:
            connection.sendall(b"\r\n".join([*lines, b"", b""]))
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
            except http.client.HTTPException:
                return 0, "", ""
            body = response.read()
        seen = json.loads(body) if response.status == 200 and body[:1] == b"{" else {}
        return response.status, seen.get("app", ""), seen.get("path", "")


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    issuer, ports = Issuer("https://a.example"), {kind: free_port() for kind in KINDS}
    with contextlib.ExitStack() as stack:
        text = MESH.format(
            others=", ".join(f'"{port}"' for kind, port in ports.items() if kind != "allow"),
            jwks=issuer.jwks,
            **ports,
        )
        text += gateway(*map(serves, ports.values()), namespace="edge")
        for name in ("guarded", "free"):
            text += entry(name, stack.enter_context(Application(name)).port, namespace="edge")
        yield Edge(stack.enter_context(sidecar(text, workload=gateway_workload("edge"))), ports, issuer)


def test_there_are_as_many_spellings_as_have_gone_wrong() -> None:
    assert len(set(PATHS)) >= 60


@pytest.mark.parametrize("path", PATHS)
def test_rules_and_routes_agree_on_what_a_path_is(edge: Edge, path: str) -> None:
    status, app, seen = edge.ask("open", path)
    if not app:
        assert status in (0, 400), (path, status)  # no request at all for Envoy, whatever the rules
        assert {edge.ask(kind, path)[1] for kind in ("deny", "allow", "token")} == {""}
        return
    denied = (403, "", "")
    is_guarded = app == "guarded"
    assert is_guarded == seen.startswith("/admin"), (path, seen)  # what the application sees is what was judged
    assert edge.ask("deny", path) == (denied if is_guarded else (status, app, seen))
    assert edge.ask("token", path) == (denied if is_guarded else (status, app, seen))
    assert edge.ask("allow", path) == ((status, app, seen) if is_guarded else denied)


@pytest.mark.parametrize("path", ["/admin", "//admin", "/x/../admin", "/%61dmin"])
def test_with_a_token_the_guarded_path_is_open(edge: Edge, path: str) -> None:
    bearer = f"authorization: Bearer {edge.issuer.token()}".encode()
    assert edge.ask("token", path, "any.example", bearer)[:2] == (200, "guarded")


HOSTS = ("secret.example", "SECRET.example", "Secret.Example", "secret.example:80", "secret.example:8443",
         "secret.example.", "SECRET.EXAMPLE.", "secret.example.:80", "sEcReT.eXaMpLe:1")  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_denied_host_is_denied_in_every_spelling(edge: Edge, host: str) -> None:
    assert edge.ask("open", "/", host)[1] == "guarded"
    assert edge.ask("hosts", "/", host) == (403, "", "")


@pytest.mark.parametrize("host", ["other.example", "secretxexample", "secret.example.com", "asecret.example"])
def test_another_host_is_not(edge: Edge, host: str) -> None:
    assert edge.ask("hosts", "/", host)[1] == "free"


DENIED_HEADERS = (
    (b"x-role: admin",),
    (b"X-ROLE: admin",),
    (b"x-role: user", b"x-role: admin"),
    (b"x-role: admin", b"x-role: user"),
    (b"x-role: root\xff",),
    (b"x-role: root\xc3\xa4",),
    (b"x-role: \xff-all",),
    (b"x-role: user", b"x-role: root-like"),
    (b"x-any: 1",),
    (b"x-any:",),
    (b"x-any: \xff\xfe",),
    (b"x-any: 1", b"x-any: 2"),
)


@pytest.mark.parametrize("headers", DENIED_HEADERS)
def test_a_denied_header_is_denied_however_often_and_with_any_bytes(edge: Edge, headers: tuple[bytes, ...]) -> None:
    assert edge.ask("headers", "/", "any.example", *headers)[0] == 403


@pytest.mark.parametrize("headers", [(), (b"x-role: administrator",), (b"x-role: user, admin2",), (b"x-other: admin",)])
def test_other_headers_are_not(edge: Edge, headers: tuple[bytes, ...]) -> None:
    assert edge.ask("headers", "/", "any.example", *headers)[0] == 200
