"""What a change of a plan does to connections that are open, and to requests under way."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lateen.plan.access.model import AccessPolicy, AccessRule, All, ExternalAuthorizer, ExternalCheck, UrlPath
from lateen.plan.clusters import Cluster, Discovery, Endpoint
from lateen.plan.matching import RouteMatch
from lateen.plan.model import HttpChain, ProxyPlan, Telemetry
from lateen.plan.patch_values import ClusterPlace, Patch
from lateen.plan.proxy import Bind
from lateen.plan.routes import Fault, FaultAbort, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN, Origin
from tests.envoy.harness import Application, Authority, Envoy, eventually, free_port, get, listening, unverified
from tests.envoy.plane import controlled
from tests.golden.plan_to_envoy.cases import MESH_SERVER, OWN, ROUTES, RULES, endpoint_set, plan_of, prefix, route, to

ASKED = {"one": 501, "two": 502}
NO_ADMIN = AccessPolicy((AccessRule("no-admin", All(), UrlPath(prefix("/admin")), RULES),))


def plan(
    port: int,
    *applications: Application,
    access: AccessPolicy = AccessPolicy(),  # noqa: B008 - a frozen value
    fault: Fault | None = None,
    tags: tuple[tuple[str, str], ...] = OWN,
    tls: bool = False,
) -> ProxyPlan:
    """One guarded listener in front of the applications."""
    host = VirtualHost("all", ("*",), (route("default", RouteMatch(), to("c"), fault=fault),), ROUTES)
    chain = HttpChain(
        "i", inline=RouteTable("inbound|80||", (host,)), access=access, telemetry=Telemetry("source", tags)
    )
    listener = listening(port, chain, "inbound", MESH_SERVER if tls else None)
    cluster = Cluster("c", Discovery.EDS, BUILT_IN, "http1")
    return plan_of(
        (listener,), (), (cluster,), (endpoint_set("c", *(Endpoint("127.0.0.1", a.port) for a in applications)),)
    )


@pytest.fixture
def application() -> Iterator[Application]:
    with Application("a") as made:
        yield made


class Kept:
    """A connection that stays open from request to request, and says how often it had to be opened."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        self.opened = 0

    def get(self, path: str = "/") -> int:
        if self._connection.sock is None:
            self.opened += 1
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        response.read()
        return response.status


def listeners_changed(envoy: Envoy) -> int:
    return envoy.stat("listener_manager.listener_modified")


def test_an_access_rule_holds_at_once_on_an_open_connection(application: Application) -> None:
    port = free_port()
    with controlled(plan(port, application), Authority().mesh("a")) as (plane, envoy):
        kept = Kept(port)
        assert kept.get("/admin") == 200
        plane.serve(plan(port, application, access=NO_ADMIN))
        plane.settled()
        assert kept.get("/admin") == 403
        assert kept.get("/other") == 200
        plane.serve(plan(port, application))
        plane.settled()
        assert kept.get("/admin") == 200
        assert kept.opened == 1
        assert listeners_changed(envoy) == 0


def asking(*names: str) -> AccessPolicy:
    """Each of these is asked at its own path, and answers with a status of its own as it is not there."""
    return AccessPolicy(
        external=tuple(
            ExternalCheck(
                ExternalAuthorizer(name, "http", "nobody", name, status_on_error=ASKED[name]),
                (AccessRule(f"istio-ext-authz-{name}-rule", All(), UrlPath(prefix(f"/{name}")), RULES),),
            )
            for name in names
        )
    )


def test_what_an_authorizer_has_to_be_asked_about_is_never_passed_on_unasked(application: Application) -> None:
    port = free_port()
    nobody = AccessPolicy((AccessRule("nobody-to-ask", All(), UrlPath(prefix("/one")), RULES),))
    with controlled(plan(port, application, access=nobody), Authority().mesh("a")) as (plane, _):
        for before, after, path, still, then in (
            (nobody, asking("one"), "/one", 403, ASKED["one"]),
            (AccessPolicy(), asking("one"), "/one", 403, ASKED["one"]),
            (asking("one"), asking("two", "one"), "/two", 403, ASKED["two"]),
            (asking("one"), asking("two", "one"), "/one", 403, ASKED["one"]),
            (asking("one", "two"), asking("two"), "/two", 403, ASKED["two"]),
            (asking("one"), AccessPolicy(), "/one", 200, 200),
            (asking("one"), nobody, "/one", 403, 403),
            (asking("one"), NO_ADMIN, "/admin", 403, 403),
        ):
            plane.serve(plan(port, application, access=before))
            plane.settled()
            kept = Kept(port)
            assert kept.get("/other") == 200
            plane.serve(plan(port, application, access=after))
            plane.settled()
            assert kept.get(path) == still
            assert Kept(port).get(path) == then


def test_a_fault_comes_and_goes_without_a_new_listener(application: Application) -> None:
    port = free_port()
    abort = Fault(abort=FaultAbort(100, 418))
    with controlled(plan(port, application), Authority().mesh("a")) as (plane, envoy):
        kept = Kept(port)
        for fault, status in ((None, 200), (abort, 418), (None, 200)):
            plane.serve(plan(port, application, fault=fault))
            plane.settled()
            assert kept.get() == status
        assert kept.opened == 1
        assert listeners_changed(envoy) == 0


