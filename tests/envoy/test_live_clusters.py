"""Pools of endpoints: who gets requests, who is left out, and how servers are verified."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lateen.envoy.profile import EnvoyProfile
from lateen.envoy.translate import translate
from lateen.plan.clusters import (
    Cluster,
    ConnectionPool,
    Discovery,
    Endpoint,
    EndpointSet,
    LoadBalancing,
    LocalityEndpoints,
    OutlierDetection,
)
from lateen.plan.matching import RouteMatch
from lateen.plan.model import HttpChain, ProxyPlan, TcpChain, TcpTarget
from lateen.plan.proxy import Bind
from lateen.plan.routes import DirectResponse, RouteTable, VirtualHost
from lateen.plan.tls import ClientTls, SecretRef, ServerTls
from lateen.values.names import BUILT_IN
from tests.envoy.harness import (
    Application,
    Authority,
    Envoy,
    eventually,
    free_port,
    get,
    listening,
    raw,
    run_file,
    running,
    write_file,
)
from tests.golden.plan_to_envoy.cases import CLIENT_SIDE, ROUTES, endpoint_set, mesh_client, plan_of, route, to


def client(port: int, cluster: Cluster, endpoints: EndpointSet) -> ProxyPlan:
    """A listener in front of one cluster."""
    host = VirtualHost("all", ("*",), (route("default", RouteMatch(), to(cluster.name)),), ROUTES)
    chain = HttpChain("o", inline=RouteTable("80", (host,)), telemetry=CLIENT_SIDE)
    return plan_of((listening(port, chain),), (), (cluster,), (endpoints,))


@contextlib.contextmanager
def calling(cluster: Cluster, *endpoints: Endpoint) -> Iterator[tuple[Envoy, int]]:
    port = free_port()
    with running(client(port, cluster, endpoint_set(cluster.name, *endpoints)), Authority().mesh("a")) as envoy:
        yield envoy, port


@pytest.fixture
def apps() -> Iterator[tuple[Application, ...]]:
    with Application("a") as a, Application("b") as b, Application("c") as c:
        yield a, b, c


def here(application: Application, **options: bool) -> Endpoint:
    return Endpoint("127.0.0.1", application.port, **options)


def answering(port: int, requests: int) -> Counter[str]:
    return Counter(get(port).seen["app"] for _ in range(requests))


# --- who gets requests -----------------------------------------------------------------------------------------------


def test_round_robin_is_even(apps: tuple[Application, ...]) -> None:
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", load_balancing=LoadBalancing.ROUND_ROBIN)
    with calling(cluster, *(here(app) for app in apps)) as (_, port):
        assert answering(port, 30) == {"a": 10, "b": 10, "c": 10}


def test_endpoint_weights(apps: tuple[Application, ...]) -> None:
    a, b, _ = apps
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", load_balancing=LoadBalancing.ROUND_ROBIN)
    with calling(cluster, Endpoint("127.0.0.1", a.port, 3), here(b)) as (_, port):
        assert answering(port, 40) == {"a": 30, "b": 10}


def test_an_unhealthy_endpoint_gets_nothing_even_where_most_are(apps: tuple[Application, ...]) -> None:
    a, b, c = apps
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1")
    with calling(cluster, here(a), here(b, healthy=False), here(c, healthy=False)) as (_, port):
        assert answering(port, 20) == {"a": 20}


def test_without_a_healthy_endpoint_there_is_no_answer(apps: tuple[Application, ...]) -> None:
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1")
    with calling(cluster, here(apps[0], healthy=False)) as (_, port):
        assert get(port).status == 503


def test_localities_share_by_weight_and_priority(apps: tuple[Application, ...]) -> None:
    a, b, c = apps
    groups = (
        LocalityEndpoints("eu/a", (here(a),), 0, 80),
        LocalityEndpoints("eu/b", (here(b),), 0, 20),
        LocalityEndpoints("us/a", (here(c),), 1, 100),
    )
    port = free_port()
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", load_balancing=LoadBalancing.ROUND_ROBIN)
    with running(client(port, cluster, EndpointSet("c", groups)), Authority().mesh("a")):
        assert answering(port, 50) == {"a": 40, "b": 10}


def test_failures_eject_an_endpoint(apps: tuple[Application, ...]) -> None:
    a, b, _ = apps
    outlier = OutlierDetection(consecutive_5xx=2, interval=0.2, base_ejection_time=30, max_ejection_percent=100)
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", outlier=outlier, load_balancing=LoadBalancing.ROUND_ROBIN)
    dead = free_port()
    with calling(cluster, here(a), here(b), Endpoint("127.0.0.1", dead)) as (envoy, port):
        statuses = Counter(get(port).status for _ in range(30))
        assert statuses[503] == 2, statuses
        assert envoy.stat("cluster.c.outlier_detection.ejections_active") == 1


def test_a_detector_with_count_0_is_off(apps: tuple[Application, ...]) -> None:
    outlier = OutlierDetection(consecutive_5xx=0, interval=0.2, base_ejection_time=30, max_ejection_percent=100)
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", outlier=outlier)
    with calling(cluster, here(apps[0])) as (envoy, port):
        assert {get(port, "/status/500").status for _ in range(20)} == {500}
        assert envoy.stat("cluster.c.outlier_detection.ejections_active") == 0


def test_codes_of_the_users_own_count_as_failures(apps: tuple[Application, ...]) -> None:
    a, b, _ = apps
    outlier = OutlierDetection(
        2, interval=0.2, base_ejection_time=30, max_ejection_percent=100, http_error_codes=(429,)
    )
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", outlier=outlier, load_balancing=LoadBalancing.ROUND_ROBIN)
    with calling(cluster, here(a), here(b)) as (envoy, port):
        for _ in range(4):
            get(port, "/status/429")
        assert eventually(lambda: envoy.stat("cluster.c.outlier_detection.ejections_active")) >= 1


def test_pending_requests_are_limited(apps: tuple[Application, ...]) -> None:
    pool = ConnectionPool(max_connections=1, max_pending_requests=1)
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", pool=pool)
    found: list[int] = []
    with calling(cluster, here(apps[0])) as (envoy, port):
        served, waits = (threading.Thread(target=lambda: found.append(get(port, "/slow/2").status)) for _ in range(2))
        served.start()
        eventually(lambda: envoy.stat("cluster.c.upstream_rq_active") == 1)
        waits.start()
        eventually(lambda: envoy.stat("cluster.c.upstream_rq_pending_active") == 1)
        assert {get(port).status for _ in range(4)} == {503}
        for thread in (served, waits):
            thread.join()
        assert found == [200, 200]
        assert envoy.stat("cluster.c.upstream_rq_pending_overflow") == 4


def test_a_connection_for_each_request(apps: tuple[Application, ...]) -> None:
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", pool=ConnectionPool(max_requests_per_connection=1))
    with calling(cluster, here(apps[0])) as (envoy, port):
        for _ in range(5):
            get(port)
        assert envoy.stat("cluster.c.upstream_cx_total") == 5


def test_names_are_looked_up(apps: tuple[Application, ...]) -> None:
    for discovery in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS):
        cluster = Cluster("c", discovery, ROUTES, "http1")
        with calling(cluster, Endpoint("localhost", apps[0].port)) as (_, port):
            assert get(port).status == 200


def test_a_cluster_of_none_answers_503() -> None:
    with calling(Cluster("BlackHoleCluster", Discovery.NONE, BUILT_IN)) as (_, port):
        assert get(port).status == 503


def test_connections_leave_from_the_given_address(apps: tuple[Application, ...]) -> None:
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", source=Bind("127.0.0.6"))
    with calling(cluster, here(apps[0])) as (_, port):
        assert get(port).seen["peer"] == "127.0.0.6"


# --- TLS towards servers ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tls_server(authority: Authority, *sans: str, client_roots: bool = False) -> Iterator[int]:
    """An Envoy that answers over TLS with a certificate for these names."""
    port = free_port()
    tls = ServerTls(
        SecretRef("cert"), BUILT_IN, roots=SecretRef("roots") if client_roots else None, require_client=client_roots
    )
    host = VirtualHost("all", ("*",), (route("d", RouteMatch(), DirectResponse(200, b"over TLS")),), ROUTES)
    listener = listening(port, HttpChain("s", inline=RouteTable("s", (host,))), "inbound", tls)
    with running(plan_of((listener,)), authority.issue(*sans)):
        yield port


@contextlib.contextmanager
def originating(tls: ClientTls, server: int, authority: Authority, folder: Path) -> Iterator[int]:
    """A client's Envoy whose machine trusts ``authority``."""
    roots = folder / "roots.pem"
    roots.write_bytes(authority.roots)
    port = free_port()
    cluster = Cluster("c", Discovery.STRICT_DNS, ROUTES, "http1", tls=tls)
    plan = client(port, cluster, endpoint_set("c", Endpoint("localhost", server)))
    pem = authority.issue("client.example")
    resources = translate(plan, EnvoyProfile(system_roots=str(roots)))
    write_file(folder, plan, resources, pem)
    with run_file(folder):
        yield port


