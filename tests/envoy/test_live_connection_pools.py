"""Connection pools and outlier detection of DestinationRules, seen from both ends of a real Envoy."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.grpc_support import GrpcServer, said, said_at_once
from tests.envoy.harness import Application, eventually, free_port
from tests.envoy.http_site import PORT, endpoint, entry
from tests.envoy.mute_servers import SilentHttp2, full_socket

POOL = "DestinationRule trafficPolicy.connectionPool"
OUTLIER = "DestinationRule trafficPolicy.outlierDetection"
FAST = "interval: 0.1s, baseEjectionTime: 0.5s, maxEjectionPercent: 100"
RULES = {
    "fresh": "connectionPool: {http: {maxRequestsPerConnection: 2}}",
    "short": "connectionPool: {tcp: {maxConnectionDuration: 0.3s}}",
    "idle": "connectionPool: {http: {idleTimeout: 0.3s}}",
    "patient": "connectionPool: {tcp: {idleTimeout: 0.3s}}",
    "probed": "connectionPool: {tcp: {tcpKeepalive: {probes: 3, time: 60s, interval: 10s}, connectTimeout: 2s}}",
    "upgraded": "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}",
    "narrow": "connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 2}}",
    "silent": "connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 0.2s, timeout: 0.3s}}}",
    "full": "connectionPool: {tcp: {connectTimeout: 0.2s}}",
    "alike": "connectionPool: {http: {useClientProtocol: true}}",
    "few-retries": "connectionPool: {http: {maxRetries: 1}}",
    "five": f"outlierDetection: {{consecutive5xxErrors: 2, {FAST}}}",
    "gateway": f"outlierDetection: {{consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, {FAST}}}",
    "old-gateway": f"outlierDetection: {{consecutiveErrors: 2, consecutive5xxErrors: 0, {FAST}}}",
    "coded": f"outlierDetection: {{consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [429], {FAST}}}",
    "local": f"outlierDetection: {{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, {FAST}}}",
    "panicking": f"outlierDetection: {{consecutive5xxErrors: 2, minHealthPercent: 60, {FAST}}}",
}


class Connections(Application):
    """Knows on which connections requests arrive."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ports: list[int] = []

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.ports.append(request.client_address[1])
        super().answer(request)


class Pools:
    """The running proxy, and its upstream."""

    def __init__(self, proxy: Running, app: Connections, silent: SilentHttp2) -> None:
        self.proxy, self.app, self.silent = proxy, app, silent

    def status(self, host: str, path: str = "/") -> int:
        return self.proxy.get(f"{host}.example", PORT, path).status

    def active(self, host: str) -> int:
        return self.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|{host}.example;?.upstream_cx_active")

    def ejected(self, host: str) -> int:
        return self.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|{host}.example;?.outlier_detection.ejections_active")


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with ExitStack() as stack:
        app = stack.enter_context(Connections("one"))
        two = stack.enter_context(Application("two"))
        grpc = stack.enter_context(GrpcServer("grpc"))
        ports = {host: [app.port] for host in RULES}
        slow = stack.enter_context(GrpcServer("slow", 0.3))
        ports["upgraded"], ports["narrow"] = [grpc.port], [slow.port]
        silent = stack.enter_context(SilentHttp2())
        ports["silent"], ports["full"] = [silent.port], [stack.enter_context(full_socket())]
        ports["local"] = [app.port, free_port()]
        ports["panicking"] = [app.port, two.port]
        text = "".join(
            entry(f"{host}.example", ", ".join(endpoint(port) for port in found)) for host, found in ports.items()
        )
        text += "".join(
            f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec: {{host: {host}.example, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}, {policy}}}}}
---
"""
            for host, policy in RULES.items()
        )
        text += f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: few-retries}}
spec:
  hosts: [few-retries.example]
  http: [{{retries: {{attempts: 5, retryOn: 5xx, backoff: 0.05s}},
    route: [{{destination: {{host: few-retries.example, port: {{number: {PORT}}}}}}}]}}]
"""
        yield Pools(stack.enter_context(sidecar(text)), app, silent)


@pytest.mark.covers(f"{POOL}.http.maxRequestsPerConnection")
def test_a_connection_ends_after_so_many_requests(pools: Pools) -> None:
    pools.app.ports.clear()
    assert [pools.status("fresh") for _ in range(6)] == [200] * 6
    assert len(set(pools.app.ports)) == 3


@pytest.mark.covers(f"{POOL}.tcp.maxConnectionDuration", f"{POOL}.tcp.idleTimeout", f"{POOL}.http.idleTimeout")
@pytest.mark.parametrize("host", ["short", "idle", "patient"])
def test_a_connection_ends_after_its_time(pools: Pools, host: str) -> None:
    assert pools.status(host) == 200
    assert pools.active(host) == 1
    eventually(lambda: pools.active(host) == 0)


