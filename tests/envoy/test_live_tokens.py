"""Tokens at a gateway: good ones choose routes by their claims, bad ones are refused, none at all passes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from lateen.mesh.model import Workload, WorkloadPort
from lateen.values.protocol import Protocol
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves
from tests.envoy.harness import Answer, Application, free_port
from tests.envoy.test_live_inbound import Server, app_address
from tests.envoy.token_support import Issuer, unsigned

MESH = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - match: [{{headers: {{"@request.auth.claims.groups": {{exact: testers}}}}}}]
    directResponse: {{status: 200, body: {{string: tester}}}}
  - match: [{{headers: {{"@request.auth.claims[https://a.example/place][Room]": {{prefix: "4"}}}}}}]
    directResponse: {{status: 200, body: {{string: fourth floor}}}}
  - match: [{{headers: {{"@request.auth.claims.scope": {{exact: write}}}}}}]
    directResponse: {{status: 200, body: {{string: writer}}}}
  - match:
    - headers: {{"@request.auth.claims.sub": {{}}}}
      withoutHeaders: {{"@request.auth.claims.sub": {{regex: "guest.*"}}}}
    route: [{{destination: {{host: shop.example}}}}]
  - directResponse: {{status: 200, body: {{string: anybody}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules:
  - issuer: https://a.example
    audiences: [shop]
    jwks: '{a}'
    forwardOriginalToken: true
    outputPayloadToHeader: x-payload
    outputClaimToHeaders: [{{header: x-user, claim: sub}}]
  - {{issuer: https://b.example, jwks: '{b}', fromHeaders: [{{name: x-token, prefix: "T "}}], fromCookies: [token]}}
"""


class Edge(NamedTuple):
    proxy: Running
    port: int
    a: Issuer
    b: Issuer

    def ask(self, headers: Mapping[str, str] | None = None) -> Answer:
        return self.proxy.get("shop.example", self.port, headers=headers, address="127.0.0.1")

    def bearing(self, **claims: Any) -> Answer:
        return self.ask({"authorization": f"Bearer {self.a.token(**claims)}"})


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    a, b, port = Issuer("https://a.example"), Issuer("https://b.example"), free_port()
    with Application("shop") as app:
        text = entry("shop", app.port) + gateway(serves(port)) + MESH.format(a=a.jwks, b=b.jwks)
        with sidecar(text, workload=gateway_workload()) as proxy:
            yield Edge(proxy, port, a, b)


@pytest.mark.covers("VirtualService http[].match[].headers", "VirtualService http[].match[].withoutHeaders")
@pytest.mark.parametrize(
    ("claims", "body"),
    [
        ({"groups": "testers"}, b"tester"),
        ({"groups": ["cooks", "testers"]}, b"tester"),
        ({"https://a.example/place": {"Room": "42"}}, b"fourth floor"),
        ({"scope": "read write"}, b"writer"),
        ({"sub": "guest-7"}, b"anybody"),
    ],
)
def test_claims_choose_the_route(edge: Edge, claims: dict[str, Any], body: bytes) -> None:
    assert edge.bearing(**claims).body == body


@pytest.mark.covers(
    "RequestAuthentication jwtRules[].forwardOriginalToken",
    "RequestAuthentication jwtRules[].outputPayloadToHeader",
    "RequestAuthentication jwtRules[].outputClaimToHeaders",
    "RequestAuthentication jwtRules[].fromHeaders",
    "RequestAuthentication jwtRules[].fromCookies",
)
def test_what_the_server_learns_of_a_token(edge: Edge) -> None:
    seen = edge.bearing(groups=["cooks"]).seen["headers"]
    assert seen["x-user"] == "ann"
    assert seen["authorization"].startswith("Bearer ")
    payload = seen["x-payload"]
    assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["groups"] == ["cooks"]
    for headers in ({"x-token": f"T {edge.b.token()}"}, {"cookie": f"token={edge.b.token()}"}):
        seen = edge.ask(headers).seen["headers"]
        assert "x-token" not in seen


@pytest.mark.covers(
    "RequestAuthentication jwtRules[].issuer",
    "RequestAuthentication jwtRules[].audiences",
    "RequestAuthentication jwtRules[].jwks",
)
def test_bad_tokens_are_refused_and_none_at_all_passes(edge: Edge) -> None:
    assert edge.ask().body == b"anybody"
    stranger = Issuer("https://a.example")
    good = edge.a.token()
    bad = [
        edge.a.token(exp=1),
        edge.a.token(aud="other"),
        edge.a.token(iss="https://c.example"),
        stranger.token(groups="testers"),
        unsigned(good),
        "nonsense",
    ]
    assert [edge.ask({"authorization": f"Bearer {token}"}).status for token in bad[:2]] == [401, 403]
    assert {edge.ask({"authorization": f"Bearer {token}"}).status for token in bad[2:]} == {401}


INBOUND = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{mtls: {{mode: PERMISSIVE}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec: {{selector: {{matchLabels: {{app: server}}}}, jwtRules: [{{issuer: a, jwks: '{jwks}', fromParams: [t]}}]}}
"""


@pytest.mark.covers("RequestAuthentication selector.matchLabels", "RequestAuthentication jwtRules[].fromParams")
@pytest.mark.parametrize("name", ["server", "other"])
def test_a_sidecar_looks_at_tokens_for_the_workloads_that_are_selected(name: str) -> None:
    issuer = Issuer("a")
    ports = (WorkloadPort("http", 8080, 8080, Protocol.HTTP),)
    workload = Workload(f"{name}-0", "default", name, (("app", name),), name, "", ports=ports, ready=True)
    with sidecar(INBOUND.format(jwks=issuer.key), workload=workload) as proxy, Server(app_address(proxy), 8080):
        paths = ("/", f"/?t={issuer.token()}", "/?t=nonsense", f"/?t={issuer.token(iss='b')}")
        found = [proxy.get(name, 8080, path, address=proxy.inbound).status for path in paths]
    assert found == ([200, 200, 401, 401] if name == "server" else [200] * 4)
