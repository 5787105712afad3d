"""What DestinationRules do to a pool, seen from both ends of a real Envoy."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from lateen.mesh.model import Workload
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Application, eventually
from tests.envoy.pools import HOST, PORT, entry_of, rule

KEYED = 60


def entry(apps: list[Application], *more: str) -> str:
    """A ServiceEntry with one endpoint an application; ``more`` are further fields of each."""
    fields = [f", {text}" for text in more] or [""] * len(apps)
    endpoints = ", ".join(
        f"{{address: 127.0.0.1, ports: {{http: {app.port}}}, labels: {{version: {app.name}}}{field}}}"
        for app, field in zip(apps, fields, strict=True)
    )
    return entry_of("HTTP", endpoints)


@contextlib.contextmanager
def apps(*names: str) -> Iterator[list[Application]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Application(name)) for name in names]


def served(proxy: Running, count: int = 60, **more: object) -> Counter[str]:
    answers = [proxy.get(HOST, PORT, **more) for _ in range(count)]  # type: ignore[arg-type]
    return Counter(answer.headers.get("x-app", str(answer.status)) for answer in answers)


@pytest.mark.covers("DestinationRule trafficPolicy.loadBalancer.simple")
@pytest.mark.parametrize("simple", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
def test_simple_balancers_use_every_member(simple: str) -> None:
    with apps("v1", "v2") as found:
        text = entry(found) + rule(f"{{loadBalancer: {{simple: {simple}}}}}")
        with sidecar(text) as proxy:
            counts = served(proxy)
    assert set(counts) == {"v1", "v2"}
    if simple == "ROUND_ROBIN":
        assert counts["v1"] == counts["v2"]


HASHES = [
    ("httpHeaderName: x-user", lambda key: {"headers": {"x-user": key}}),
    ("httpCookie: {name: user}", lambda key: {"headers": {"cookie": f"user={key}"}}),
    ("httpQueryParameterName: user", lambda key: {"path": f"/?user={key}"}),
    ("httpHeaderName: x-user, maglev: {tableSize: 251}", lambda key: {"headers": {"x-user": key}}),
    ("httpHeaderName: x-user, ringHash: {minimumRingSize: 256}", lambda key: {"headers": {"x-user": key}}),
    ("httpHeaderName: x-user, minimumRingSize: 256", lambda key: {"headers": {"x-user": key}}),
]


@pytest.mark.covers(
    "DestinationRule trafficPolicy.loadBalancer.consistentHash",
    "DestinationRule trafficPolicy.outlierDetection.consecutive5xxErrors",
    "DestinationRule trafficPolicy.outlierDetection.maxEjectionPercent",
)
@pytest.mark.parametrize(("how", "call"), HASHES)
def test_a_key_stays_with_its_member_also_while_another_leaves(how: str, call: object) -> None:
    assert callable(call)
    outlier = "outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, maxEjectionPercent: 100}"
    with apps("v1", "v2", "v3") as found:
        text = entry(found) + rule(f"{{loadBalancer: {{consistentHash: {{{how}}}}}, {outlier}}}")
        with sidecar(text) as proxy:

            def member(key: str) -> str:
                return proxy.get(HOST, PORT, **call(key)).headers["x-app"]

            before = {str(key): member(str(key)) for key in range(KEYED)}
            assert set(before.values()) == {"v1", "v2", "v3"}
            assert all(member(key) == name for key, name in before.items())
            gone = next(key for key, name in before.items() if name == "v3")
            given = call(gone)
            path = given.pop("path", "/").replace("/", "/status/500", 1)
            proxy.get(HOST, PORT, path, **given)
            eventually(lambda: member(gone) != "v3")
            after = {key: member(key) for key in before}
    stayed = [after[key] == name for key, name in before.items() if name != "v3"]
    assert sum(stayed) >= 0.6 * len(stayed)  # a ring is made anew with more points a member; half would stay by chance
    assert "v3" not in after.values()


@pytest.mark.covers("DestinationRule trafficPolicy.loadBalancer.consistentHash.useSourceIp")
def test_the_clients_address_is_a_key() -> None:
    with apps("v1", "v2", "v3") as found:
        text = entry(found) + rule("{loadBalancer: {consistentHash: {useSourceIp: true}}}")
        with sidecar(text) as proxy:
            assert len(served(proxy, 20)) == 1


@pytest.mark.covers(
    "DestinationRule trafficPolicy.loadBalancer.consistentHash.httpCookie.ttl",
    "DestinationRule trafficPolicy.loadBalancer.consistentHash.httpCookie.path",
    "DestinationRule trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[].name",
    "DestinationRule trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[].value",
)
def test_a_cookie_is_made_and_brings_the_client_back() -> None:
    cookie = "{name: user, path: /shop, ttl: 60s, attributes: [{name: SameSite, value: Strict}]}"
    with apps("v1", "v2", "v3") as found:
        text = entry(found) + rule(f"{{loadBalancer: {{consistentHash: {{httpCookie: {cookie}}}}}}}")
        with sidecar(text) as proxy:
            first = proxy.get(HOST, PORT)
            made = first.headers["set-cookie"]
            value = made.partition(";")[0]
            again = {proxy.get(HOST, PORT, headers={"cookie": value}).headers["x-app"] for _ in range(10)}
    assert "Max-Age=60" in made and "Path=/shop" in made and "SameSite=Strict" in made
    assert again == {first.headers["x-app"]}


NEAR = Workload(
    "client-0",
    "default",
    "client",
    (
        ("app", "client"),
        ("tier", "gold"),
        ("topology.istio.io/subzone", "s1"),
        ("topology.kubernetes.io/region", "r1"),
        ("topology.kubernetes.io/zone", "z1"),
    ),
    "client",
    "",
    ready=True,
)
OUTLIER = "outlierDetection: {consecutive5xxErrors: 2, interval: 0.1s, baseEjectionTime: 2s, maxEjectionPercent: 100}"


@pytest.mark.covers(
    "DestinationRule trafficPolicy.loadBalancer.localityLbSetting.failover",
    "DestinationRule trafficPolicy.outlierDetection.baseEjectionTime",
    "DestinationRule trafficPolicy.outlierDetection.interval",
)
def test_traffic_stays_near_fails_over_and_comes_back() -> None:
    places = [f"locality: {place}" for place in ("r1/z1/s1", "r1/z2", "r2/z1", "r3/z1")]
    policy = f"{{loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r3}}]}}}}, {OUTLIER}}}"
    with (
        apps("here", "zone", "other", "target") as found,
        sidecar(entry(found, *places) + rule(policy), workload=NEAR) as proxy,
    ):
        assert set(served(proxy, 10)) == {"here"}
        for _ in range(2):
            proxy.get(HOST, PORT, "/status/500")
        eventually(lambda: set(served(proxy, 5)) == {"zone"})
        for _ in range(2):
            proxy.get(HOST, PORT, "/status/500")
        eventually(lambda: set(served(proxy, 5)) == {"target"})
        eventually(lambda: set(served(proxy, 5)) == {"here"}, 20)


@pytest.mark.covers("DestinationRule trafficPolicy.loadBalancer.localityLbSetting.failoverPriority")
def test_labels_decide_on_preference() -> None:
    names = ["gold", "silver"]
    with apps(*names) as found:
        tiers = entry(found, "locality: r1/z1", "locality: r1/z1").replace("version: gold", "tier: gold")
        setting = "{localityLbSetting: {failoverPriority: [tier]}}"
        with sidecar(tiers + rule(f"{{loadBalancer: {setting}, {OUTLIER}}}"), workload=NEAR) as proxy:
            assert set(served(proxy, 10)) == {"gold"}
            for _ in range(2):
                proxy.get(HOST, PORT, "/status/500")
            eventually(lambda: set(served(proxy, 5)) == {"silver"})


@pytest.mark.covers(
    "DestinationRule trafficPolicy.loadBalancer.localityLbSetting.distribute[].from",
    "DestinationRule trafficPolicy.loadBalancer.localityLbSetting.distribute[].to",
)
def test_shares_of_localities() -> None:
    places = [f"locality: {place}" for place in ("r1/z1", "r1/z2", "r2/z1")]
    share = "{from: r1/z1/*, to: {r1/z1/*: 80, r1/z2/*: 20}}"
    policy = f"{{loadBalancer: {{simple: RANDOM, localityLbSetting: {{distribute: [{share}]}}}}}}"
    with apps("a", "b", "c") as found, sidecar(entry(found, *places) + rule(policy), workload=NEAR) as proxy:
        counts = served(proxy, 500)
    assert counts["c"] == 0
    assert abs(counts["a"] - 400) < 5 * (500 * 0.8 * 0.2) ** 0.5


@pytest.mark.covers("DestinationRule trafficPolicy.loadBalancer.localityLbSetting.enabled")
def test_localities_are_not_looked_at_where_they_are_off() -> None:
    policy = f"{{loadBalancer: {{simple: ROUND_ROBIN, localityLbSetting: {{enabled: false}}}}, {OUTLIER}}}"
    with (
        apps("near", "far") as found,
        sidecar(entry(found, "locality: r1/z1/s1", "locality: r9") + rule(policy), workload=NEAR) as proxy,
    ):
        assert set(served(proxy, 20)) == {"near", "far"}


@pytest.mark.covers("DestinationRule subsets[].labels", "DestinationRule subsets[].trafficPolicy.loadBalancer")
def test_a_subset_is_a_part_of_the_members_with_its_own_policy() -> None:
    subsets = "[{name: v1, labels: {version: v1}}]"
    route = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec: {{hosts: [{HOST}], http: [{{route: [{{destination: {{host: {HOST}, subset: v1}}}}]}}]}}
"""
    with (
        apps("v1", "v2") as found,
        sidecar(entry(found) + rule("{loadBalancer: {simple: RANDOM}}", subsets=subsets) + route) as proxy,
    ):
        assert set(served(proxy, 20)) == {"v1"}


