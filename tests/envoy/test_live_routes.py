"""Each thing that routes do, seen from both ends of a real Envoy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lateen.plan.clusters import Cluster, Discovery, Endpoint, LoadBalancing
from lateen.plan.hashing import HashOnHeader
from lateen.plan.matching import HeaderMatcher, MatchKind, QueryMatcher, RouteMatch, StringMatcher
from lateen.plan.model import HttpChain, ProxyPlan
from lateen.plan.routes import (
    CorsPolicy,
    DirectResponse,
    Fault,
    FaultAbort,
    FaultDelay,
    Forward,
    HeaderOps,
    Mirror,
    PrefixRewrite,
    Redirect,
    RegexRewrite,
    RetryPolicy,
    Route,
    RouteTable,
    VirtualHost,
    WeightedCluster,
)
from tests.envoy.harness import Answer, Application, Authority, Envoy, eventually, free_port, get, listening, running
from tests.golden.plan_to_envoy.cases import CLIENT_SIDE, ROUTES, endpoint_set, exact, plan_of, prefix, regex, route, to

OPS = HeaderOps(set=(("x-set", "new"),), add=(("x-add", "more"),), remove=("x-gone",))
PRESENT = StringMatcher(MatchKind.PRESENT)


def routes() -> tuple[Route, ...]:
    api = CorsPolicy((exact("https://a.example"),), ("GET", "PUT"), ("x-a",), ("x-b",), "600", True)
    return (
        route("exact", RouteMatch(exact("/exact")), DirectResponse(200, b"exact")),
        route("exact-fold", RouteMatch(StringMatcher(MatchKind.EXACT, "/Fold", True)), DirectResponse(200, b"fold")),
        route("regex", RouteMatch(regex("/re/[0-9]+")), DirectResponse(200, b"regex")),
        route("raw-prefix", RouteMatch(prefix("/foo")), DirectResponse(200, b"prefix")),
        route(
            "by-header", RouteMatch(headers=(HeaderMatcher("x-user", exact("jason")),)), DirectResponse(200, b"jason")
        ),
        route("by-presence", RouteMatch(headers=(HeaderMatcher("x-there", PRESENT),)), DirectResponse(200, b"there")),
        route(
            "by-absence",
            RouteMatch(prefix("/absent"), (HeaderMatcher("x-no", prefix("a"), invert=True, missing_as_empty=True),)),
            DirectResponse(200, b"absent"),
        ),
        route(
            "by-method",
            RouteMatch(prefix("/m"), (HeaderMatcher(":method", exact("PUT")),)),
            DirectResponse(200, b"put"),
        ),
        route(
            "by-query", RouteMatch(prefix("/q"), (), (QueryMatcher("a", exact("1")),)), DirectResponse(200, b"query")
        ),
        route("rewrite", RouteMatch(prefix("/old/")), to("v1", path_rewrite=PrefixRewrite("/new/"), host_rewrite="n")),
        route("rewrite-exact", RouteMatch(exact("/one")), to("v1", path_rewrite=PrefixRewrite("/two"))),
        route(
            "rewrite-regex", RouteMatch(prefix("/item/")), to("v1", path_rewrite=RegexRewrite("^/item/(.*)$", "/\\1"))
        ),
        route("moved", RouteMatch(exact("/moved")), Redirect(308, "/there", authority="x.example", scheme="https")),
        route("moved-prefix", RouteMatch(prefix("/p/")), Redirect(302, prefix="/q/", port=8443)),
        route("headers", RouteMatch(prefix("/headers")), to("v1"), request_headers=OPS, response_headers=OPS),
        route("split", RouteMatch(prefix("/split")), Forward((WeightedCluster("v1", 3), WeightedCluster("v2", 1)))),
        route(
            "split-headers",
            RouteMatch(prefix("/per-target")),
            Forward((WeightedCluster("v1", 1, OPS, OPS, "v1.example"), WeightedCluster("none", 0))),
        ),
        route(
            "single-headers", RouteMatch(prefix("/single")), Forward((WeightedCluster("v1", 1, OPS, OPS, "s.example"),))
        ),
        route("mirror", RouteMatch(prefix("/mirror")), to("v1", mirrors=(Mirror("v2", 100.0),))),
        route("no-mirror", RouteMatch(prefix("/unmirrored")), to("v1", mirrors=(Mirror("v2", 0.0),))),
        route("timeout", RouteMatch(prefix("/slow")), to("v1", timeout=0.2)),
        route("retry", RouteMatch(prefix("/flaky")), to("v1", retry=RetryPolicy(2, ("5xx",), backoff=0.01))),
        route(
            "retry-codes",
            RouteMatch(exact("/status/429")),
            to("v1", retry=RetryPolicy(1, ("retriable-status-codes",), (429,), backoff=0.01)),
        ),
        route("retry-connect", RouteMatch(prefix("/half")), to("half", retry=RetryPolicy(2, ("connect-failure",)))),
        route("delay", RouteMatch(prefix("/delay")), to("v1"), fault=Fault(FaultDelay(0.3, 100))),
        route("abort", RouteMatch(prefix("/abort")), to("v1"), fault=Fault(abort=FaultAbort(100, 418))),
        route(
            "abort-grpc", RouteMatch(prefix("/gabort")), to("v1"), fault=Fault(abort=FaultAbort(100, grpc_status=14))
        ),
        route("abort-some", RouteMatch(prefix("/some")), to("v1"), fault=Fault(abort=FaultAbort(50, 418))),
        route("abort-never", RouteMatch(prefix("/never")), to("v1"), fault=Fault(abort=FaultAbort(0, 418))),
        route("cors", RouteMatch(prefix("/api")), to("v1"), cors=api),
        route("nowhere", RouteMatch(prefix("/nowhere")), to("no-such-cluster")),
        route("sticky", RouteMatch(prefix("/sticky")), to("ring", hash_policies=(HashOnHeader("x-user"),))),
        route("big", RouteMatch(exact("/big")), DirectResponse(200, b"x" * 100_000)),
        route("default", RouteMatch(), to("v1")),
    )


class Site(NamedTuple):
    envoy: Envoy
    port: int
    v1: Application
    v2: Application

    def get(self, path: str = "/", headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        return get(self.port, path, headers, method)


def plan(port: int, v1: Application, v2: Application) -> ProxyPlan:
    hosts = (
        VirtualHost("shop", ("shop.example",), (route("s", RouteMatch(), DirectResponse(200, b"shop")),), ROUTES),
        VirtualHost("tls", ("tls.example",), (route("t", RouteMatch(), to("v1")),), ROUTES, require_tls=True),
        VirtualHost("wild", ("*.wild.example",), (route("w", RouteMatch(), DirectResponse(200, b"wild")),), ROUTES),
        VirtualHost("site", ("127.0.0.1", "site.example"), routes(), ROUTES),
    )
    chain = HttpChain("o", route_table="80", telemetry=CLIENT_SIDE)
    dead = free_port()
    clusters = tuple(
        Cluster(name, Discovery.STATIC, ROUTES, "http1", load_balancing=balancing)
        for name, balancing in (
            ("v1", LoadBalancing.ROUND_ROBIN),
            ("v2", LoadBalancing.ROUND_ROBIN),
            ("half", LoadBalancing.ROUND_ROBIN),
            ("ring", LoadBalancing.RING_HASH),
        )
    )
    first, second = Endpoint("127.0.0.1", v1.port), Endpoint("127.0.0.1", v2.port)
    endpoints = (
        endpoint_set("v1", first),
        endpoint_set("v2", second),
        endpoint_set("half", first, Endpoint("127.0.0.1", dead)),
        endpoint_set("ring", first, second),
    )
    return plan_of((listening(port, chain),), (RouteTable("80", hosts, ignore_port_in_host=True),), clusters, endpoints)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    port = free_port()
    with Application("v1") as v1, Application("v2") as v2, running(plan(port, v1, v2), Authority().mesh("a")) as envoy:
        yield Site(envoy, port, v1, v2)


# --- which route -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "body"),
    [
        ("shop.example", b"shop"),
        ("SHOP.example", b"shop"),
        ("shop.example:80", b"shop"),
        ("shop.example.", b"shop"),
        ("a.b.wild.example", b"wild"),
        ("wild.example", None),
        ("shop.example.evil", None),
    ],
)
def test_hosts(site: Site, host: str, body: bytes | None) -> None:
    answer = site.get("/", {"host": host})
    assert (answer.status, answer.body) == ((200, body) if body is not None else (404, b""))


@pytest.mark.parametrize(
    ("path", "headers", "method", "body"),
    [
        ("/exact", {}, "GET", b"exact"),
        ("/exact?query=is-not-seen", {}, "GET", b"exact"),
        ("/fOLD", {}, "GET", b"fold"),
        ("/re/12", {}, "GET", b"regex"),
        ("/foobar", {}, "GET", b"prefix"),
        ("/x/../exact", {}, "GET", b"exact"),
        ("/any", {"x-user": "jason"}, "GET", b"jason"),
        ("/any", {"x-there": "at all"}, "GET", b"there"),
        ("/absent", {}, "GET", b"absent"),
        ("/absent", {"x-no": "b"}, "GET", b"absent"),
        ("/m", {}, "PUT", b"put"),
        ("/q?a=1&b=2", {}, "GET", b"query"),
    ],
)
def test_conditions_that_hold(site: Site, path: str, headers: dict[str, str], method: str, body: bytes) -> None:
    assert site.get(path, headers, method).body == body


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        ("/exact/", {}, "GET"),
        ("/Exact", {}, "GET"),
        ("/re/12a", {}, "GET"),
        ("/any", {"x-user": "jasonx"}, "GET"),
        ("/absent", {"x-no": "abc"}, "GET"),
        ("/m", {}, "GET"),
        ("/q?a=2", {}, "GET"),
    ],
)
def test_conditions_that_do_not_hold(site: Site, path: str, headers: dict[str, str], method: str) -> None:
    assert site.get(path, headers, method).seen["app"] == "v1"


# --- what it does ----------------------------------------------------------------------------------------------------


def test_rewrites(site: Site) -> None:
    seen = site.get("/old/a?b=c").seen
    assert (seen["path"], seen["headers"]["host"]) == ("/new/a?b=c", "n")
    assert site.get("/one").seen["path"] == "/two"
    assert site.get("/item/9/x").seen["path"] == "/9/x"


def test_redirects(site: Site) -> None:
    moved = site.get("/moved?a=b")
    assert (moved.status, moved.headers["location"]) == (308, "https://x.example/there?a=b")
    part = site.get("/p/a")
    assert (part.status, part.headers["location"]) == (302, "http://127.0.0.1:8443/q/a")
    secure = site.get("/x", {"host": "tls.example"})
    assert (secure.status, secure.headers["location"]) == (301, "https://tls.example/x")


def test_header_changes(site: Site) -> None:
    answer = site.get("/headers", {"x-set": "old", "x-add": "first", "x-gone": "here"})
    headers = answer.seen["headers"]
    assert headers["x-set"] == "new"
    assert "x-gone" not in headers
    assert headers["x-add"] == "more"  # the echo keeps the last of several
    assert (answer.headers["x-set"], answer.headers["x-add"]) == ("new", "more")


@pytest.mark.parametrize(("path", "host"), [("/single", "s.example"), ("/per-target", "v1.example")])
def test_header_changes_of_one_destination(site: Site, path: str, host: str) -> None:
    answer = site.get(path, {"x-gone": "here"})
    assert answer.seen["headers"]["host"] == host
    assert answer.seen["headers"]["x-set"] == "new"
    assert "x-gone" not in answer.seen["headers"]
    assert answer.headers["x-set"] == "new"


def test_weights(site: Site) -> None:
    found = Counter(site.get("/split").seen["app"] for _ in range(200))
    assert 110 <= found["v1"] <= 185, found


def test_mirrors(site: Site) -> None:
    assert site.get("/mirror/me").seen["app"] == "v1"
    copy = eventually(lambda: [seen for seen in site.v2.seen if seen["path"] == "/mirror/me"])[0]
    assert copy["headers"]["host"] == f"127.0.0.1:{site.port}"
    site.get("/unmirrored")
    time.sleep(0.1)
    assert not [seen for seen in site.v2.seen if seen["path"] == "/unmirrored"]


def test_a_timeout(site: Site) -> None:
    assert site.get("/slow/1.5").status == 504


def test_retries(site: Site) -> None:
    answer = site.get("/flaky/2")
    assert answer.status == 200
    assert answer.seen["headers"]["x-envoy-attempt-count"] == "3"
    assert site.get("/flaky/3").status == 503
    assert site.get("/status/429").status == 429
    assert len([seen for seen in site.v1.seen if seen["path"] == "/status/429"]) == 2


def test_a_dead_endpoint_is_passed_over(site: Site) -> None:
    assert {site.get("/half").status for _ in range(20)} == {200}


def timed(site: Site, path: str) -> tuple[Answer, float]:
    start = time.monotonic()
    return site.get(path), time.monotonic() - start


def test_delays(site: Site) -> None:
    answer, seconds = timed(site, "/delay")
    assert answer.status == 200
    assert seconds >= 0.29


def test_aborts(site: Site) -> None:
    assert site.get("/abort").status == 418
    grpc = site.get("/gabort", {"content-type": "application/grpc"})
    assert (grpc.status, grpc.headers["grpc-status"]) == (200, "14")
    assert {site.get("/never").status for _ in range(20)} == {200}
    some = Counter(site.get("/some").status for _ in range(100))
    assert 20 <= some[418] <= 80


def test_cross_origin_requests(site: Site) -> None:
    preflight = {"origin": "https://a.example", "access-control-request-method": "PUT"}
    answer = site.get("/api", preflight, "OPTIONS")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-methods"] == "GET,PUT"
    assert answer.headers["access-control-max-age"] == "600"
    actual = site.get("/api", {"origin": "https://a.example"})
    assert actual.headers["access-control-expose-headers"] == "x-b"
    assert "access-control-allow-origin" not in site.get("/api", {"origin": "https://b.example"}).headers
    assert "access-control-allow-origin" not in site.get("/other", {"origin": "https://a.example"}).headers


def test_an_unknown_cluster_is_a_503(site: Site) -> None:
    assert site.get("/nowhere").status == 503


def test_the_same_user_stays_where_it_is(site: Site) -> None:
    found = {user: {site.get("/sticky", {"x-user": user}).seen["app"] for _ in range(5)} for user in "abcdefgh"}
    assert all(len(apps) == 1 for apps in found.values())
    assert set().union(*found.values()) == {"v1", "v2"}


def test_a_long_answer_of_the_proxy_itself(site: Site) -> None:
    assert len(site.get("/big").body) == 100_000


def test_clusters_outside_the_mesh_do_not_learn_who_calls(site: Site) -> None:
    assert not [name for name in site.get("/any").seen["headers"] if name.startswith("x-lateen")]
