"""Two sidecars and an application: identity, what is refused, what the proxies say about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lateen.plan.access.model import AccessPolicy, AccessRule, All, AnyOf, Header, Not, PeerIdentity, UrlPath
from lateen.plan.clusters import Cluster, Discovery, Endpoint
from lateen.plan.matching import MatchKind, RouteMatch, StringMatcher
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, ProxyPlan, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import Bind
from lateen.plan.routes import RouteTable, VirtualHost
from lateen.plan.tls import ServerTls
from lateen.values.names import BUILT_IN
from lateen.values.told_names import told_names
from tests.envoy.harness import (
    Application,
    Authority,
    Envoy,
    eventually,
    free_port,
    get,
    listening,
    raw,
    raw_status,
    running,
    unverified,
)
from tests.golden.plan_to_envoy.cases import (
    MESH_SERVER,
    OWN,
    RULES,
    endpoint_set,
    exact,
    mesh_client,
    plan_of,
    prefix,
    route,
    to,
)

SERVER_TAGS = (
    ("workload", "reviews-v1"),
    ("namespace", "default"),
    ("app", "reviews"),
    ("version", "v1"),
    ("service", "reviews.default.svc.cluster.local"),
)
CLIENT = "spiffe://cluster.local/ns/default/sa/productpage"
SERVER = "spiffe://cluster.local/ns/default/sa/reviews"
PRODUCTPAGE = "lateen/" + told_names("productpage-v1", {"app": "productpage", "version": "v1"})


class Mesh(NamedTuple):
    client: Envoy
    server: Envoy
    client_port: int
    tcp_port: int
    server_port: int
    application: Application


def access() -> AccessPolicy:
    """Nobody may see /admin; the product page may GET; a test's second identity may only see /public."""
    no_admin = AccessRule("ns[default]-policy[no-admin]-rule[0]", All(), UrlPath(prefix("/admin")), RULES)
    obs_text = AccessRule(
        "ns[default]-policy[marked]-rule[0]", All(), Header("x-mark", StringMatcher(MatchKind.PRESENT)), RULES
    )
    page = AccessRule(
        "ns[default]-policy[viewers]-rule[0]",
        PeerIdentity(exact(CLIENT)),
        AnyOf((Header(":method", exact("GET")), Header(":method", exact("POST")))),
        RULES,
    )
    others = AccessRule(
        "ns[default]-policy[public]-rule[0]",
        All((PeerIdentity(prefix("spiffe://")), Not(PeerIdentity(exact(CLIENT))))),
        UrlPath(prefix("/public")),
        RULES,
    )
    return AccessPolicy((no_admin, obs_text), (page, others))


def server_plan(port: int, tcp_port: int, app_port: int) -> ProxyPlan:
    telemetry = Telemetry("destination", SERVER_TAGS, access_log="{log}")
    table = RouteTable(
        f"inbound|{app_port}||",
        (VirtualHost("inbound", ("*",), (route("default", RouteMatch(), to(f"inbound|{app_port}||")),), BUILT_IN),),
    )
    http = HttpChain(
        "inbound",
        inline=table,
        access=access(),
        telemetry=telemetry,
        forwarded_client_cert="append_forward",
        serves_mesh=True,
        server_name="istio-envoy",
    )
    tcp = TcpChain("tcp", (TcpTarget(f"inbound|{app_port}||"),), access(), telemetry)
    listeners = tuple(
        Listener(
            name,
            Bind("127.0.0.1", number),
            "inbound",
            (Chain(name, ChainMatch(number, transport_protocol="tls"), action, BUILT_IN, MESH_SERVER),),
            BUILT_IN,
            inspect_tls=True,
            access_log="{log}",
        )
        for name, number, action in (("http", port, http), ("tcp", tcp_port, tcp))
    )
    local = Cluster(f"inbound|{app_port}||", Discovery.STATIC, BUILT_IN, "http1")
    return plan_of(listeners, (), (local,), (endpoint_set(local.name, Endpoint("127.0.0.1", app_port)),))


