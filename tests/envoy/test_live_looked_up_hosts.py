"""ServiceEntries with resolution DYNAMIC_DNS: the host that is asked for is looked up, over HTTP and by server name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import gateway_workload
from tests.envoy.harness import Application, Authority, free_port
from tests.envoy.tls_support import Echo, connected, context_for, greeting

MESH = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress, namespace: edge}}
spec:
  selector: {{istio: egress}}
  servers:
  - {{port: {{number: {http}, name: http, protocol: HTTP}}, hosts: ["*"]}}
  - {{port: {{number: {tls}, name: tls, protocol: TLS}}, hosts: ["*"], tls: {{mode: PASSTHROUGH}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: any, namespace: edge}}
spec:
  hosts: ["*.localhost"]
  ports:
  - {{name: http, number: {app}, protocol: HTTP}}
  - {{name: tls, number: {echo}, protocol: TLS}}
  resolution: DYNAMIC_DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: any, namespace: edge}}
spec:
  hosts: ["*.localhost"]
  gateways: [egress]
  http: [{{route: [{{destination: {{host: "*.localhost", port: {{number: {app}}}}}}}]}}]
  tls:
  - match: [{{sniHosts: ["*.localhost"]}}]
    route: [{{destination: {{host: "*.localhost", port: {{number: {echo}}}}}}}]
"""


class Edge(NamedTuple):
    proxy: Running
    http: int
    tls: int
    app: int
    authority: Authority


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    authority, http, tls = Authority(), free_port(), free_port()
    with Application("app") as app, Echo("secure", authority.issue("a.localhost", "b.localhost")) as echo:
        text = MESH.format(http=http, tls=tls, app=app.port, echo=echo.port)
        with sidecar(text, workload=gateway_workload("edge", istio="egress"), authority=authority) as proxy:
            yield Edge(proxy, http, tls, app.port, authority)


@pytest.mark.covers("ServiceEntry resolution")
@pytest.mark.parametrize("host", ["a.localhost", "b.c.localhost"])
def test_http_goes_to_the_host_that_it_asks_for(edge: Edge, host: str) -> None:
    answer = edge.proxy.get(f"{host}:{edge.app}", edge.http, address="127.0.0.1")
    assert (answer.status, answer.seen["headers"]["host"]) == (200, f"{host}:{edge.app}")


def test_other_hosts_are_not_looked_up(edge: Edge) -> None:
    assert edge.proxy.get(f"127.0.0.1:{edge.app}", edge.http, address="127.0.0.1").status == 404


@pytest.mark.parametrize("name", ["a.localhost", "b.localhost"])
def test_tls_goes_to_the_server_name_that_it_says(edge: Edge, name: str) -> None:
    with connected(edge.tls, name, context_for(edge.authority.roots)) as stream:
        assert greeting(stream) == "secure"
