"""AuthorizationPolicies of action CUSTOM: real authorizers over gRPC and HTTP, asked by a real Envoy.

Beside them AUDIT, dry runs and trust domain aliases: what decides nothing is in the access log.
"""

from __future__ import annotations

import concurrent.futures
import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.rpc import status_pb2

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, serves_mesh
from tests.envoy.harness import Application, free_port
from tests.envoy.tls_support import EdgeAuthority, call

CHECK = "/envoy.service.auth.v3.Authorization/Check"
UNAUTHENTICATED, OK, PERMISSION_DENIED = 401, 0, 7
MESH = """
kind: MeshConfig
extensionProviders:
- name: by-grpc
  envoyExtAuthzGrpc:
    service: auth/grpc.auth.example
    port: 9000
    timeout: 20s
    statusOnError: "503"
    clearRouteCache: true
    includeRequestBodyInCheck: {{maxRequestBytes: 8, allowPartialMessage: true}}
- name: by-http
  envoyExtAuthzHttp:
    service: http.auth.example
    port: 9000
    timeout: 20s
    pathPrefix: /check
    includeRequestHeadersInCheck: [x-user, "x-sent-*"]
    includeAdditionalHeadersInCheck: {{x-gate: edge}}
    includeRequestBodyInCheck: {{maxRequestBytes: 64, packAsBytes: true}}
    headersToUpstreamOnAllow: [x-known-as]
    headersToDownstreamOnDeny: [x-reason]
    headersToDownstreamOnAllow: ["x-note*"]
- name: open
  envoyExtAuthzGrpc: {{service: gone.auth.example, port: 9000, timeout: 1s, failOpen: true}}
- name: closed
  envoyExtAuthzGrpc: {{service: gone.auth.example, port: 9000, timeout: 1s, statusOnError: "500"}}
- {{name: nowhere, envoyExtAuthzGrpc: {{service: nowhere.example, port: 9000}}}}
trustDomainAliases: [old.example]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: grpc, namespace: auth}}
spec:
  hosts: [grpc.auth.example]
  exportTo: [.]
  ports: [{{name: grpc, number: 9000, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {grpc}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: http, namespace: auth}}
spec:
  hosts: [http.auth.example]
  ports: [{{name: http, number: 9000, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {http}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: gone, namespace: auth}}
spec:
  hosts: [gone.auth.example]
  ports: [{{name: grpc, number: 9000, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {gone}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - {{match: [{{headers: {{x-chosen: {{exact: aside}}}}}}], directResponse: {{status: 200, body: {{string: aside}}}}}}
  - route: [{{destination: {{host: shop.example}}}}]
  tcp:
  - {{match: [{{port: {tcp}}}], route: [{{destination: {{host: shop.example}}}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: by-grpc, namespace: edge}}
spec:
  action: CUSTOM
  provider: {{name: by-grpc}}
  rules:
  - to: [{{operation: {{paths: [/grpc/*], notPaths: [/grpc/free]}}}}]
    when: [{{key: source.ip, notValues: [9.9.9.9]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: by-http, namespace: edge}}
spec:
  action: CUSTOM
  provider: {{name: by-http}}
  rules: [{{to: [{{operation: {{paths: [/http/*]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: open, namespace: edge}}
spec:
  action: CUSTOM
  provider: {{name: open}}
  rules: [{{to: [{{operation: {{paths: [/open/*]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: closed, namespace: edge}}
spec:
  action: CUSTOM
  provider: {{name: closed}}
  rules: [{{to: [{{operation: {{paths: [/closed/*], ports: ["{port}"]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nowhere, namespace: edge}}
spec:
  action: CUSTOM
  provider: {{name: nowhere}}
  rules: [{{to: [{{operation: {{paths: [/nowhere/*], ports: ["{port}"]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: unknown, namespace: edge}}
spec:
  action: CUSTOM
  provider: {{name: unknown}}
  rules: [{{to: [{{operation: {{paths: [/unknown/*], ports: ["{port}"]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: denied, namespace: edge}}
spec:
  action: DENY
  rules:
  - {{to: [{{operation: {{paths: [/denied, /grpc/denied], ports: ["{port}"]}}}}]}}
  - from: [{{source: {{principals: [cluster.local/ns/default/sa/foe]}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: watch, namespace: edge}}
spec:
  action: AUDIT
  rules: [{{to: [{{operation: {{paths: [/watched, /denied]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: would-deny, namespace: edge, annotations: {{istio.io/dry-run: "true"}}}}
spec:
  action: DENY
  rules: [{{to: [{{operation: {{paths: [/would-deny]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: would-allow, namespace: edge, annotations: {{istio.io/dry-run: "true"}}}}
spec:
  rules: [{{to: [{{operation: {{paths: [/would-allow]}}}}]}}]
"""


