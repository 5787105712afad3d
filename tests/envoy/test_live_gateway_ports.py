"""Several Gateways on one gateway: who shares a port, TCP, mesh TLS that passes, addresses, and HTTP at the edge."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import gateway_workload
from tests.envoy.harness import Application, Pem, UnixConnection, eventually, free_port, get
from tests.envoy.tls_support import Echo, EdgeAuthority, connected, context_for, greeted, greeting


def entry(name: str, port: int, protocol: str, labels: str = "{}", location: str = "MESH_EXTERNAL") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.backend]
  ports: [{{name: port, number: 8080, protocol: {protocol}}}]
  location: {location}
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{port: {port}}}, labels: {labels}}}]
---
"""


def gateway(name: str, *servers: str, namespace: str = "default", created: str = "2024-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{", ".join(servers)}]}}
---
"""


def server(port: int, protocol: str = "HTTP", hosts: str = '["*"]', more: str = "") -> str:
    return f"{{port: {{number: {port}, protocol: {protocol}, name: p{port}-{protocol.lower()}}}, hosts: {hosts}{more}}}"


def routes(name: str, gateways: str, hosts: str, rest: str, namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{hosts: {hosts}, gateways: [{gateways}], {rest}}}
---
"""


def to(name: str, weight: int | None = None) -> str:
    more = f", weight: {weight}" if weight is not None else ""
    return f"{{destination: {{host: {name}.backend}}{more}}}"


class Edge(NamedTuple):
    proxy: Running
    ports: dict[str, int]
    authority: EdgeAuthority
    workload: Pem
    socket: str


def configuration(port: dict[str, int], path: str) -> str:
    passing = ", tls: {mode: AUTO_PASSTHROUGH}"
    return "".join(
        (
            gateway("one", server(port["shared"], hosts="[one.example]", more=", name: front")),
            gateway("two", server(port["shared"], "HTTP2", hosts="[two.example, team/three.example]")),
            gateway("late", server(port["shared"], "TCP"), created="2024-02-01T00:00:00Z"),
            routes("one", "one", "[one.example]", f"http: [{{route: [{to('a')}]}}]"),
            routes("two", "two", "[two.example]", f"http: [{{route: [{to('b')}]}}]"),
            routes("three", "two", "[three.example]", f"http: [{{route: [{to('b')}]}}]"),
            routes("late", "late", '["*"]', f"tcp: [{{route: [{to('plain')}]}}]"),
            gateway("tcp", server(port["tcp"], "TCP"), server(port["mongo"], "MONGO"), server(port["nobody"], "TCP")),
            routes(
                "tcp",
                "tcp",
                '["*"]',
                f"tcp: [{{match: [{{port: {port['tcp']}}}], route: [{to('plain', 0)}, {to('other', 100)}]}}, "
                f"{{match: [{{port: {port['mongo']}}}], route: [{to('plain', 50)}, {to('other', 50)}]}}]",
            ),
            gateway("passing", server(port["passing"], "TLS", '["*.backend", "default/*.scoped"]', passing)),
            gateway(
                "bound",
                server(port["bound"], more=", bind: 127.0.0.2"),
                f"{{port: {{number: 0, protocol: HTTP, name: file}}, hosts: ['*'], bind: 'unix://{path}'}}",
            ),
            gateway("bound-tcp", server(port["bound"], "TCP", more=", bind: 127.0.0.3")),
            routes("bound", "bound", '["*"]', f"http: [{{route: [{to('a')}]}}]"),
            routes("bound-tcp", "bound-tcp", '["*"]', f"tcp: [{{route: [{to('other')}]}}]"),
            gateway("front", server(80)),
            routes(
                "front",
                "front",
                '["*"]',
                f"http: [{{match: [{{port: 80, uri: {{prefix: /here}}}}], route: [{to('a')}]}}, "
                "{redirect: {derivePort: FROM_REQUEST_PORT, authority: other.example}}]",
            ),
            f"""
apiVersion: v1
kind: Service
metadata: {{name: gw}}
spec: {{selector: {{istio: ingressgateway}}, ports: [{{name: http, port: 80, targetPort: {port["translated"]}}}]}}
---
""",
        )
    )


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    names = ("shared", "tcp", "mongo", "nobody", "passing", "bound", "translated")
    ports = {name: free_port() for name in names}
    path = str(tmp_path_factory.mktemp("lt-s") / "http.sock")
    authority = EdgeAuthority()
    workload = authority.mesh("passed")
    meshed = "{security.istio.io/tlsMode: istio}"
    with (
        Application("a") as a,
        Application("b") as b,
        Echo("plain") as plain,
        Echo("other") as other,
        Echo("passed", workload) as passed,
        Echo("unmeshed", workload) as unmeshed,
    ):
        text = configuration(ports, path)
        text += entry("a", a.port, "HTTP") + entry("b", b.port, "HTTP")
        text += entry("plain", plain.port, "TCP") + entry("other", other.port, "TCP")
        text += entry("passed", passed.port, "TCP", meshed, "MESH_INTERNAL")
        text += entry("unmeshed", unmeshed.port, "TCP", "{}", "MESH_INTERNAL")
        text += entry("outside", passed.port, "TCP", meshed)
        for host, more in (("hidden.elsewhere", ""), ("far.scoped", ""), ("private.backend", "\n  exportTo: [.]")):
            text += (
                entry("x", passed.port, "TCP", meshed, "MESH_INTERNAL")
                .replace("name: x}", f"name: {host}, namespace: far}}")
                .replace("[x.backend]", f"[{host}]{more}")
            )
        with sidecar(text, workload=gateway_workload(), authority=authority, allow_findings=True) as proxy:
            yield Edge(proxy, ports, authority, workload, path)


# --- one port, several Gateways --------------------------------------------------------------------------------------


@pytest.mark.covers("Gateway servers[].hosts", "Gateway servers[].port.number", "Gateway selector")
def test_http_servers_of_two_gateways_share_a_port(edge: Edge) -> None:
    port = edge.ports["shared"]
    assert get(port, headers={"host": "one.example"}).seen["app"] == "a"
    assert get(port, headers={"host": f"two.example:{port}"}).seen["app"] == "b"
    assert get(port, headers={"host": "elsewhere.example"}).status == 404


@pytest.mark.covers("Gateway servers[].name")
def test_a_server_names_its_statistics(edge: Edge) -> None:
    before = edge.proxy.stat("http.front.downstream_rq_completed")
    get(edge.ports["shared"], headers={"host": "one.example"})
    eventually(lambda: edge.proxy.stat("http.front.downstream_rq_completed") > before)


@pytest.mark.covers("Gateway servers[].hosts")
def test_a_host_is_for_virtual_services_of_the_namespace_that_it_names(edge: Edge) -> None:
    assert get(edge.ports["shared"], headers={"host": "three.example"}).status == 404


def test_who_cannot_share_is_left_out_and_told(edge: Edge) -> None:
    told = [finding.origin.name for finding in edge.proxy.findings if finding.code == "conflicting-server"]
    assert told == ["late"]


# --- TCP -------------------------------------------------------------------------------------------------------------


@pytest.mark.covers(
    "Gateway servers[].port.protocol", "VirtualService tcp[].match[].port", "VirtualService tcp[].route[].weight"
)
def test_bytes_go_where_weights_say(edge: Edge) -> None:
    assert {greeted(edge.ports["tcp"]) for _ in range(10)} == {"other"}
    assert {greeted(edge.ports["mongo"]) for _ in range(40)} == {"plain", "other"}


def test_a_port_without_a_route_is_not_opened(edge: Edge) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", edge.ports["nobody"]), timeout=5)


# --- mesh TLS that passes --------------------------------------------------------------------------------------------


def passed(edge: Edge, service: str, alpn: tuple[str, ...] = ("istio",)) -> str:
    return led(edge, f"outbound_.8080_._.{service}.backend", client_context(edge, alpn))


def client_context(edge: Edge, alpn: tuple[str, ...] = ("istio",)) -> ssl.SSLContext:
    context = context_for(edge.authority.roots, edge.workload, alpn=alpn)
    context.check_hostname = False
    return context


def led(edge: Edge, name: str, context: ssl.SSLContext) -> str:
    """Where mesh TLS with this server name leads."""
    try:
        with connected(edge.ports["passing"], name, context) as connection:
            return greeting(connection)
    except OSError:
        return "refused"


@pytest.mark.covers("Gateway servers[].tls.mode")
def test_mesh_tls_passes_to_the_service_that_its_name_says(edge: Edge) -> None:
    assert passed(edge, "passed") == "passed"


@pytest.mark.covers("Gateway servers[].tls.mode")
def test_what_does_not_pass(edge: Edge) -> None:
    assert passed(edge, "passed", ("http/1.1",)) == "refused"  # no protocol of the mesh
    assert passed(edge, "outside") == "refused"  # not in the mesh
    assert passed(edge, "unmeshed") == "refused"  # nobody there who opens mesh TLS
    assert passed(edge, "unknown") == "refused"


@pytest.mark.covers("Gateway servers[].hosts")
def test_no_other_name_leads_anywhere(edge: Edge) -> None:
    """A sweep over what the proxy knows: services in every port and subset, its own clusters, and their spellings."""
    hosts = [*edge.proxy.snapshot.services, "passed.backend.", "backend", "localhost", "127.0.0.1", "*.backend"]
    names = {
        f"{way}_.{port}_.{subset}_.{host}"
        for way in ("outbound", "inbound")
        for port in (8080, 80, 15006)
        for subset in ("", "v1")
        for host in hosts
    }
    names |= {
        "outbound|8080||passed.backend",
        "passed.backend",
        "outbound_.8080_._.",
        "outbound_.08080_._.passed.backend",
    }
    names |= {found.name for found in edge.proxy.plan.all_clusters} | {"BlackHoleCluster", "xds"}
    context = client_context(edge)
    opened = {name for name in names if len(name) < 250 and led(edge, name, context) != "refused"}
    assert opened == {"outbound_.8080_._.passed.backend"}


# --- where sockets stand ---------------------------------------------------------------------------------------------


@pytest.mark.covers("Gateway servers[].bind")
def test_one_port_at_two_addresses(edge: Edge) -> None:
    connection = http.client.HTTPConnection("127.0.0.2", edge.ports["bound"], timeout=5)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    assert greeted(edge.ports["bound"], "127.0.0.3") == "other"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", edge.ports["bound"]), timeout=5)


@pytest.mark.covers("Gateway servers[].bind")
def test_a_unix_socket(edge: Edge) -> None:
    connection = UnixConnection(edge.socket)
    connection.request("GET", "/", headers={"host": "any.example"})
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.covers("Gateway servers[].port.number", "VirtualService http[].match[].port")
def test_a_server_listens_at_the_target_port_of_its_service(edge: Edge) -> None:
    """Routes know it by the port of the Service, which a redirect leaves out as it is that of the scheme."""
    port = edge.ports["translated"]
    assert get(port, "/here", {"host": "any.example"}).seen["app"] == "a"
    assert get(port, "/else", {"host": "any.example"}).headers["location"] == "http://other.example/else"
