"""Ways in which access rules of meshes were walked around, each tried on a real Envoy.

One gateway has a port for each kind of rule, all with the same routes: ``/admin`` and ``secret.example`` lead to the
guarded application, all else to the open one. However a request is spelled, the guarded application never gets one that
the rules deny, and rules and routes agree on what a request is.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import posixpath
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from lateen.control.playing import http2
from tests.envoy import malformed
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves
from tests.envoy.harness import Application, free_port
from tests.envoy.token_support import Issuer

END = b"GET /end HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n\r\n"
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
  - match:
    - uri: {{prefix: /admin}}
    - authority: {{regex: "(?i)(secret|a[.]hidden|adm[.]any)[.]example(:[0-9]+)?"}}
    - headers: {{x-way: {{regex: ".*admin.*"}}}}
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
  - to: [{{operation: {{ports: ["{deny}"], paths: ["/admin*", /exact]}}}}]
  - from: [{{source: {{notRequestPrincipals: ["*"]}}}}]
    to: [{{operation: {{ports: ["{token}"], paths: ["/admin*"]}}}}]
  - to: [{{operation: {{ports: ["{hosts}"], hosts: [secret.example, "*.hidden.example", "adm.*"]}}}}]
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
    guarded: Application
    free: Application

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

    def send(self, kind: str, data: bytes) -> None:
        """Send these bytes and one more request behind them, and wait for what comes back."""
        is_http2, received = data.startswith(http2.PREFACE), b""
        connection = socket.create_connection(("127.0.0.1", self.ports[kind]), timeout=0.5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.sendall(data if is_http2 else data + END)
            more = b"."
            while more and not (http2.is_complete(received) if is_http2 else b"connection: close" in received):
                more = connection.recv(65536)
                received += more

    def seen_of_all(self, kind: str) -> list[dict[str, Any]]:
        """What the applications see of all requests that servers read in different ways."""
        apps = (self.guarded, self.free)
        before = [len(app.seen) for app in apps]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda data: self.send(kind, data), malformed.ALL))
        return [entry for app, count in zip(apps, before, strict=True) for entry in app.seen[count:]]


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
        guarded, free = (stack.enter_context(Application(name)) for name in ("guarded", "free"))
        text += entry("guarded", guarded.port, namespace="edge") + entry("free", free.port, namespace="edge")
        proxy = stack.enter_context(sidecar(text, workload=gateway_workload("edge")))
        yield Edge(proxy, ports, issuer, guarded, free)


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
    way = seen.partition("?")[0]
    assert not {".", ".."} & set(way.split("/")) and "//" not in way, (path, seen)  # and reads in one way alone
    assert edge.ask("deny", path) == (denied if is_guarded else (status, app, seen))
    assert edge.ask("token", path) == (denied if is_guarded else (status, app, seen))
    assert edge.ask("allow", path) == ((status, app, seen) if is_guarded else denied)


@pytest.mark.parametrize("path", ["/admin", "//admin", "/x/../admin", "/%61dmin"])
def test_with_a_token_the_guarded_path_is_open(edge: Edge, path: str) -> None:
    bearer = f"authorization: Bearer {edge.issuer.token()}".encode()
    assert edge.ask("token", path, "any.example", bearer)[:2] == (200, "guarded")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/exact", 403), ("/exact?", 403), ("/exact?a=/b", 403), ("/x/../exact?a#", 400), ("//%65xact?a", 403),
     ("/exact/", 200), ("/exact%3Fa", 200), ("/x?/exact", 200)],
)  # fmt: skip
def test_a_path_is_compared_without_its_query(edge: Edge, path: str, status: int) -> None:
    assert edge.ask("deny", path)[0] == status


HOSTS = ("secret.example", "SECRET.example", "Secret.Example", "secret.example:80", "secret.example:8443",
         "secret.example.", "SECRET.EXAMPLE.", "secret.example.:80", "sEcReT.eXaMpLe:1", "a.hidden.example",
         "A.Hidden.EXAMPLE", "a.hidden.example:80", "a.hidden.example.", "a.hidden.example.:8080",
         "adm.any.example", "ADM.any.example:80", "Adm.any.example.")  # fmt: skip


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
    (b"x-role: user", b"x-role: \xff", b"x-role: admin"),
)


@pytest.mark.parametrize("headers", DENIED_HEADERS)
def test_a_denied_header_is_denied_however_often_and_with_any_bytes(edge: Edge, headers: tuple[bytes, ...]) -> None:
    assert edge.ask("headers", "/", "any.example", *headers)[0] == 403


@pytest.mark.parametrize("headers", [(), (b"x-role: administrator",), (b"x-role: user, admin2",), (b"x-other: admin",)])
def test_other_headers_are_not(edge: Edge, headers: tuple[bytes, ...]) -> None:
    assert edge.ask("headers", "/", "any.example", *headers)[0] == 200


def test_a_pattern_takes_any_bytes(edge: Edge) -> None:
    """Envoys from before 2026-09 matched no pattern with bytes that are no UTF-8: such headers slipped through."""
    for value in (b"admin", b"admin\xff", b"\xe4admin", b"\xc3\xa4admin\xff\xfe"):
        assert edge.ask("open", "/", "any.example", b"x-way: " + value)[1] == "guarded"
    assert edge.ask("open", "/", "any.example", b"x-way: \xff")[1] == "free"


def test_no_application_sees_what_rules_did_not(edge: Edge) -> None:
    seen = edge.seen_of_all("deny")
    assert seen and not [entry for entry in seen if posixpath.normpath(entry["path"]).startswith("/admin")]
    assert not [entry for entry in edge.seen_of_all("hosts") if entry["headers"]["host"] == "secret.example"]
    assert not [entry for entry in edge.seen_of_all("headers") if entry["headers"].get("x-role")]
    assert [entry for entry in edge.seen_of_all("open") if entry["path"].startswith("/admin")]