@pytest.mark.parametrize(
    ("tls", "status"),
    [
        (ClientTls(ROUTES, system_roots=True, auto_sni=True), 200),
        (ClientTls(ROUTES, system_roots=True, sni="api.example"), 200),
        (ClientTls(ROUTES, system_roots=True, sni="other.example"), 503),
        (ClientTls(ROUTES, system_roots=True, sni="other.example", sans=("api.example",)), 200),
        (ClientTls(ROUTES, system_roots=True, sni="api.example", sans=("other.example",)), 503),
        (ClientTls(ROUTES, system_roots=True, sni="api.example", sans=("other.example", "api.example")), 200),
        (ClientTls(ROUTES, verify=False, sni="other.example"), 200),
    ],
    ids=["host", "sni", "sni of another", "listed", "listed other", "one of the listed", "unverified"],
)
def test_an_outside_server_is_verified(tls: ClientTls, status: int, tmp_path: Path) -> None:
    authority = Authority()
    with tls_server(authority, "api.example") as server, originating(tls, server, authority, tmp_path) as port:
        answer = get(port, headers={"host": "api.example"})
        assert answer.status == status
        assert status != 200 or answer.body == b"over TLS"


def test_with_the_name_of_the_request_another_server_is_refused(tmp_path: Path) -> None:
    authority = Authority()
    tls = ClientTls(ROUTES, system_roots=True, auto_sni=True)
    with tls_server(authority, "api.example") as server, originating(tls, server, authority, tmp_path) as port:
        assert get(port, headers={"host": "other.example"}).status == 503


