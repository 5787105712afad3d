"""What a sidecar makes of its application's calls: which protocol a port speaks, and where TLS and bytes go."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from lateen.settings import Settings
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.grpc_support import METHOD, GrpcServer, said
from tests.envoy.harness import Application, Authority
from tests.envoy.tls_support import Echo, connected, context_for, greeted, greeting

AUTHORITY = Authority()
DETECTION = 2.0


def entry(
    host: str, ports: dict[str, tuple[int, str]], *upstream: int, address: str = "127.0.0.1", block: str = ""
) -> str:
    """A service outside the mesh: name of each port -> its number and protocol.

    All lead to the same servers, or, where there are none, to where the client meant to go.
    """
    listed = ", ".join(
        f"{{name: {name}, number: {number}{f', protocol: {protocol}' if protocol else ''}}}"
        for name, (number, protocol) in ports.items()
    )
    name = host.replace("*", "any")
    resolution = "STATIC" if upstream else "NONE"
    endpoints = ", ".join(
        f"{{address: {address}, ports: {{{', '.join(f'{name}: {port}' for name in ports)}}}}}" for port in upstream
    )
    return f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec: {{hosts: ["{host}"], addresses: [{block}], resolution: {resolution}, ports: [{listed}], endpoints: [{endpoints}]}}
"""


def virtual_service(host: str, rest: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}, "*.{host}"]
{rest}
"""


def subset(host: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec: {{host: {host}, subsets: [{{name: any}}]}}
"""


class Site(NamedTuple):
    proxy: Running
    app: Application

    def at(self, host: str) -> str:
        return self.proxy.address(host)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        app = stack.enter_context(Application("v1"))
        one, two = (stack.enter_context(Echo(name)) for name in ("one", "two"))
        secure = AUTHORITY.issue("tls.example", "*.tls.example", "auto.tls.example")
        tls_one, tls_two = (stack.enter_context(Echo(name, secure)) for name in ("tls-one", "tls-two"))
        grpc_one, grpc_two = (stack.enter_context(GrpcServer(name)) for name in ("grpc-one", "grpc-two"))
        destination = "route: [{destination: {host: %s}}]"
        to_one, to_two = destination % "one.example", destination % "two.example"
        text = "".join(
            (
                entry("app.example", {"auto": (8080, ""), "http": (8081, "HTTP")}, app.port),
                virtual_service(
                    "app.example",
                    "  http: [{headers: {request: {set: {x-routed: here}}}, " + destination % "app.example" + "}]",
                ),
                entry("one.example", {"auto": (9000, ""), "tcp": (9001, "TCP"), "mysql": (9002, "MYSQL")}, one.port),
                entry("two.example", {"tcp": (9001, "TCP")}, two.port),
                entry("auto.tls.example", {"auto": (9443, "")}, tls_one.port),
                entry("one.tls.example", {"tls": (8443, "TLS")}, tls_one.port),
                entry("two.tls.example", {"https": (8443, "HTTPS")}, tls_two.port),
                entry("tls.example", {"tls": (8443, "TLS")}, tls_one.port),
                virtual_service(
                    "tls.example",
                    """  tls:
  - {match: [{sniHosts: [a.tls.example], sourceLabels: {app: other}}], route: [{destination: {host: two.tls.example}}]}
  - {match: [{sniHosts: [a.tls.example], port: 1}], route: [{destination: {host: two.tls.example}}]}
  - {match: [{sniHosts: [a.tls.example], gateways: [edge]}], route: [{destination: {host: two.tls.example}}]}
  - {match: [{sniHosts: [a.tls.example, tls.example]}], route: [{destination: {host: one.tls.example, subset: any}}]}
  - match: [{sniHosts: [b.tls.example], port: 8443, sourceNamespace: default, destinationSubnets: [127.0.0.0/8]}]
    route:
    - {destination: {host: one.tls.example, port: {number: 8443}}, weight: 25}
    - {destination: {host: two.tls.example}, weight: 75}
  - match: [{sniHosts: [c.tls.example], destinationSubnets: [10.0.0.0/8]}]
    route: [{destination: {host: one.tls.example}}]
""",
                ),
                entry(
                    "tcp.example",
                    {
                        "a": (9001, "TCP"),
                        "b": (9002, "TCP"),
                        "c": (9003, "TCP"),
                        "d": (9004, "TCP"),
                        "e": (9005, "TCP"),
                    },
                    one.port,
                ),
                virtual_service(
                    "tcp.example",
                    f"""  tcp:
  - {{match: [{{port: 9001, sourceLabels: {{app: other}}}}, {{port: 9001, sourceNamespace: other}}], {to_one}}}
  - {{match: [{{port: 9001, sourceLabels: {{app: client}}, sourceNamespace: default}}], {to_two}}}
  - {{match: [{{port: 9002, destinationSubnets: [10.0.0.0/8]}}], {to_one}}}
  - {{match: [{{port: 9002, destinationSubnets: [127.0.0.0/8, 127.0.0.0/9]}}], {to_two}}}
  - match: [{{port: 9003}}]
    route:
    - {{destination: {{host: one.example, port: {{number: 9001}}}}, weight: 1}}
    - {{destination: {{host: two.example}}, weight: 3}}
    - {{destination: {{host: nowhere.example}}, weight: 0}}
  - {{match: [{{port: 9004, gateways: [edge]}}], {to_two}}}
  - {{match: [{{port: 9005, sourceSubnet: 10.0.0.0/8}}], {to_one}}}
  - match: [{{port: 9005, sourceSubnet: 127.0.0.0/8, gateways: [mesh]}}]
    route: [{{destination: {{host: two.example, subset: any}}}}]
""",
                ),
                subset("two.example"),
                subset("one.tls.example"),
                entry("grpc.example", {"grpc": (7000, "GRPC"), "auto": (7001, "")}, grpc_one.port, grpc_two.port),
            )
        )
        settings = Settings(protocol_detection_timeout=DETECTION)
        yield Site(stack.enter_context(sidecar(text, settings=settings)), app)