@pytest.mark.covers("DestinationRule workloadSelector.matchLabels")
def test_a_rule_for_some_workloads_holds_for_these_alone() -> None:
    selected = rule("{loadBalancer: {simple: ROUND_ROBIN}}").replace("spec:", "spec:\n  workloadSelector: %s", 1)
    hashed = "{matchLabels: {app: %s}}"
    policy = "{loadBalancer: {consistentHash: {useSourceIp: true}}}"
    own = rule(policy).replace("name: shop,", "name: some,").replace("spec:", "spec:\n  workloadSelector: " + hashed)
    with (
        apps("v1", "v2", "v3") as found,
        sidecar(entry(found) + selected % (hashed % "nobody") + own % "client") as proxy,
    ):
        assert len(served(proxy, 20)) == 1
        with sidecar(entry(found) + own % "nobody") as proxy:
            assert len(served(proxy, 30)) == 3


@pytest.mark.covers("DestinationRule trafficPolicy.portLevelSettings[].loadBalancer")
def test_a_ports_settings_take_the_place_of_all_blocks() -> None:
    policy = (
        "{loadBalancer: {consistentHash: {useSourceIp: true}}, "
        f"portLevelSettings: [{{port: {{number: {PORT}}}, loadBalancer: {{simple: ROUND_ROBIN}}}}]}}"
    )
    with apps("v1", "v2") as found, sidecar(entry(found) + rule(policy)) as proxy:
        assert set(served(proxy, 10)) == {"v1", "v2"}


