"""What a Sidecar lets a workload see and call, and what the MeshConfig says for all, on the real Envoy."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Application, UnixConnection, free_port
from tests.envoy.test_live_inbound import Server, app_address, ask_http, connect, server

ENTRY = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}.example]
  ports:
  - {{name: http, number: 8080, protocol: HTTP}}
  - {{name: other, number: 8081, protocol: HTTP}}
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}, other: {port}}}}}]
"""
SIDECAR = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""
ROUTE = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{host}]
  http:
  - route: [{{destination: {{host: {to}, port: {{number: 8080}}}}}}]
    headers: {{request: {{set: {{by: {name}}}}}}}
"""
CONFIG = """
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
"""


def can_call(proxy: Running, host: str, port: int = 8080) -> bool:
    try:
        return proxy.get(host, port).status == 200
    except ConnectionError:
        return False


def shop_and_bank(app: Application) -> str:
    return ENTRY.format(name="shop", namespace="default", port=app.port) + ENTRY.format(
        name="bank", namespace="money", port=app.port
    )


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [
        ('["./*"]', {"shop.example"}),
        ('["*/*"]', {"shop.example", "bank.example"}),
        ('["money/*"]', {"bank.example"}),
        ('["*/bank.example"]', {"bank.example"}),
        ('["~/*"]', set()),
        ('["*/*", "~money/*"]', {"shop.example"}),
    ],
)
@pytest.mark.covers("Sidecar egress[].hosts")
def test_egress_hosts_say_which_services_can_be_called(hosts: str, seen: set[str]) -> None:
    text = SIDECAR.format(name="own", namespace="default", spec=f"{{egress: [{{hosts: {hosts}}}]}}")
    with Application("v1") as app, sidecar(shop_and_bank(app) + text) as proxy:
        assert {host for host in ("shop.example", "bank.example") if can_call(proxy, host)} == seen


@pytest.mark.covers("Sidecar egress[].port.number", "Sidecar workloadSelector.labels")
def test_a_selecting_sidecar_beats_its_namespaces_and_a_port_of_egress_is_the_only_one() -> None:
    port = "{number: 8081, protocol: HTTP, name: http}"
    own = f'{{workloadSelector: {{labels: {{app: client}}}}, egress: [{{port: {port}, hosts: ["./shop.example"]}}]}}'
    text = SIDECAR.format(name="a", namespace="default", spec='{egress: [{hosts: ["~/*"]}]}')
    text += SIDECAR.format(name="z", namespace="default", spec=own)
    text += SIDECAR.format(name="all", namespace="istio-system", spec='{egress: [{hosts: ["*/*"]}]}')
    with Application("v1") as app, sidecar(shop_and_bank(app) + text) as proxy:
        assert can_call(proxy, "shop.example", 8081)
        assert not can_call(proxy, "shop.example", 8080)
        assert not can_call(proxy, "bank.example", 8081)


@pytest.mark.covers("Sidecar egress[].hosts")
def test_a_route_is_seen_by_its_namespace_and_brings_what_it_sends_to() -> None:
    text = SIDECAR.format(name="own", namespace="default", spec='{egress: [{hosts: ["./*"]}]}')
    text += ROUTE.format(name="seen", namespace="default", host="shop.example", to="bank.example")
    with Application("v1") as app, sidecar(shop_and_bank(app) + text) as proxy:
        assert proxy.get("shop.example", 8080).seen["headers"]["by"] == "seen"
        assert not can_call(proxy, "bank.example")
    hidden = SIDECAR.format(name="own", namespace="default", spec='{egress: [{hosts: ["./*"]}]}')
    hidden += ROUTE.format(name="hidden", namespace="money", host="shop.example", to="bank.example")
    with Application("v1") as app, sidecar(shop_and_bank(app) + hidden) as proxy:
        assert "by" not in proxy.get("shop.example", 8080).seen["headers"]


@pytest.mark.covers("Sidecar outboundTrafficPolicy.mode", "MeshConfig outboundTrafficPolicy.mode")
def test_the_sidecars_policy_for_unknown_hosts_beats_the_meshs() -> None:
    closed = CONFIG + "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"
    opened = SIDECAR.format(name="own", namespace="default", spec="{outboundTrafficPolicy: {mode: ALLOW_ANY}}")
    with Application("v1") as app:
        entries = shop_and_bank(app)
        with sidecar(entries + closed) as proxy:
            assert _unknown(proxy) == 502
        with sidecar(entries + closed + opened) as proxy:
            assert _unknown(proxy) != 502
        empty = SIDECAR.format(name="own", namespace="default", spec="{outboundTrafficPolicy: {}}")
        with sidecar(entries + empty) as proxy:
            assert _unknown(proxy) == 502


def _unknown(proxy: Running) -> int:
    """The status of a request to a service's address for a host that nobody knows."""
    return proxy.get("nobody.example", 8080, address=proxy.address("shop.example")).status