# --- which protocol --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [8080, 8081])
def test_http_is_routed_whether_its_port_says_so_or_not(site: Site, port: int) -> None:
    assert site.proxy.get("app.example", port, "/a").seen["headers"]["x-routed"] == "here"


@pytest.mark.parametrize("port", [7000, 7001])
def test_grpc_is_balanced_by_request(site: Site, port: int) -> None:
    found = Counter(said(site.at("grpc.example"), port, "grpc.example", 40))
    assert set(found) == {b"grpc-one", b"grpc-two"}


def test_bytes_pass_on_a_port_that_says_nothing(site: Site) -> None:
    with socket.create_connection((site.at("one.example"), 9000), timeout=5) as stream:
        stream.sendall(b"\x00\x01 not http\r\n")
        expected = b"one\n\x00\x01 NOT HTTP\r\n"
        assert stream.makefile("rb").read(len(expected)) == expected


def test_tls_passes_on_a_port_that_says_nothing(site: Site) -> None:
    context = context_for(AUTHORITY.roots)
    with connected(9443, "auto.tls.example", context, site.at("auto.tls.example")) as stream:
        assert greeting(stream) == "tls-one"


@pytest.mark.parametrize("port", [9001, 9002])
def test_a_server_that_speaks_first_is_heard_at_once_where_the_port_says_its_protocol(site: Site, port: int) -> None:
    start = time.monotonic()
    assert greeted(port, site.at("one.example")) == "one"
    assert time.monotonic() - start < DETECTION


@pytest.mark.covers("MeshConfig protocolDetectionTimeout")
def test_a_server_that_speaks_first_is_heard_after_the_detection_timeout_elsewhere(site: Site) -> None:
    start = time.monotonic()
    assert greeted(9000, site.at("one.example")) == "one"
    assert time.monotonic() - start >= DETECTION * 0.9


# --- TLS routes ------------------------------------------------------------------------------------------------------


def tls_greeting(site: Site, name: str) -> str:
    with connected(8443, name, context_for(AUTHORITY.roots), site.at("tls.example")) as stream:
        return greeting(stream)


@pytest.mark.covers(
    "VirtualService tls[].match[].sniHosts",
    "VirtualService tls[].match[].sourceLabels",
    "VirtualService tls[].match[].gateways",
    "VirtualService tls[].route[].destination.host",
    "VirtualService tls[].route[].destination.subset",
)
def test_tls_goes_where_its_server_name_says(site: Site) -> None:
    assert tls_greeting(site, "a.tls.example") == "tls-one"
    assert tls_greeting(site, "tls.example") == "tls-one"


@pytest.mark.covers(
    "VirtualService tls[].match[].port",
    "VirtualService tls[].match[].sourceNamespace",
    "VirtualService tls[].match[].destinationSubnets",
    "VirtualService tls[].route[].weight",
    "VirtualService tls[].route[].destination.port.number",
)
def test_tls_is_split_by_weight(site: Site) -> None:
    found = Counter(tls_greeting(site, "b.tls.example") for _ in range(80))
    assert 42 <= found["tls-two"] <= 75 and found["tls-one"] + found["tls-two"] == 80, found


@pytest.mark.parametrize("name", ["c.tls.example", "d.tls.example"])
def test_tls_that_no_route_takes_goes_nowhere(site: Site, name: str) -> None:
    with pytest.raises(OSError):
        tls_greeting(site, name)


# --- TCP routes ------------------------------------------------------------------------------------------------------