def test_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    tls = ClientTls(ROUTES, system_roots=True, sni="api.example")
    with tls_server(Authority(), "api.example") as server, originating(tls, server, Authority(), tmp_path) as port:
        assert get(port).status == 503


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = Authority()
    without = ClientTls(ROUTES, system_roots=True, sni="api.example")
    mutual = ClientTls(ROUTES, SecretRef("mine"), SecretRef("theirs"), sni="api.example")
    with tls_server(authority, "api.example", client_roots=True) as server:
        with originating(without, server, authority, tmp_path) as port:
            assert get(port).status == 503
        with originating(mutual, server, authority, tmp_path) as port:
            assert get(port).status == 200


def test_automatic_tls_spares_endpoints_without_a_proxy(apps: tuple[Application, ...]) -> None:
    authority = Authority()
    identity = "spiffe://cluster.local/ns/default/sa/reviews"
    cluster = Cluster("c", Discovery.EDS, ROUTES, "http1", tls=mesh_client(), load_balancing=LoadBalancing.ROUND_ROBIN)
    port = free_port()
    with tls_server(authority, identity, client_roots=True) as server:
        endpoints = endpoint_set("c", here(apps[0]), Endpoint("127.0.0.1", server, mesh_tls=True))
        with running(client(port, cluster, endpoints), authority.mesh("a")):
            bodies = [get(port).body for _ in range(4)]
            assert bodies.count(b"over TLS") == 2
            assert sum(json.loads(body)["app"] == "a" for body in bodies if body != b"over TLS") == 2


# --- plain bytes -----------------------------------------------------------------------------------------------------


def test_weighted_bytes(apps: tuple[Application, ...]) -> None:
    port = free_port()
    chain = TcpChain("t", (TcpTarget("a", 1), TcpTarget("b", 1)))
    clusters = tuple(Cluster(name, Discovery.EDS, ROUTES) for name in ("a", "b"))
    endpoints = tuple(endpoint_set(app.name, here(app)) for app in apps[:2])
    with running(plan_of((listening(port, chain),), (), clusters, endpoints), Authority().mesh("a")):
        found = Counter(get(port).seen["app"] for _ in range(40))
        assert min(found["a"], found["b"]) >= 5


def test_the_proxy_protocol_announces_the_client(apps: tuple[Application, ...]) -> None:
    port = free_port()
    chain = TcpChain("t", (TcpTarget("a"),))
    cluster = Cluster("a", Discovery.EDS, ROUTES, proxy_protocol="V1")
    with running(
        plan_of((listening(port, chain),), (), (cluster,), (endpoint_set("a", here(apps[0])),)), Authority().mesh("a")
    ):
        answer = raw(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"400" in answer or b"PROXY" in answer  # the application takes the announcement for a bad request


def test_idle_time_ends_a_connection() -> None:
    port = free_port()
    with Application("a") as app:
        chain = TcpChain("t", (TcpTarget("a"),), idle_timeout=0.3)
        cluster = Cluster("a", Discovery.EDS, ROUTES)
        plan = plan_of((listening(port, chain),), (), (cluster,), (endpoint_set("a", here(app)),))
        with (
            running(plan, Authority().mesh("a")),
            socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
        ):
            assert connection.recv(1) == b""