def at_once(proxy: Running, count: int, path: str) -> Counter[int]:
    """The statuses of requests that run side by side."""
    found: Counter[int] = Counter()
    lock = threading.Lock()

    def one() -> None:
        status = proxy.get(HOST, PORT, path).status
        with lock:
            found[status] += 1

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.covers(
    "DestinationRule trafficPolicy.connectionPool.tcp.maxConnections",
    "DestinationRule trafficPolicy.connectionPool.http.http1MaxPendingRequests",
    "DestinationRule trafficPolicy.connectionPool.http.http2MaxRequests",
)
@pytest.mark.parametrize(
    "limits", ["{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}", "{http: {http2MaxRequests: 2}}"]
)
def test_what_is_too_much_for_a_pool_is_refused_at_once(limits: str) -> None:
    with apps("v1") as found, sidecar(entry(found) + rule(f"{{connectionPool: {limits}}}")) as proxy:
        statuses = at_once(proxy, 8, "/slow/0.5")
    assert statuses[200] == 2
    assert statuses[503] == 6


@pytest.mark.covers(
    "DestinationRule trafficPolicy.retryBudget.percent",
    "DestinationRule trafficPolicy.retryBudget.minRetryConcurrency",
)
def test_a_retry_budget_holds_under_a_failing_upstream() -> None:
    retries = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [{HOST}]
  http: [{{retries: {{attempts: 10, retryOn: 5xx}}, route: [{{destination: {{host: {HOST}}}}}]}}]
