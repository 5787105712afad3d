"""Members of ServiceEntries: inline endpoints and WorkloadEntries, their ports, weights, places and identities."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Application, Authority
from tests.envoy.http_site import NEAR, PORT, within
from tests.envoy.tls_support import Echo

MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: weighed}}
spec:
  hosts: [weighed.example]
  ports: [{{number: 8080, name: http, protocol: HTTP}}, {{number: 8081, name: more, protocol: HTTP, targetPort: {v2}}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {v1}}}, weight: 1}}
  - {{address: 127.0.0.1, ports: {{http: {v2}}}, weight: 3}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: hidden, namespace: other}}
spec:
  hosts: [hidden.example]
  exportTo: ["."]
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {v1}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shown, namespace: other}}
spec:
  hosts: [shown.example]
  exportTo: [default, third]
  ports: [{{number: 8080, name: http, protocol: HTTP, targetPort: {v1}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: selecting}}
spec:
  hosts: [selecting.example]
  ports: [{{number: 8080, name: http, protocol: HTTP, targetPort: 1}}]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {{labels: {{app: cart}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: near}}
spec:
  hosts: [near.example]
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {{labels: {{place: known}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: near}}
spec: {{host: near.example, trafficPolicy: {{outlierDetection: {{}}}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: close, annotations: {{networking.istio.io/traffic-distribution: PreferClose}}}}
spec:
  hosts: [close.example]
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {{labels: {{place: known}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: a}}
spec: {{address: 127.0.0.1, ports: {{http: {v1}}}, labels: {{app: cart, place: known}}, weight: 3, locality: r1/z1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: b}}
spec: {{address: 127.0.0.1, ports: {{http: {v2}}}, labels: {{app: cart, place: known}}, weight: 1, locality: r2/z1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: elsewhere, namespace: other}}
spec: {{address: 127.0.0.9, ports: {{http: 1}}, labels: {{app: cart, place: known}}}}
"""
SECURE = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example]
  ports: [{{number: 9000, name: tcp, protocol: TCP, targetPort: {port}}}]
  resolution: STATIC
  {rest}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {name}.example, trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"""


def secure(name: str, port: int, rest: str, mode: str = "ISTIO_MUTUAL") -> str:
    return SECURE.format(name=name, port=port, rest=rest, mode=mode)


def account(name: str) -> str:
    return f"endpoints: [{{address: 127.0.0.1, serviceAccount: {name}}}]"


def entry_of(name: str, said: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: 127.0.0.1, labels: {{name: {name}}}, serviceAccount: {said}}}
"""


class Site(NamedTuple):
    proxy: Running
    apps: dict[str, Application]

    def counted(self, host: str, count: int) -> Counter[str]:
        return Counter(self.proxy.get(host, PORT).seen["app"] for _ in range(count))

    def said(self, name: str) -> bytes:
        """The greeting of a server behind TLS; nothing where its identity is not the one that is expected."""
        with socket.create_connection((self.proxy.address(f"{name}.example"), 9000), timeout=10) as stream:
            return stream.makefile("rb").readline()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    authority = Authority()
    with ExitStack() as stack:
        apps = {name: stack.enter_context(Application(name)) for name in ("v1", "v2")}
        echo = stack.enter_context(Echo("it", authority.mesh("right")))
        sans = "subjectAltNames: ['spiffe://cluster.local/ns/default/sa/%s']\n  endpoints: [{address: 127.0.0.1}]"
        selecting = "location: MESH_INTERNAL\n  workloadSelector: {labels: {name: %s}}"
        text = MESH.format(v1=apps["v1"].port, v2=apps["v2"].port) + "".join(
            (
                secure("right", echo.port, account("right")),
                secure("wrong", echo.port, account("other")),
                secure("right-name", echo.port, sans % "right"),
                secure("wrong-name", echo.port, sans % "other"),
                secure("right-entry", echo.port, selecting % "right"),
                entry_of("right", "right"),
                secure("wrong-entry", echo.port, selecting % "wrong"),
                entry_of("wrong", "other"),
            )
        )
        yield Site(stack.enter_context(sidecar(text, workload=NEAR, authority=authority)), apps)


@pytest.mark.covers("ServiceEntry endpoints[].ports", "ServiceEntry endpoints[].weight")
def test_endpoints_are_served_by_weight_at_their_own_ports(site: Site) -> None:
    counts = site.counted("weighed.example", 200)
    assert set(counts) == {"v1", "v2"}
    assert within(counts["v2"], 200, 0.75)


@pytest.mark.covers("ServiceEntry ports[].targetPort")
def test_a_target_port_is_where_endpoints_serve(site: Site) -> None:
    assert site.proxy.get("weighed.example", 8081).seen["app"] == "v2"


@pytest.mark.covers("ServiceEntry exportTo")
def test_an_entry_is_seen_where_it_is_exported_to(site: Site) -> None:
    assert site.proxy.get("shown.example", PORT).seen["app"] == "v1"
    assert "outbound|8080||hidden.example" not in site.proxy.admin("/clusters")
    answer = site.proxy.get("hidden.example", PORT, address=site.proxy.address("shown.example"))
    assert answer.status in (404, 502, 503)


@pytest.mark.covers(
    "ServiceEntry workloadSelector.labels",
    "WorkloadEntry address",
    "WorkloadEntry labels",
    "WorkloadEntry ports",
    "WorkloadEntry weight",
)
def test_selected_entries_of_the_namespace_are_members(site: Site) -> None:
    counts = site.counted("selecting.example", 200)
    assert set(counts) == {"v1", "v2"}
    assert within(counts["v1"], 200, 0.75)


@pytest.mark.covers("WorkloadEntry locality")
def test_members_nearby_are_preferred(site: Site) -> None:
    assert set(site.counted("near.example", 30)) == {"v1"}
    assert set(site.counted("close.example", 30)) == {"v1"}


@pytest.mark.covers(
    "ServiceEntry endpoints[].serviceAccount", "ServiceEntry subjectAltNames", "WorkloadEntry serviceAccount"
)
@pytest.mark.parametrize("kind", ["", "-name", "-entry"])
def test_a_member_has_to_prove_the_identity_that_is_said(site: Site, kind: str) -> None:
    assert site.said(f"right{kind}") == b"it\n"
    assert site.said(f"wrong{kind}") == b""