@pytest.mark.covers("MeshConfig pathNormalization.normalization")
@pytest.mark.parametrize(
    ("normalization", "path"),
    [("NONE", "/a/../b//c"), ("BASE", "/b//c"), ("MERGE_SLASHES", "/b/c"), ("DECODE_AND_MERGE_SLASHES", "/b/c")],
)
def test_paths_are_normalised_as_the_mesh_says(normalization: str, path: str) -> None:
    config = CONFIG + f"pathNormalization: {{normalization: {normalization}}}\n"
    with Application("v1") as app, sidecar(shop_and_bank(app) + config) as proxy:
        asked = "/a/../b%2f/c" if normalization.startswith("DECODE") else "/a/../b//c"
        assert proxy.get("shop.example", 8080, asked).seen["path"] == path


@pytest.mark.covers(
    "MeshConfig h2UpgradePolicy", "MeshConfig tcpKeepalive.time", "MeshConfig defaultTrafficPolicy.connectionPool"
)
def test_the_mesh_sets_how_members_are_connected_to() -> None:
    config = CONFIG + (
        "h2UpgradePolicy: UPGRADE\ntcpKeepalive: {time: 75s}\n"
        "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}\n"
    )
    with Application("v1") as app, sidecar(shop_and_bank(app) + config) as proxy:
        found = next(cluster for cluster in proxy.plan.all_clusters if cluster.name == "outbound|8080||shop.example")
        assert (found.protocol, found.pool.max_connections) == ("http2", 7)
        assert found.pool.keepalive is not None
        assert found.pool.keepalive.time == 75
        assert proxy.get("shop.example", 8080).status in (502, 503)  # HTTP/2 to a server that speaks HTTP/1.1


@pytest.mark.covers("MeshConfig protocolDetectionTimeout")
def test_a_client_that_says_nothing_is_passed_on_as_bytes_in_the_end() -> None:
    config = CONFIG + "protocolDetectionTimeout: 0.2s\n"
    peer = "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\n"
    peer += "spec: {mtls: {mode: PERMISSIVE}}\n"
    with sidecar(config + peer, workload=server()) as proxy, Server(app_address(proxy), greeting=b"220 hi\r\n"):  # noqa: SIM117
        with connect(proxy) as connection:
            assert connection.recv(100) == b"220 hi\r\n"


@pytest.mark.covers("MeshConfig meshMTLS.minProtocolVersion")
def test_the_mesh_may_ask_for_tls_1_3(tmp_path: object) -> None:
    import ssl

    config = CONFIG + "meshMTLS: {minProtocolVersion: TLSV1_3}\n"
    with sidecar(config, workload=server("HTTP")) as proxy:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
            context.wrap_socket(connect(proxy))