class GrpcAuthorizer:
    """Says yes to requests with ``x-pass``, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        authorizer = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> Any:
                if details.method != CHECK:
                    return None
                return grpc.unary_unary_rpc_method_handler(
                    authorizer.check,
                    external_auth_pb2.CheckRequest.FromString,
                    external_auth_pb2.CheckResponse.SerializeToString,
                )

        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((Handler(),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")

    def check(self, request: Any, _: Any) -> Any:
        self.asked.append(request.attributes)
        seen = request.attributes.request.http
        answer = external_auth_pb2.CheckResponse(status=status_pb2.Status(code=OK))
        if seen.headers.get("x-pass") or not seen.method:
            answer.ok_response.headers.add().header.key = "x-known-as"
            answer.ok_response.headers[0].header.value = "ann"
            if choice := seen.headers.get("x-choose"):
                answer.ok_response.headers.add().header.key = "x-chosen"
                answer.ok_response.headers[1].header.value = choice
            return answer
        answer.status.code = PERMISSION_DENIED
        answer.denied_response.status.code = http_status_pb2.StatusCode.Value("Unauthorized")
        answer.denied_response.body = "who are you?"
        return answer

    def __enter__(self) -> GrpcAuthorizer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


class HttpAuthorizer:
    """Says yes to the user ann, and keeps what it was asked: path, headers, body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        authorizer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                authorizer.answer(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.path, headers, request.rfile.read(int(headers.get("content-length") or 0))))
        passes = headers.get("x-user") == "ann"
        request.send_response(200 if passes else UNAUTHENTICATED)
        for name, value in (("x-known-as", "Ann"), ("x-note-a", "1"), ("x-reason", "unknown"), ("x-other", "1")):
            request.send_header(name, value)
        request.send_header("content-length", "0")
        request.end_headers()

    def __enter__(self) -> HttpAuthorizer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Edge(NamedTuple):
    proxy: Running
    port: int
    mutual: int
    tcp: int
    app: Application
    grpc: GrpcAuthorizer
    http: HttpAuthorizer
    authority: EdgeAuthority

    def get(self, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Any:
        method = "GET" if body is None else "POST"
        return self.proxy.get("shop.example", self.port, path, headers, method, body, address="127.0.0.1")


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    authority = EdgeAuthority()
    with Application("shop") as app, GrpcAuthorizer() as by_grpc, HttpAuthorizer() as by_http:
        port, mutual, tcp = free_port(), free_port(), free_port()
        text = MESH.format(port=port, tcp=tcp, grpc=by_grpc.port, http=by_http.port, gone=free_port())
        text += entry("shop", app.port, namespace="edge")
        text += gateway(serves(port), serves_mesh(mutual), serves(tcp, "TCP"), namespace="edge")
        workload = gateway_workload("edge")
        with sidecar(text, workload=workload, authority=authority, allow_findings=True, logs=True) as proxy:
            yield Edge(proxy, port, mutual, tcp, app, by_grpc, by_http, authority)


PROVIDER = "MeshConfig extensionProviders[]"


@pytest.mark.covers("AuthorizationPolicy action", "AuthorizationPolicy provider.name", f"{PROVIDER}.envoyExtAuthzGrpc")
def test_over_grpc_only_what_matches_is_asked_and_the_answer_decides(edge: Edge) -> None:
    before = len(edge.grpc.asked)
    assert edge.get("/free").status == 200
    assert edge.get("/grpc/free").status == 200
    assert len(edge.grpc.asked) == before
    denied = edge.get("/grpc/a")
    assert (denied.status, denied.body) == (401, b"who are you?")
    assert edge.get("/grpc/b", {"x-pass": "1"}).seen["headers"]["x-known-as"] == "ann"
    assert [asked.request.http.path for asked in edge.grpc.asked[before:]] == ["/grpc/a", "/grpc/b"]
    entry = edge.proxy.logged("/grpc/a")
    assert entry["external_policy"] == "istio-ext-authz-by-grpc-ns[edge]-policy[by-grpc]-rule[0]"
    assert entry["response_code_details"] == "ext_authz_denied"


def test_a_denial_beats_what_the_authorizer_allows(edge: Edge) -> None:
    assert edge.get("/grpc/denied", {"x-pass": "1"}).status == 403


@pytest.mark.covers(
    f"{PROVIDER}.envoyExtAuthzGrpc.includeRequestBodyInCheck.maxRequestBytes",
    f"{PROVIDER}.envoyExtAuthzGrpc.includeRequestBodyInCheck.allowPartialMessage",
    f"{PROVIDER}.envoyExtAuthzGrpc.clearRouteCache",
)
def test_as_much_of_the_body_is_shown_as_was_said_and_the_answer_may_choose_the_route(edge: Edge) -> None:
    answer = edge.get("/grpc/body", {"x-pass": "1"}, b"0123456789")
    assert (answer.status, answer.seen["body"]) == (200, 10)
    assert edge.grpc.asked[-1].request.http.body == "01234567"
    assert edge.get("/grpc/choose", {"x-pass": "1", "x-choose": "aside"}).body == b"aside"


@pytest.mark.covers(
    f"{PROVIDER}.envoyExtAuthzHttp.service",
    f"{PROVIDER}.envoyExtAuthzHttp.port",
    f"{PROVIDER}.envoyExtAuthzHttp.timeout",
    f"{PROVIDER}.envoyExtAuthzHttp.pathPrefix",
    f"{PROVIDER}.envoyExtAuthzHttp.includeRequestHeadersInCheck",
    f"{PROVIDER}.envoyExtAuthzHttp.includeAdditionalHeadersInCheck",
    f"{PROVIDER}.envoyExtAuthzHttp.includeRequestBodyInCheck.packAsBytes",
    f"{PROVIDER}.envoyExtAuthzHttp.headersToUpstreamOnAllow",
    f"{PROVIDER}.envoyExtAuthzHttp.headersToDownstreamOnDeny",
    f"{PROVIDER}.envoyExtAuthzHttp.headersToDownstreamOnAllow",
)
def test_over_http_headers_are_passed_on_as_was_said_and_no_others(edge: Edge) -> None:
    sent = {"x-user": "ann", "x-sent-a": "1", "x-kept": "1"}
    answer = edge.get("/http/a?b=c", sent, b"body")
    path, headers, body = edge.http.asked[-1]
    assert (path, body) == ("/check/http/a?b=c", b"body")
    assert (headers["x-user"], headers["x-sent-a"], headers["x-gate"]) == ("ann", "1", "edge")
    assert "x-kept" not in headers
    seen = answer.seen["headers"]
    assert (answer.status, seen["x-known-as"], answer.headers["x-note-a"]) == (200, "Ann", "1")
    assert "x-other" not in seen and "x-other" not in answer.headers and "x-reason" not in answer.headers
    denied = edge.get("/http/a", {"x-user": "bob"})
    assert (denied.status, denied.headers["x-reason"]) == (401, "unknown")
    assert "x-other" not in denied.headers


@pytest.mark.covers(f"{PROVIDER}.envoyExtAuthzGrpc.failOpen", f"{PROVIDER}.envoyExtAuthzGrpc.statusOnError")
def test_an_authorizer_that_is_gone_lets_through_only_where_that_was_said(edge: Edge) -> None:
    assert edge.get("/open/a").status == 200
    assert edge.get("/closed/a").status == 500


def test_an_authorizer_that_was_never_there_denies_and_is_told(edge: Edge) -> None:
    assert edge.get("/nowhere/a").status == 403
    assert edge.get("/unknown/a").status == 403
    codes = {finding.code for finding in edge.proxy.findings}
    assert {"unknown-provider", "unknown-provider-service"} <= codes


def test_a_connection_of_plain_bytes_is_asked_about_as_a_whole(edge: Edge) -> None:
    before = len(edge.grpc.asked)
    with socket.create_connection(("127.0.0.1", edge.tcp), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert len(edge.grpc.asked) == before + 1
    assert not edge.grpc.asked[-1].request.http.method


def test_an_audit_marks_the_log_and_decides_nothing(edge: Edge) -> None:
    assert edge.get("/watched").status == 200
    assert edge.get("/grpc/free").status == 200
    assert edge.get("/denied").status == 403
    name = "ns[edge]-policy[watch]-rule[0]"
    assert edge.proxy.logged("/watched")["audit_policy"] == name
    assert edge.proxy.logged("/denied")["audit_policy"] == name
    assert edge.proxy.logged("/grpc/free").get("audit_policy") is None


def test_a_dry_run_says_what_it_would_do_and_does_nothing(edge: Edge) -> None:
    for path in ("/would-deny", "/would-allow", "/neither"):
        assert edge.get(path).status == 200
    denying = edge.proxy.logged("/would-deny")
    assert denying["dry_run_deny_policy"] == "ns[edge]-policy[would-deny]-rule[0]"
    assert (denying["dry_run_deny_result"], denying["dry_run_allow_result"]) == ("denied", "denied")
    allowing = edge.proxy.logged("/would-allow")
    assert (allowing["dry_run_deny_result"], allowing["dry_run_allow_result"]) == ("allowed", "allowed")
    assert allowing["dry_run_allow_policy"] == "ns[edge]-policy[would-allow]-rule[0]"
    assert edge.proxy.logged("/neither")["dry_run_allow_result"] == "denied"


@pytest.mark.covers("MeshConfig trustDomainAliases")
def test_an_identity_under_a_former_trust_domain_is_the_same_one(edge: Edge) -> None:
    """Servers take clients of an alias, and rules mean them too; other trust domains are not let in at all."""

    def status(account: str, domain: str) -> int:
        context = edge.authority.context_of(account, domain)
        return call(edge.mutual, "any.example", context, "shop.example").status

    assert status("friend", "cluster.local") == 200
    assert status("friend", "old.example") == 200
    assert status("foe", "cluster.local") == 403
    assert status("foe", "old.example") == 403
    assert status("friend", "strange.example") == 0