---
"""
    budget = "{retryBudget: {percent: 10, minRetryConcurrency: 1}}"

    def upstream_requests(text: str) -> int:
        with apps("v1") as found, sidecar(entry(found) + retries + text) as proxy:
            at_once(proxy, 20, "/status/503")
            return len(found[0].seen)

    assert upstream_requests("") == 20 * 11
    assert upstream_requests(rule(budget)) < 20 * 6


class Sick(Application):
    """An application whose health answers as it is told."""

    healthy = True

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/healthz":
            request.send_response(200 if self.healthy else 503)
            request.send_header("content-length", "0")
            request.end_headers()
        else:
            super().answer(request)


def checked(check: str) -> str:
    return rule("{loadBalancer: {simple: ROUND_ROBIN}}", annotations="{lateen.io/health-check: '%s'}" % check)  # noqa: UP031


def test_an_unhealthy_member_is_found_without_a_request_and_comes_back() -> None:
    check = "{http: {path: /healthz}, interval: 0.1s, timeout: 1s, unhealthyThreshold: 2, healthyThreshold: 2}"
    with Sick("v1") as one, Sick("v2") as two, sidecar(entry([one, two]) + checked(check)) as proxy:
        eventually(lambda: set(served(proxy, 4)) == {"v1", "v2"})
        two.healthy = False
        eventually(lambda: set(served(proxy, 8)) == {"v1"})
        assert set(served(proxy, 20)) == {"v1"}
        two.healthy = True
        eventually(lambda: set(served(proxy, 4)) == {"v1", "v2"})


def test_a_member_that_takes_no_connection_is_found_by_tcp() -> None:
    with (
        Application("v1") as one,
        Application("v2") as two,
        sidecar(entry([one, two]) + checked("{tcp: {}, interval: 0.1s, unhealthyThreshold: 1}")) as proxy,
    ):
        eventually(lambda: set(served(proxy, 4)) == {"v1", "v2"})
        two.__exit__()
        eventually(lambda: set(served(proxy, 8)) == {"v1"})


@pytest.mark.covers(
    "DestinationRule trafficPolicy.loadBalancer.warmup.duration",
    "DestinationRule trafficPolicy.loadBalancer.warmup.minimumPercent",
    "DestinationRule trafficPolicy.loadBalancer.warmup.aggression",
    "DestinationRule trafficPolicy.loadBalancer.warmupDurationSecs",
)
@pytest.mark.parametrize(
    "warmup", ["warmup: {duration: 2s, minimumPercent: 10, aggression: 1.0}", "warmupDurationSecs: 2s"]
)
def test_a_member_that_comes_back_is_warmed_up(warmup: str) -> None:
    policy = f"{{loadBalancer: {{simple: ROUND_ROBIN, {warmup}}}}}"
    check = "{http: {path: /healthz}, interval: 0.1s, unhealthyThreshold: 1, healthyThreshold: 1}"
    with Sick("v1") as one, Sick("v2") as two:
        two.healthy = False
        with sidecar(entry([one, two]) + rule(policy, annotations=f"{{lateen.io/health-check: '{check}'}}")) as proxy:
            eventually(lambda: set(served(proxy, 6)) == {"v1"})
            time.sleep(2.2)  # the first is past its own warm-up then
            two.healthy = True
            eventually(lambda: "v2" in served(proxy, 12))
            counts = served(proxy, 60)
    assert 0 < counts["v2"] < 0.7 * counts["v1"]