@pytest.mark.covers(
    "VirtualService tcp[].match[].port",
    "VirtualService tcp[].match[].sourceLabels",
    "VirtualService tcp[].match[].sourceNamespace",
    "VirtualService tcp[].match[].destinationSubnets",
    "VirtualService tcp[].match[].gateways",
    "VirtualService tcp[].match[].sourceSubnet",
    "VirtualService tcp[].route[].destination.subset",
    "VirtualService tcp[].route[].destination.host",
)
@pytest.mark.parametrize(("port", "server"), [(9001, "two"), (9002, "two"), (9004, "one"), (9005, "two")])
def test_bytes_go_where_the_first_route_says_that_holds(site: Site, port: int, server: str) -> None:
    assert greeted(port, site.at("tcp.example")) == server


@pytest.mark.covers("VirtualService tcp[].route[].weight", "VirtualService tcp[].route[].destination.port.number")
def test_bytes_are_split_by_weight(site: Site) -> None:
    found = Counter(greeted(9003, site.at("tcp.example")) for _ in range(80))
    assert 42 <= found["two"] <= 75 and found["one"] + found["two"] == 80, found


# --- what else HTTP is -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict() -> Iterator[Site]:
    """A sidecar that knows nothing but its registry, and takes HTTP/1.0."""
    with ExitStack() as stack:
        app = stack.enter_context(Application("v1"))
        grpc = stack.enter_context(GrpcServer("grpc"))
        text = "".join(
            (
                entry("app.example", {"auto": (8080, ""), "http": (8081, "HTTP")}, app.port),
                entry("grpc.example", {"web": (7000, "GRPC-WEB")}, grpc.port),
                entry("tls.example", {"tls": (8443, "TLS")}, app.port),
                entry("idle.example", {"tcp": (9001, "TCP")}, stack.enter_context(Echo("idle")).port),
                virtual_service(
                    "tls.example",
                    "  tls: [{match: [{sniHosts: [tls.example]}], route: [{destination: {host: tls.example}}]}]",
                ),
                """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: idle}
spec: {host: idle.example, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0.3s}}}}
""",
            )
        )
        settings = Settings(outbound_policy="REGISTRY_ONLY", http10=True)
        yield Site(stack.enter_context(sidecar(text, settings=settings)), app)


def exchange(address: str, port: int, text: bytes) -> bytes:
    """What comes back for some bytes until the peer closes."""
    with socket.create_connection((address, port), timeout=5) as stream:
        stream.sendall(text)
        return stream.makefile("rb").read()


@pytest.mark.parametrize("port", [8080, 8081])
def test_http_1_0_is_taken_where_the_mesh_says_so(strict: Site, site: Site, port: int) -> None:
    request = b"GET / HTTP/1.0\r\nHost: app.example\r\n\r\n"
    assert exchange(strict.at("app.example"), port, request).startswith(b"HTTP/1.0 200")
    with socket.create_connection((site.at("app.example"), 8081), timeout=5) as stream:
        stream.sendall(request)
        assert b" 426 " in stream.recv(1000).splitlines()[0]


@pytest.mark.parametrize("port", [8080, 8081])
def test_a_websocket_is_opened(strict: Site, port: int) -> None:
    with socket.create_connection((strict.at("app.example"), port), timeout=5) as stream:
        stream.sendall(
            b"GET /chat HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += stream.recv(1000)
        stream.sendall(b"hello")
        assert head.startswith(b"HTTP/1.1 101") and stream.recv(100) == b"HELLO"


def test_grpc_web_becomes_grpc(strict: Site) -> None:
    body = b"\x00\x00\x00\x00\x01!"
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    answer = strict.proxy.get("grpc.example", 7000, METHOD, headers, "POST", body)
    assert answer.headers["content-type"].startswith("application/grpc-web")
    assert answer.body.startswith(b"\x00\x00\x00\x00\x05grpc!")
    assert b"grpc-status:0" in answer.body


@pytest.mark.covers("MeshConfig outboundTrafficPolicy.mode")
def test_unknown_hosts_are_refused_where_only_the_registry_counts(strict: Site) -> None:
    elsewhere = {"host": "elsewhere.example"}
    assert strict.proxy.get("app.example", 8081, headers=elsewhere).status == 502
    assert strict.proxy.get("app.example", 8081).status == 200
    with pytest.raises(OSError):
        connected(8443, "elsewhere.example", context_for(AUTHORITY.roots), strict.at("tls.example")).__enter__()


@pytest.mark.covers("DestinationRule trafficPolicy.connectionPool.tcp.idleTimeout")
def test_an_idle_connection_is_closed(strict: Site) -> None:
    start = time.monotonic()
    assert exchange(strict.at("idle.example"), 9001, b"") == b"idle\n"
    assert 0.25 < time.monotonic() - start < 3