def client_plan(port: int, tcp_port: int, server_port: int, server_tcp: int, sans: tuple[str, ...] = ()) -> ProxyPlan:
    telemetry = Telemetry("source", OWN, access_log="{log}")
    chain = HttpChain("outbound", route_table="9080", telemetry=telemetry)
    host = VirtualHost("reviews", ("*",), (route("default", RouteMatch(), to("reviews")),), BUILT_IN)
    tags = (("service", "reviews.default.svc.cluster.local"), ("service_name", "reviews"))
    clusters = (
        Cluster(
            "reviews",
            Discovery.EDS,
            BUILT_IN,
            "http2",
            tls=mesh_client(sans, alpn=("istio-h2", "istio", "h2")),
            tags=tags,
        ),
        Cluster("tcp", Discovery.EDS, BUILT_IN, tls=mesh_client(sans), tags=tags),
    )
    listeners = (
        Listener("o", Bind("127.0.0.1", port), "outbound", (Chain("o", ChainMatch(), chain, BUILT_IN),), BUILT_IN),
        Listener(
            "t",
            Bind("127.0.0.1", tcp_port),
            "outbound",
            (Chain("t", ChainMatch(), TcpChain("t", (TcpTarget("tcp"),), telemetry=telemetry), BUILT_IN),),
            BUILT_IN,
        ),
    )
    workload = (("workload", "reviews-v1"), ("namespace", "default"), ("app", "reviews"), ("version", ""))
    endpoints = tuple(
        endpoint_set(
            cluster.name,
            Endpoint("127.0.0.1", number, mesh_tls=True, tags=workload),
            service=cluster.told_service,
        )
        for cluster, number in zip(clusters, (server_port, server_tcp), strict=True)
    )
    return plan_of(listeners, (RouteTable("9080", (host,)),), clusters, endpoints)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def mesh(authority: Authority) -> Iterator[Mesh]:
    ports = [free_port() for _ in range(4)]
    with (
        Application("reviews") as application,
        running(server_plan(ports[2], ports[3], application.port), authority.mesh("reviews")) as server,
        running(client_plan(*ports), authority.mesh("productpage", subject=PRODUCTPAGE)) as client,
    ):
        yield Mesh(client, server, ports[0], ports[1], ports[2], application)


# --- identity --------------------------------------------------------------------------------------------------------


def test_the_application_learns_who_called(mesh: Mesh) -> None:
    answer = get(mesh.client_port, "/hello", {"x-forwarded-client-cert": "URI=spiffe://forged"})
    assert answer.status == 200
    assert answer.headers["server"] == "istio-envoy"
    certificate = answer.seen["headers"]["x-forwarded-client-cert"]
    assert f"By={SERVER}" in certificate
    assert certificate.endswith(f"URI={CLIENT}")
    assert "forged" not in certificate


def test_nobody_says_which_path_was_asked_for_but_the_request_itself(mesh: Mesh, authority: Authority) -> None:
    """A forged x-envoy-original-path would stand in the access logs of both sides."""
    forged = {"x-envoy-original-path": "/public/forged"}
    assert "x-envoy-original-path" not in get(mesh.client_port, "/asked/for", forged).seen["headers"]
    extra = b"x-envoy-original-path: /public/forged\r\n"
    tls_get(mesh.server_port, unverified(authority.mesh("productpage")), "/admin/by-hand", extra)
    for envoy, paths in ((mesh.client, ["/asked/for"]), (mesh.server, ["/asked/for", "/admin/by-hand"])):
        eventually(lambda envoy=envoy, paths=paths: set(paths) <= {entry.get("path") for entry in envoy.log()})
        assert not [entry for entry in envoy.log() if "forged" in str(entry.get("path"))]


