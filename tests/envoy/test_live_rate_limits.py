"""RateLimits that each proxy counts by itself, each on a host of its own at one gateway, and at a sidecar."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import (
    ANSWERS,
    gateway,
    gateway_workload,
    request_authentication,
    serves,
    serves_mesh,
    virtual_service,
)
from tests.envoy.harness import Answer, Authority, free_port, raw_status
from tests.envoy.test_live_inbound import Server, app_address, connect, mesh_tls, server
from tests.envoy.tls_support import EdgeAuthority, call
from tests.envoy.token_support import Issuer

RULES = {
    "all": "",
    "burst": "limit: {requests: 1, per: 1h, burst: 3}",
    "quick": "limit: {requests: 20, per: 1s, burst: 1}",
    "client": "per: [source.principal]",
    "address": "per: [source.ip]",
    "remote": "per: [remote.ip]",
    "header": "per: ['request.headers[X-Key]']",
    "claim": "per: ['request.auth.claims[sub]']",
    "nested": "per: ['request.auth.claims[place][room]']",
    "token": "per: [request.auth.principal]",
    "path": "per: [request.path]",
    "both": "per: [request.method, 'request.headers[x-key]']",
    "methods": "match: {methods: [POST, PUT]}",
    "paths": "match: {paths: [{exact: /a}, {prefix: /b/}, {regex: '/c/[0-9]+'}, {template: '/d/{*}/e/{**}'}]}",
    "headers": "match: {headers: {X-Kind: {exact: big}, x-any: {}}}",
    "port": "match: {ports: [{mutual}]}",
    "grpc": "match: {methods: [POST]}",
}
MESH = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no, namespace: edge}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: [/denied]}}}}]}}]}}
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {{name: all, namespace: edge}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  rules:
{rules}
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {{name: wide, namespace: istio-system}}
spec:
  rules:
  - {{match: {{hosts: [two.example]}}, limit: {{requests: 5, per: 1h}}}}
  - {{match: {{hosts: [TWO.example]}}, limit: {{requests: 2, per: 1h}}}}
  response:
    status: 503
    headers: {{X-Why: 100% full}}
    body: "come back later\\n"
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {{name: tried, namespace: edge}}
spec:
  rules: [{{name: probe, match: {{hosts: ["tried.*"]}}, limit: {{requests: 1, per: 1h}}}}]
  dryRun: true
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {{name: elsewhere, namespace: edge}}
spec: {{selector: {{matchLabels: {{istio: other}}}}, rules: [{{limit: {{requests: 1, per: 1h}}}}]}}
"""


def rules(mutual: int) -> str:
    found = ""
    for name, said in RULES.items():
        said = said.replace("{mutual}", str(mutual))
        match = f"{{hosts: [{name}.example]}}"
        if said.startswith("match: {"):
            match, said = f"{{hosts: [{name}.example], {said.removeprefix('match: {')}", ""
        parts = [f"name: {name}", f"match: {match}", *([said] if said else [])]
        if "limit:" not in said:
            parts.append("limit: {requests: 2, per: 1h}")
        found += f"  - {{{', '.join(parts)}}}\n"
    return found