@pytest.mark.covers("Sidecar inboundConnectionPool.http.maxRequestsPerConnection", "Sidecar ingress[].connectionPool")
def test_pools_of_the_way_in_go_from_the_listener_to_the_sidecar() -> None:
    spec = (
        "{inboundConnectionPool: {tcp: {maxConnections: 5}}, ingress: ["
        "{port: {number: 18081, protocol: HTTP, name: a}, defaultEndpoint: '127.0.0.1:18082'},"
        "{port: {number: 18083, protocol: HTTP, name: b}, defaultEndpoint: '127.0.0.1:18082',"
        " connectionPool: {tcp: {maxConnections: 2}}}]}"
    )
    text = SIDECAR.format(name="own", namespace="default", spec=spec)
    text += "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: d}\n"
    text += "spec: {mtls: {mode: DISABLE}}\n"
    with sidecar(text, workload=server("HTTP")) as proxy, Server(app_address(proxy), 18082):
        limits = {found.name: found.pool.max_connections for found in proxy.plan.clusters if "inbound|" in found.name}
        assert limits == {"inbound|18081||": 5, "inbound|18083||": 2}
        assert ask_http(connect(proxy, 18083)) == b"http:id"


def test_a_service_is_not_exported_where_the_mesh_says_so() -> None:
    config = CONFIG + "defaultServiceExportTo: [.]\n"
    with Application("v1") as app, sidecar(shop_and_bank(app) + config) as proxy:
        assert can_call(proxy, "shop.example")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            proxy.get("bank.example", 8080)


@pytest.mark.covers("Sidecar egress[].bind", "Sidecar egress[].captureMode", "Sidecar egress[].port.protocol")
def test_a_sidecar_opens_sockets_of_its_own(tmp_path: Path) -> None:
    port, opaque = free_port(), free_port()
    path = tmp_path / "out.sock"
    spec = (
        "{egress: ["
        f"{{port: {{number: {port}, protocol: HTTP, name: http}}, captureMode: NONE, hosts: ['./*']}},"
        f"{{port: {{number: {opaque}, protocol: TCP, name: tcp}}, captureMode: NONE, bind: 127.0.0.1, hosts: ['*/*']}},"
        f"{{port: {{number: 0, protocol: HTTP, name: uds}}, bind: 'unix://{path}', hosts: ['money/*']}}]}}"
    )
    text = SIDECAR.format(name="own", namespace="default", spec=spec)
    with Application("v1") as app:
        entries = shop_and_bank(app).replace("number: 8081", f"number: {port}")
        entries += ENTRY.format(name="raw", namespace="default", port=app.port).replace("8081", str(opaque))
        with sidecar(entries + text) as proxy:
            assert proxy.get("shop.example", port, "/tcp", address="127.0.0.1").seen["path"] == "/tcp"
            assert proxy.get("any.thing", opaque, "/raw", address="127.0.0.1").seen["path"] == "/raw"
            connection = UnixConnection(str(path))
            connection.request("GET", "/uds", headers={"host": "bank.example"})
            assert connection.getresponse().status == 200
            connection.close()
            assert not can_call(proxy, "bank.example")


@pytest.mark.covers("VirtualService exportTo", "DestinationRule exportTo")
@pytest.mark.parametrize(("export", "reaches"), [('["*"]', True), ("[default]", True), ("[.]", False)])
def test_routes_and_rules_hold_where_they_are_exported_to(export: str, reaches: bool) -> None:
    route = ROUTE.format(name="far", namespace="money", host="shop.example", to="shop.example")
    route = route.replace("spec:", f"spec:\n  exportTo: {export}")
    rule = f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: money}}
spec: {{host: bank.example, exportTo: {export}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}
"""
    with Application("v1") as app, sidecar(shop_and_bank(app) + route + rule) as proxy:
        assert ("by" in proxy.get("shop.example", 8080).seen["headers"]) == reaches
        assert (proxy.get("bank.example", 8080).status == 503) == reaches  # TLS to a server of plain text