def test_connections_leave_from_the_bootstraps_source_and_sockets_still_work(application: Application) -> None:
    """One address for all clusters, so that the clusters of all proxies are alike; the control plane's is a file."""
    port, source = free_port(), Bind("127.0.0.6")
    with controlled(plan(port, application), Authority().mesh("a"), source):
        assert Kept(port).get() == 200
        assert application.seen[-1]["peer"] == "127.0.0.6"


@contextlib.contextmanager
def load(port: int, connections: int = 4) -> Iterator[Counter[str]]:
    """Requests without a pause over connections that are kept; what came of them, by status or error."""
    found: Counter[str] = Counter()
    done = threading.Event()

    def work() -> None:
        kept = Kept(port)
        while not done.is_set():
            try:
                found[str(kept.get("/slow/0.005"))] += 1
            except OSError as problem:
                found[type(problem).__name__] += 1

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_endpoints_come_and_go_under_load(application: Application) -> None:
    port = free_port()
    with Application("b") as other, controlled(plan(port, application), Authority().mesh("a")) as (plane, _):
        with load(port) as found:
            for turn in range(30):
                plane.serve(plan(port, *((application, other) if turn % 2 else (other,))))
                time.sleep(0.05)
        assert found.keys() == {"200"}, found
        assert found["200"] > 100
        assert other.seen


def test_routes_change_under_load(application: Application) -> None:
    port = free_port()
    with controlled(plan(port, application), Authority().mesh("a")) as (plane, _):
        with load(port) as found:
            for turn in range(30):
                plane.serve(plan(port, application, access=NO_ADMIN if turn % 2 else AccessPolicy()))
                time.sleep(0.05)
        assert found.keys() == {"200"}, found


def test_clusters_change_under_load(application: Application) -> None:
    """A changed cluster warms beside the old one, and takes over once its endpoints are there."""
    port = free_port()
    with controlled(plan(port, application), Authority().mesh("a")) as (plane, envoy):
        with load(port) as found:
            for turn in range(20):
                made = plan(port, application)
                changed = msgspec.structs.replace(made.clusters[0], connect_timeout=1.0 + turn)
                plane.serve(msgspec.structs.replace(made, clusters=(changed,)))
                time.sleep(0.05)
            plane.settled()
        assert found.keys() == {"200"}, found
        assert envoy.stat("cluster_manager.cluster_modified") >= 20
        assert envoy.stat("cluster_manager.warming_clusters") == 0


def test_listeners_change_under_load(application: Application) -> None:
    """A listener's own change lets its old connections end by themselves: no request is lost."""
    port = free_port()
    with controlled(plan(port, application), Authority().mesh("a")) as (plane, envoy):
        with load(port) as found:
            for turn in range(6):
                plane.serve(plan(port, application, tags=(("workload", f"w{turn}"),)))
                time.sleep(0.3)
        assert listeners_changed(envoy) == 6
        assert found.keys() == {"200"}, found


def certificate_of(port: int, authority: Authority) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        unverified(authority.mesh("client")).wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def test_a_certificate_is_rotated_by_the_agent_alone(application: Application, tmp_path: Path) -> None:
    authority, port = Authority(), free_port()
    with controlled(plan(port, application, tls=True), authority.mesh("a")) as (plane, envoy):
        before = certificate_of(port, authority)
        plane.certify(authority.mesh("a"))
        eventually(lambda: certificate_of(port, authority) != before)
        assert listeners_changed(envoy) == 0


def test_the_control_planes_end_harms_nothing(application: Application, tmp_path: Path) -> None:
    authority, port = Authority(), free_port()
    with controlled(plan(port, application, tls=True), authority.mesh("a")) as (plane, envoy):
        plane.stop_ads()
        assert certificate_of(port, authority)
        eventually(lambda: envoy.stat("control_plane.connected_state") == 0)
        assert certificate_of(port, authority)
        plane.start_ads()
        plane.serve(plan(port, application, tls=True, access=NO_ADMIN))
        eventually(lambda: envoy.stat("control_plane.connected_state") == 1, 15)
        plane.settled()


def test_patches_come_and_go_while_the_proxy_runs(application: Application) -> None:
    port = free_port()
    before = plan(port, application)
    origin = Origin("EnvoyFilter", "default", "f", "f.yaml", 1)
    gone = Patch("CLUSTER", "REMOVE", "", origin, cluster=ClusterPlace(name="c"))
    answer = '{"name": "own", "match": {"prefix": "/"}, "direct_response": {"status": 418}}'
    first = Patch("HTTP_ROUTE", "INSERT_FIRST", answer, origin)
    with controlled(before, Authority().mesh("a")) as (plane, envoy):

        def has_cluster() -> bool:
            return "\nc::" in f"\n{envoy.admin('/clusters')}"

        assert get(port).status == 200
        plane.serve(msgspec.structs.replace(before, patches=(first,)))
        plane.settled()
        assert get(port).status == 418
        plane.serve(msgspec.structs.replace(before, patches=(gone,)))
        plane.settled()
        eventually(lambda: not has_cluster())
        assert get(port).status == 503
        plane.serve(before)
        plane.settled()
        eventually(lambda: get(port).status == 200)