def test_plain_text_is_refused(mesh: Mesh) -> None:
    assert raw(mesh.server_port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""


@pytest.mark.parametrize(
    "identity",
    [None, ("spiffe://other.domain/ns/default/sa/productpage",), ("productpage.default.svc",)],
    ids=["no certificate", "another trust domain", "no identity"],
)
def test_a_stranger_is_refused(mesh: Mesh, authority: Authority, identity: tuple[str] | None) -> None:
    pem = authority.issue(*identity) if identity is not None else None
    assert tls_get(mesh.server_port, unverified(pem)) == b""


def test_a_websocket_crosses_the_mesh(mesh: Mesh) -> None:
    """Between the proxies it is an extended CONNECT of HTTP/2."""
    with socket.create_connection(("127.0.0.1", mesh.client_port), timeout=5) as connection:
        connection.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"hello")
        assert connection.recv(1000) == b"HELLO"


def tls_get(port: int, context: ssl.SSLContext, path: str = "/", extra: bytes = b"") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain) as connection:
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + extra + b"Connection: close\r\n\r\n"
                )
                found = b""
                while part := connection.recv(65536):
                    found += part
                return found
        except (ssl.SSLError, ConnectionError):
            return b""


def test_the_server_has_to_be_the_expected_identity(mesh: Mesh, authority: Authority) -> None:
    ports = free_port(), free_port()
    plan = client_plan(*ports, mesh.server_port, mesh.server_port, sans=("spiffe://cluster.local/ns/default/sa/other",))
    with running(plan, authority.mesh("productpage")) as envoy:
        assert get(ports[0]).status == 503
        reason = eventually(lambda: [line["upstream_transport_failure_reason"] for line in envoy.log()])[0]
        assert "CERTIFICATE_VERIFY_FAILED" in reason


# --- access ----------------------------------------------------------------------------------------------------------


def test_a_permitted_caller_may(mesh: Mesh) -> None:
    assert get(mesh.client_port, "/any/path").status == 200


def test_a_denial_beats_a_permission(mesh: Mesh) -> None:
    answer = get(mesh.client_port, "/admin/x")
    assert (answer.status, answer.body) == (403, b"RBAC: access denied")


SPELLINGS = (
    "/x/../admin",
    "/./admin",
    "/x/%2e%2e/admin",
    "/x/..;/admin",
    "/.;/admin",
    "/%2e/admin",
    "/%61dmin",
    "/admin?x=1",
    "/admin#x",
    "/admin;x=1",
    "/admin/",
    "/admin%23",
    "/admin%00",
    "/admin\xff",
    "\\admin",
    "/x/..\\admin",
    "http://h/admin",
)


@pytest.mark.parametrize("path", SPELLINGS)
def test_another_spelling_of_the_path_is_denied_too(mesh: Mesh, path: str) -> None:
    text = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw_status(mesh.client_port, text.encode("latin-1")) in (400, 403)


@pytest.mark.parametrize("value", ["", "a", "\xff\xfe"], ids=["empty", "text", "bytes that are no text"])
def test_a_rule_on_a_headers_presence_does_not_look_at_its_value(mesh: Mesh, value: str) -> None:
    text = f"GET / HTTP/1.1\r\nHost: x\r\nx-mark: {value}\r\nConnection: close\r\n\r\n".encode("latin-1")
    assert raw_status(mesh.client_port, text) in (400, 403)


def test_another_method_is_not_permitted(mesh: Mesh) -> None:
    assert get(mesh.client_port, "/", method="DELETE").status == 403


def test_another_identity_may_what_it_may(mesh: Mesh, authority: Authority) -> None:
    context = unverified(authority.mesh("ratings"))
    assert b" 200 " in tls_get(mesh.server_port, context, "/public/x").partition(b"\r\n")[0]
    assert b" 403 " in tls_get(mesh.server_port, context, "/other").partition(b"\r\n")[0]


