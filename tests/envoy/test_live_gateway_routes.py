"""Routes at a gateway: VirtualServices of one host are joined, roots hand routes on to delegates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import gateway_workload
from tests.envoy.harness import Answer, Application, free_port
from tests.envoy.http_site import endpoint, entry

MESH = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ["*"]}}
  - {{port: {{number: {other}, name: http-other, protocol: HTTP}}, hosts: [shop.example]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a-first, creationTimestamp: "2024-01-01T00:00:00Z"}}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
  - match: [{{uri: {{prefix: /both}}}}, {{uri: {{prefix: /first}}}}]
    route: [{{destination: {{host: v1.example}}}}]
  - route: [{{destination: {{host: v1.example}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: b-second, creationTimestamp: "2024-02-01T00:00:00Z"}}
spec:
  hosts: [shop.example]
  gateways: [default/edge, mesh]
  http:
  - match: [{{uri: {{prefix: /inside}}, gateways: [mesh]}}, {{uri: {{prefix: /other-port}}, port: {other}}}]
    route: [{{destination: {{host: v2.example}}}}]
  - match: [{{uri: {{prefix: /both}}}}, {{uri: {{prefix: /second}}}}]
    route: [{{destination: {{host: v2.example}}}}]
  - match: [{{uri: {{exact: /moved}}}}]
    redirect: {{uri: /new, derivePort: FROM_REQUEST_PORT}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: root}}
spec:
  hosts: [root.example]
  gateways: [edge]
  http:
  - {{match: [{{uri: {{prefix: /cart}}}}], delegate: {{name: cart, namespace: team}}}}
  - {{match: [{{uri: {{prefix: /list}}, headers: {{x-beta: {{exact: "1"}}}}}}], delegate: {{name: list}}}}
  - {{route: [{{destination: {{host: v1.example}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: cart, namespace: team}}
spec:
  http:
  - match: [{{uri: {{prefix: /cart/add}}}}]
    rewrite: {{uri: /added}}
    route: [{{destination: {{host: v2.example}}}}]
  - match: [{{uri: {{prefix: /elsewhere}}}}]
    directResponse: {{status: 418}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: list}}
spec: {{http: [{{directResponse: {{status: 200, body: {{string: beta}}}}}}]}}
---
"""


class Edge(NamedTuple):
    proxy: Running
    port: int
    other: int

    def get(self, host: str, path: str, *, other: bool = False, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.proxy.get(host, self.other if other else self.port, path, named, address="127.0.0.1")


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    port, other = free_port(), free_port()
    with Application("v1") as v1, Application("v2") as v2:
        text = entry("v1.example", endpoint(v1.port)) + entry("v2.example", endpoint(v2.port))
        with sidecar(text + MESH.format(port=port, other=other), workload=gateway_workload()) as proxy:
            yield Edge(proxy, port, other)


@pytest.mark.covers("VirtualService hosts", "VirtualService gateways")
@pytest.mark.parametrize(
    ("path", "app"),
    [("/first", "v1"), ("/second", "v2"), ("/both", "v1"), ("/else", "v1"), ("/inside", "v1"), ("/other-port", "v1")],
)
def test_virtual_services_of_one_host_are_joined_the_oldest_first(edge: Edge, path: str, app: str) -> None:
    assert edge.get("shop.example", path).seen["app"] == app


@pytest.mark.covers("VirtualService http[].match[].port", "VirtualService http[].match[].gateways")
def test_the_servers_port_chooses(edge: Edge) -> None:
    assert edge.get("shop.example", "/other-port", other=True).seen["app"] == "v2"
    assert edge.get("shop.example", "/moved", other=True).headers["location"] == f"http://shop.example:{edge.other}/new"
    assert edge.get("shop.example", "/moved").headers["location"] == f"http://shop.example:{edge.port}/new"


@pytest.mark.covers("VirtualService http[].delegate.name", "VirtualService http[].delegate.namespace")
def test_delegates_take_what_the_root_and_they_agree_on(edge: Edge) -> None:
    seen = edge.get("root.example", "/cart/add/1").seen
    assert (seen["app"], seen["path"]) == ("v2", "/added/1")
    assert edge.get("root.example", "/cart/else").seen["app"] == "v1"
    assert edge.get("root.example", "/elsewhere").seen["app"] == "v1"
    assert edge.get("root.example", "/list", x_beta="1").body == b"beta"
    assert edge.get("root.example", "/list").seen["app"] == "v1"


def test_a_host_without_routes_has_none(edge: Edge) -> None:
    assert edge.get("unknown.example", "/").status == 404
    assert edge.get("root.example", "/", other=True).status == 404
