"""``defaultConfig`` of the MeshConfig on the real Envoy: who stands before gateways, headers, and limits."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, to, virtual_service
from tests.envoy.harness import Application, free_port, raw

MESH = """
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
defaultConfig:
  proxyStatsMatcher: {inclusionPrefixes: [cluster.outbound]}
  gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}
  proxyHeaders:
    server: {value: shop}
    attemptCount: {disabled: true}
    envoyDebugHeaders: {disabled: true}
    requestId: {disabled: true}
    preserveHttp1HeaderCase: true
    xForwardedPort: {enabled: true}
  connectionSettings:
    httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_REJECT_REQUEST
    httpPathWithEscapedSlashesAction: REJECT_REQUEST
    httpRequestHeadersTimeout: 0.3s
"""


class Spelt(Application):
    """Keeps the names of headers as they come."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.names: list[str] = []

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.names = list(request.headers)
        super().answer(request)


class Edge(NamedTuple):
    proxy: Running
    app: Spelt
    port: int

    def ask(self, *headers: str, path: str = "/") -> bytes:
        """One request on a connection that begins as a load balancer's does, for a client at 192.0.2.7."""
        lines = (f"GET {path} HTTP/1.1", "Host: any.example", "Connection: close", *headers, "", "")
        return raw(self.port, b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n" + "\r\n".join(lines).encode())


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    port = free_port()
    with Spelt("v1") as app:
        text = entry("shop", app.port) + gateway(serves(port)) + virtual_service(to("shop.example")) + MESH
        with sidecar(text, workload=gateway_workload()) as proxy:
            yield Edge(proxy, app, port)


def test_a_connection_without_the_header_of_the_load_balancer_is_closed(edge: Edge) -> None:
    assert b"200" not in raw(edge.port, b"GET / HTTP/1.1\r\nHost: any.example\r\n\r\n")


def test_the_client_is_whom_the_trusted_proxy_names(edge: Edge) -> None:
    assert b"200" in edge.ask("X-Forwarded-For: 198.51.100.1, 203.0.113.9")
    headers = edge.app.seen[-1]["headers"]
    assert headers["x-forwarded-for"] == "198.51.100.1, 203.0.113.9,192.0.2.7"
    assert headers["x-envoy-external-address"] == "203.0.113.9"


def test_headers_are_set_and_left_out_as_the_mesh_says(edge: Edge) -> None:
    answer = edge.ask("X-CamelCase: yes")
    assert b"server: shop" in answer.lower()
    assert b"x-envoy-upstream-service-time" not in answer.lower()
    headers = edge.app.seen[-1]["headers"]
    assert headers["x-forwarded-port"] == "80"
    assert "x-request-id" not in headers
    assert "x-envoy-attempt-count" not in headers


@pytest.mark.covers("MeshConfig defaultConfig.proxyStatsMatcher.inclusionPrefixes")
def test_envoy_counts_answers_by_status_where_that_is_included(edge: Edge) -> None:
    assert b"200" in edge.ask()
    assert ".upstream_rq_200: " in edge.proxy.admin("/stats?usedonly&filter=^cluster.outbound")


@pytest.mark.covers("MeshConfig defaultConfig.proxyHeaders.preserveHttp1HeaderCase")
def test_names_of_headers_stay_as_they_were_written(edge: Edge) -> None:
    edge.ask("X-CamelCase: yes", "x-lower: yes")
    assert {"X-CamelCase", "x-lower"} <= set(edge.app.names)


def test_what_the_mesh_rejects_does_not_arrive(edge: Edge) -> None:
    before = len(edge.app.seen)
    assert b" 400 " in edge.ask("with_underscore: yes")
    assert b" 400 " in edge.ask(path="/a%2Fb")
    assert b" 408 " in raw(edge.port, b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: sl")
    assert len(edge.app.seen) == before