class Edge(NamedTuple):
    proxy: Running
    port: int
    mutual: int
    issuer: Issuer
    authority: EdgeAuthority

    def ask(self, rule: str, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        return self.proxy.get(f"{rule}.example", self.port, path, headers, method, address="127.0.0.1")

    def statuses(self, times: int, rule: str, *args: Any, **kwargs: Any) -> list[int]:
        return [self.ask(rule, *args, **kwargs).status for _ in range(times)]

    def bearing(self, rule: str, **claims: Any) -> int:
        return self.ask(rule, headers={"authorization": f"Bearer {self.issuer.token(**claims)}"}).status

    def as_account(self, rule: str, account: str, headers: dict[str, str] | None = None) -> int:
        context = self.authority.context_of(account)
        return call(self.mutual, "any.example", context, f"{rule}.example", headers=headers).status


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    authority, issuer, port, mutual = EdgeAuthority(), Issuer("https://a.example"), free_port(), free_port()
    text = gateway(serves(port), serves_mesh(mutual), namespace="edge") + virtual_service(ANSWERS, namespace="edge")
    text += request_authentication(f"[{{issuer: https://a.example, jwks: '{issuer.jwks}'}}]", "edge")
    text += MESH.format(rules=rules(mutual))
    with sidecar(text, workload=gateway_workload("edge"), authority=authority, logs=True) as proxy:
        yield Edge(proxy, port, mutual, issuer, authority)


LIMITED = [200, 200, 429]


@pytest.mark.covers("RateLimit rules[].limit.requests", "RateLimit rules[].limit.per", "RateLimit rules[].match.hosts")
def test_a_limit_holds_and_tells_who_said_so(edge: Edge) -> None:
    assert edge.statuses(3, "all") == LIMITED
    refused = edge.ask("all", "/refused")
    assert refused.headers["x-lateen-rate-limit"] == "edge/all/all"
    assert (refused.headers["retry-after"], refused.headers["x-ratelimit-limit"]) == ("1800", "2")
    assert refused.headers["x-ratelimit-remaining"] == "0"
    entry = edge.proxy.logged("/refused")
    assert (entry["response_flags"], entry["rate_limit"]) == ("RL", "edge/all/all")
    counted = edge.proxy.metrics("http_local_rate_limit_enforced")
    assert {labels["envoy_local_http_ratelimit_prefix"]: value for labels, value in counted}["edge/all/all"] == 2


@pytest.mark.covers("RateLimit rules[].limit.burst")
def test_a_burst_is_let_through_at_once(edge: Edge) -> None:
    assert edge.statuses(4, "burst") == [200, 200, 200, 429]


def test_a_bucket_fills_again(edge: Edge) -> None:
    passed = sum(edge.statuses(1, "quick")[0] == 200 for _ in range(400))
    assert passed > 2


@pytest.mark.covers("RateLimit rules[].per")
def test_each_client_has_a_bucket_that_no_header_changes(edge: Edge) -> None:
    assert [edge.as_account("client", "ann") for _ in range(3)] == LIMITED
    for name in ("x-forwarded-client-cert", "x-forwarded-for", "authorization"):
        forged = "By=x;URI=spiffe://cluster.local/ns/default/sa/other" if "cert" in name else "1.2.3.4"
        assert edge.as_account("client", "ann", {name: forged}) in (401, 429)
    assert edge.as_account("client", "bob") == 200
    assert edge.statuses(3, "client") == LIMITED, "callers without a certificate share a bucket"


@pytest.mark.covers("RateLimit rules[].per")
def test_addresses_are_those_of_the_connection_or_of_who_is_believed(edge: Edge) -> None:
    assert edge.statuses(3, "address", headers={"x-forwarded-for": "1.2.3.4"}) == LIMITED
    assert edge.statuses(1, "address", headers={"x-forwarded-for": "1.2.3.5"}) == [429]
    with socket.create_connection(("127.0.0.1", edge.port), source_address=("127.0.0.9", 0)) as other:
        other.sendall(b"GET / HTTP/1.1\r\nhost: address.example\r\n\r\n")
        assert other.recv(100).startswith(b"HTTP/1.1 200")
    forged = [edge.ask("remote", headers={"x-forwarded-for": f"1.2.3.{last}"}).status for last in range(3)]
    assert forged == LIMITED, "the edge believes no client about its address"


@pytest.mark.covers("RateLimit rules[].per")
def test_headers_whatever_bytes_they_have(edge: Edge) -> None:
    assert edge.statuses(3, "header", headers={"x-key": "a"}) == LIMITED
    assert edge.statuses(1, "header", headers={"x-key": "b"}) == [200]
    assert edge.statuses(3, "header") == LIMITED, "requests without the header share a bucket"
    assert edge.statuses(3, "header", headers={"x-key": ""}) == LIMITED
    long = ["x" * (300 + more) for more in range(3)]
    assert [edge.ask("header", headers={"x-key": key}).status for key in long] == LIMITED, "keys are cut"
    bytes_alone = b"GET / HTTP/1.1\r\nhost: header.example\r\nx-key: \xff\xfe\x80\r\n\r\n"
    assert [raw_status(edge.port, bytes_alone) for _ in range(3)] == LIMITED


@pytest.mark.covers("RateLimit rules[].per")
def test_claims_of_good_tokens(edge: Edge) -> None:
    assert [edge.bearing("claim", sub="ann") for _ in range(3)] == LIMITED
    assert edge.bearing("claim", sub="bob") == 200
    assert edge.bearing("claim", sub="ann", other="x") == 429
    assert [edge.bearing("nested", place={"room": room}) for room in (4, 4, 4, 5)] == [*LIMITED, 200]
    assert [edge.bearing("token", sub="ann") for _ in range(3)] == LIMITED
    assert edge.statuses(3, "token") == LIMITED, "requests without a token share a bucket"


@pytest.mark.covers("RateLimit rules[].per")
def test_paths_and_several_things_together(edge: Edge) -> None:
    assert [edge.ask("path", f"/a?{number}").status for number in range(3)] == LIMITED
    assert edge.ask("path", "/b").status == 200
    assert edge.ask("path", "/x/../a").status == 429
    assert edge.statuses(3, "both", headers={"x-key": "a"}) == LIMITED
    assert edge.ask("both", method="PUT", headers={"x-key": "a"}).status == 200
    assert edge.ask("both", headers={"x-key": "b"}).status == 200


@pytest.mark.covers(
    "RateLimit rules[].match.methods",
    "RateLimit rules[].match.paths[].exact",
    "RateLimit rules[].match.paths[].prefix",
    "RateLimit rules[].match.paths[].regex",
    "RateLimit rules[].match.paths[].template",
    "RateLimit rules[].match.headers",
    "RateLimit rules[].match.ports",
    "RateLimit rules[].name",
)
def test_only_what_matches_is_counted(edge: Edge) -> None:
    assert [edge.ask("methods", method=name).status for name in ("GET", "POST", "GET", "PUT", "GET")] == [200] * 5
    assert edge.ask("methods", method="POST").status == 429
    assert edge.ask("methods").status == 200
    for path in ("/b", "/c/x", "/c/7/8", "/d/e", "/d/1/2/e/3", "/a/b", "/"):
        assert edge.statuses(3, "paths", path) == [200] * 3, path
    assert edge.ask("paths", "/a?q").status == edge.ask("paths", "/b/x").status == 200
    for path in ("/a", "/b/", "/c/42?x=1", "/d/1/e/", "/d/1/e/2/3"):
        assert edge.ask("paths", path).status == 429, path
    assert edge.statuses(3, "headers", headers={"x-kind": "big"}) == [200] * 3
    assert edge.statuses(3, "headers", headers={"x-kind": "big", "x-any": ""}) == LIMITED
    assert edge.statuses(3, "port") == [200] * 3
    assert [edge.as_account("port", "ann") for _ in range(3)] == LIMITED
    assert edge.statuses(3, "other") == [200] * 3
    assert "x-ratelimit-limit" not in edge.ask("other").headers


@pytest.mark.covers(
    "RateLimit response.status", "RateLimit response.headers", "RateLimit response.body", "RateLimit selector"
)
def test_every_rule_counts_by_itself_and_answers_as_it_is_told(edge: Edge) -> None:
    assert edge.statuses(3, "two") == [200, 200, 503]
    refused = edge.ask("two", "/two")
    assert refused.body == b"come back later\n"
    assert refused.headers["x-why"] == "100% full"
    assert refused.headers["x-lateen-rate-limit"] == "istio-system/wide/1"
    assert edge.proxy.logged("/two")["rate_limit"] == "istio-system/wide/1"
    edge.statuses(1, "two")
    assert edge.ask("two").headers["x-lateen-rate-limit"] == "istio-system/wide/0", "what one refuses counts before it"


@pytest.mark.covers("RateLimit dryRun")
def test_what_is_tried_is_counted_and_refuses_nothing(edge: Edge) -> None:
    assert edge.statuses(3, "tried") == [200] * 3
    limited = edge.proxy.metrics("http_local_rate_limit_rate_limited")
    values = {labels["envoy_local_http_ratelimit_prefix"]: value for labels, value in limited}
    assert values["edge/tried/probe"] == 2


def test_grpc_clients_are_told_in_their_own_words(edge: Edge) -> None:
    answers = [edge.ask("grpc", "/a.B/C", "POST", {"content-type": "application/grpc"}) for _ in range(3)]
    assert [answer.headers.get("grpc-status") == "8" for answer in answers] == [False, False, True]
    assert answers[2].status == 200


def test_what_is_denied_is_not_counted(edge: Edge) -> None:
    assert edge.statuses(3, "last", "/denied") == [403] * 3


SIDECAR = """
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: server}
spec:
  rules: [{per: [source.principal], limit: {requests: 2, per: 1h}}]
"""


def test_a_sidecar_counts_each_caller_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority()

    def ask(proxy: Running, account: str) -> tuple[bytes, bytes]:
        context = mesh_tls(authority, tmp_path, ["http/1.1"], account)
        with context.wrap_socket(connect(proxy)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx-lateen-rate-limit: forged\r\nconnection: close\r\n\r\n")
            text = b""
            while part := connection.recv(65536):
                text += part
        head = text.partition(b"\r\n\r\n")[0].lower()
        left = [line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"x-ratelimit-remaining")]
        return head.split(b" ")[1], b"".join(left)

    with sidecar(SIDECAR, workload=server("HTTP"), authority=authority) as proxy, Server(app_address(proxy)):
        assert [ask(proxy, "ann") for _ in range(3)] == [(b"200", b"1"), (b"200", b"0"), (b"429", b"0")]
        assert ask(proxy, "bob") == (b"200", b"1")