@pytest.mark.covers(f"{POOL}.http.h2UpgradePolicy")
def test_an_http_port_is_called_over_http_2(pools: Pools) -> None:
    address = pools.proxy.address("upgraded.example")
    assert said(address, PORT, "upgraded.example", 5) == [b"grpc"] * 5
    grpc = {"content-type": "application/grpc", "te": "trailers"}
    answer = pools.proxy.get("upgraded.example", PORT, "/unknown", grpc, "POST")
    assert (answer.status, answer.headers["grpc-status"]) == (200, "12")  # of the server, which knows HTTP/2 alone
    assert pools.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|upgraded.example;?.upstream_cx_http2_total") >= 1


@pytest.mark.covers(f"{POOL}.http.maxConcurrentStreams")
def test_a_connection_takes_so_many_streams_at_once(pools: Pools) -> None:
    assert said_at_once(pools.proxy.address("narrow.example"), PORT, "narrow.example", 4) == [b"slow"] * 4
    assert pools.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|narrow.example;?.upstream_cx_http2_total") == 2


@pytest.mark.covers(f"{POOL}.http.useClientProtocol")
def test_the_clients_protocol_is_the_servers(pools: Pools) -> None:
    assert pools.status("alike") == 200
    assert pools.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|alike.example;?.upstream_cx_http1_total") == 1
    assert pools.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|alike.example;?.upstream_cx_http2_total") == 0


@pytest.mark.covers(f"{POOL}.http.maxRetries")
def test_retries_of_all_requests_together_are_limited(pools: Pools) -> None:
    threads = [threading.Thread(target=pools.status, args=("few-retries", "/status/500")) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    overflow = f"cluster.outbound\\|{PORT}\\|\\|few-retries.example;?.upstream_rq_retry_overflow"
    assert pools.proxy.stat(overflow) >= 5


@pytest.mark.covers(f"{POOL}.tcp.connectTimeout")
def test_a_connection_that_nobody_takes_is_given_up_in_time(pools: Pools) -> None:
    start = time.monotonic()
    assert pools.status("full") == 503
    assert time.monotonic() - start < 10  # three attempts; the mesh's own limit is 10 s for each
    assert pools.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|full.example;?.upstream_cx_connect_timeout") >= 1


@pytest.mark.covers(f"{POOL}.http.http2KeepAlive")
def test_a_connection_that_answers_no_ping_is_given_up(pools: Pools) -> None:
    assert pools.status("silent") in (502, 503)
    assert pools.silent.pings >= 1
    assert pools.proxy.stat(f"cluster.outbound\\|{PORT}\\|\\|silent.example;?.http2.keepalive_timeout") >= 1


@pytest.mark.covers(f"{POOL}.tcp.tcpKeepalive")
def test_a_connection_is_probed(pools: Pools) -> None:
    assert pools.status("probed") == 200
    timers = [line for line in _connections() if f":{pools.app.port:04X}" in line.split()[2]]
    assert any(line.split()[5].startswith("02:") for line in timers)  # 02: the keepalive timer runs


def _connections() -> list[str]:
    return Path("/proc/net/tcp").read_text().splitlines()[1:]


# --- outlier detection -----------------------------------------------------------------------------------------------


@pytest.mark.covers(
    f"{OUTLIER}.consecutive5xxErrors",
    f"{OUTLIER}.consecutiveGatewayErrors",
    f"{OUTLIER}.consecutiveErrors",
    f"{OUTLIER}.outlierDetectionHttpErrorCodes",
    f"{OUTLIER}.interval",
    f"{OUTLIER}.baseEjectionTime",
    f"{OUTLIER}.maxEjectionPercent",
)
@pytest.mark.parametrize(
    ("host", "harmless", "harmful"),
    [("five", 404, 500), ("gateway", 500, 503), ("old-gateway", 500, 502), ("coded", 404, 429)],
)
def test_a_failing_member_is_out_and_comes_back(pools: Pools, host: str, harmless: int, harmful: int) -> None:
    assert [pools.status(host, f"/status/{harmless}") for _ in range(4)] == [harmless] * 4
    assert pools.ejected(host) == 0
    assert [pools.status(host, f"/status/{harmful}") for _ in range(2)] == [harmful] * 2
    eventually(lambda: pools.status(host) == 503)  # nobody is left, and no panic
    eventually(lambda: pools.status(host) == 200, limit=15)  # half of the default


@pytest.mark.covers(f"{OUTLIER}.splitExternalLocalOriginErrors", f"{OUTLIER}.consecutiveLocalOriginFailures")
def test_failures_to_connect_are_counted_apart(pools: Pools) -> None:
    eventually(lambda: (pools.status("local"), pools.ejected("local"))[1] == 1)
    assert {pools.status("local") for _ in range(6)} == {200}


@pytest.mark.covers(f"{OUTLIER}.minHealthPercent")
def test_with_too_few_members_left_all_are_used(pools: Pools) -> None:
    address = pools.proxy.address("panicking.example")
    with socket.create_connection((address, PORT)) as connection:
        connection.settimeout(5)
        stream = connection.makefile("rb")
        for _ in range(4):  # the balancer takes turns, so that one member alone cannot fail twice in a row
            connection.sendall(b"GET /status/500 HTTP/1.1\r\nhost: panicking.example\r\n\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
        stream.close()
    assert pools.ejected("panicking") >= 1
    assert {pools.status("panicking") for _ in range(6)} == {200}