def test_rules_on_http_deny_plain_bytes(mesh: Mesh) -> None:
    """The deny rules lose their conditions on HTTP, so that they deny every connection."""
    assert raw(mesh.tcp_port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert eventually(lambda: mesh.server.stat("tcp.rbac.denied"))


# --- telemetry -------------------------------------------------------------------------------------------------------


def samples(envoy: Envoy, metric: str, **labels: str) -> float:
    return sum(
        value for found, value in envoy.metrics(metric) if all(found.get(name) == text for name, text in labels.items())
    )


def test_the_client_counts_whom_it_called(mesh: Mesh) -> None:
    get(mesh.client_port, "/counted")
    labels = {
        "reporter": "source",
        "source_workload": "productpage-v1",
        "source_workload_namespace": "default",
        "source_app": "productpage",
        "source_version": "v1",
        "source_canonical_service": "productpage",
        "source_canonical_revision": "v1",
        "source_principal": CLIENT,
        "destination_workload": "reviews-v1",
        "destination_workload_namespace": "default",
        "destination_app": "reviews",
        "destination_version": "unknown",
        "destination_principal": SERVER,
        "destination_service": "reviews.default.svc.cluster.local",
        "destination_service_name": "reviews",
        "destination_service_namespace": "unknown",
        "request_protocol": "http",
        "response_code": "200",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }
    assert eventually(lambda: samples(mesh.client, "istio_requests_total", **labels)) >= 1
    assert eventually(lambda: samples(mesh.client, "istio_request_duration_milliseconds_count", **labels)) >= 1
    assert eventually(lambda: samples(mesh.client, "istio_response_bytes_sum", **labels)) > 10


def test_the_server_counts_who_called(mesh: Mesh) -> None:
    get(mesh.client_port, "/counted")
    labels = {
        "reporter": "destination",
        "source_workload": "productpage-v1",
        "source_workload_namespace": "default",
        "source_app": "productpage",
        "source_version": "v1",
        "source_canonical_service": "productpage",
        "source_canonical_revision": "v1",
        "source_principal": CLIENT,
        "destination_workload": "reviews-v1",
        "destination_principal": SERVER,
        "destination_service": "reviews.default.svc.cluster.local",
        "response_code": "200",
        "connection_security_policy": "mutual_tls",
    }
    assert eventually(lambda: samples(mesh.server, "istio_requests_total", **labels)) >= 1


@pytest.mark.parametrize(
    "subject", ["", "lateen/a/b", f"{PRODUCTPAGE}/more", "lateen/a b/c/d/e/f", "lateen/a/b/c/d/e spiffe://x/ns/x/sa/y"]
)
def test_a_subject_of_another_form_tells_nothing(mesh: Mesh, authority: Authority, subject: str) -> None:
    account = f"stranger{len(subject)}"
    tls_get(mesh.server_port, unverified(authority.mesh(account, subject=subject)), "/strange")
    principal = f"spiffe://cluster.local/ns/default/sa/{account}"
    labels = {"source_workload": "unknown", "source_version": "unknown", "source_principal": principal}
    assert eventually(lambda: samples(mesh.server, "istio_requests_total", **labels)) == 1


def test_a_denied_request_is_attributed(mesh: Mesh) -> None:
    get(mesh.client_port, "/admin/denied")
    labels = {"source_workload": "productpage-v1", "response_code": "403", "reporter": "destination"}
    assert eventually(lambda: samples(mesh.server, "istio_requests_total", **labels)) >= 1


def test_grpc_is_told_apart(mesh: Mesh) -> None:
    get(mesh.client_port, "/grpc", {"content-type": "application/grpc"}, method="POST", body=b"")
    assert eventually(lambda: samples(mesh.client, "istio_requests_total", request_protocol="grpc")) >= 1


def test_connections_are_counted(mesh: Mesh) -> None:
    raw(mesh.tcp_port, b"hello")
    labels = {"reporter": "source", "destination_service_name": "reviews", "request_protocol": "tcp"}
    assert eventually(lambda: samples(mesh.client, "istio_tcp_connections_opened_total", **labels)) >= 1
    assert eventually(lambda: samples(mesh.client, "istio_tcp_connections_closed_total", **labels)) >= 1
    assert eventually(lambda: samples(mesh.client, "istio_tcp_received_bytes_total", **labels)) >= 5
    at_server = {"reporter": "destination", "source_principal": CLIENT, "source_workload": "productpage-v1"}
    assert eventually(lambda: samples(mesh.server, "istio_tcp_connections_closed_total", **at_server)) >= 1


def test_both_sides_log_the_request(mesh: Mesh) -> None:
    get(mesh.client_port, "/logged?x=1", {"user-agent": 'quote " and \\ slash'})

    def entry(envoy: Envoy) -> dict[str, object] | None:
        return next((line for line in envoy.log() if line.get("path") == "/logged?x=1"), None)

    at_client, at_server = (eventually(lambda envoy=envoy: entry(envoy)) for envoy in (mesh.client, mesh.server))
    assert at_client["request_id"] == at_server["request_id"]
    assert at_client["response_code"] == 200
    assert at_client["user_agent"] == 'quote " and \\ slash'
    assert at_client["upstream_peer"] == SERVER
    assert at_server["downstream_peer"] == CLIENT
    assert at_client["upstream_cluster"] == "reviews"


def test_what_callers_write_is_one_entry_of_the_log_and_none_of_ours(mesh: Mesh) -> None:
    """Quotes, signs of JSON and bytes that are no text, in path and headers."""
    evil = b'GET /evil?x="},{"response_code":"200 HTTP/1.1\r\nhost: x\r\n'
    evil += b'user-agent: \xff\xfe"\\u000a","path":"/fine","downstream_peer":"admin"}\r\nx-forwarded-for: "1\r\n'
    raw(mesh.client_port, evil + b"connection: close\r\n\r\n")

    def entry(envoy: Envoy) -> dict[str, object] | None:
        return next((line for line in envoy.log() if str(line.get("path")).startswith("/evil")), None)

    for envoy in (mesh.client, mesh.server):
        found = eventually(lambda envoy=envoy: entry(envoy))
        assert found["path"] == '/evil?x="},{"response_code":"200'
        assert found.get("downstream_peer") in (None, CLIENT)
        assert not [line for line in envoy.log() if line.get("path") == "/fine"]


def test_a_connection_that_no_chain_takes_is_logged(mesh: Mesh) -> None:
    raw(mesh.server_port, b"plain\r\n\r\n")
    assert eventually(lambda: [line for line in mesh.server.log() if line["response_flags"] == "NR"])


def test_a_caller_in_plain_text_is_unknown(authority: Authority) -> None:
    port = free_port()
    with Application("a") as application:
        plan = server_plan(free_port(), free_port(), application.port)
        chain = plan.listeners[0].chains[0]
        http = HttpChain("plain", inline=chain.action.inline, telemetry=Telemetry("destination", SERVER_TAGS))  # type: ignore[union-attr]
        listener = listening(port, http, "inbound")
        with running(plan_of((listener,), (), plan.clusters, plan.endpoints), authority.mesh("reviews")) as envoy:
            assert get(port, "/").status == 200
            labels = {
                "source_workload": "unknown",
                "source_principal": "unknown",
                "connection_security_policy": "none",
            }
            assert eventually(lambda: samples(envoy, "istio_requests_total", **labels)) == 1


def test_optional_certificates_are_still_verified(authority: Authority) -> None:
    """require_client False: without a certificate yes, with a foreign one no."""
    tls = ServerTls(MESH_SERVER.certificate, BUILT_IN, MESH_SERVER.roots)
    port = free_port()
    with Application("a") as application:
        plan = server_plan(free_port(), free_port(), application.port)
        http = HttpChain("p", inline=plan.listeners[0].chains[0].action.inline)  # type: ignore[union-attr]
        listener = listening(port, http, "inbound", tls)
        with running(plan_of((listener,), (), plan.clusters, plan.endpoints), authority.mesh("reviews")):
            assert b" 200 " in tls_get(port, unverified()).partition(b"\r\n")[0]
            assert tls_get(port, unverified(Authority().mesh("productpage"))) == b""
