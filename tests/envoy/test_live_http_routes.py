"""What each part of VirtualService.http does to real traffic: splits, faults, retries, mirrors, CORS, headers, URLs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from tests.envoy.harness import eventually
from tests.envoy.http_site import Site, site, within

HTTP = "VirtualService http[]"
TO_V1 = "route: [{destination: {host: v1.example}}]"
TO_V2 = "route: [{destination: {host: v2.example}}]"
BEHAVIOURS = {
    "split": """
        - route:
          - {destination: {host: v1.example}, weight: 90}
          - {destination: {host: v2.example, port: {number: 8080}}, weight: 10}
          - {destination: {host: closed.example}, weight: 0}
        """,
    "ab": f"""
        - match:
          - {{headers: {{x-version: {{exact: v2}}}}}}
          - {{headers: {{cookie: {{regex: "(.*; *)?version=v2(;.*)?"}}}}}}
          - {{headers: {{end-user: {{prefix: jas}}}}, withoutHeaders: {{x-out: {{exact: "1"}}}}}}
          - {{queryParams: {{version: {{regex: "v[2-9]"}}}}}}
          - {{method: {{exact: PUT}}, scheme: {{exact: http}}, authority: {{prefix: ab.}}}}
          - {{uri: {{}}, headers: {{x-any-path: {{exact: "1"}}}}}}
          {TO_V2}
        - {TO_V1}
        """,
    "place": f"""
        - {{match: [{{sourceNamespace: elsewhere}}, {{sourceLabels: {{app: other}}}}, {{port: 9999}}], {TO_V2}}}
        - {{match: [{{uri: {{prefix: /here}}, port: 8080, sourceLabels: {{app: client}}, gateways: [mesh]}}], {TO_V2}}}
        - {TO_V1}
        """,
    "spelt": f"""
        - name: first
          match:
          - {{name: any-case, uri: {{prefix: /Upper}}, ignoreUriCase: true, statPrefix: spelling}}
          - {{uri: {{exact: /Exact}}, ignoreUriCase: true}}
          - {{uri: {{prefix: /Strict}}}}
          {TO_V2}
        - {TO_V1}
        """,
    "delayed": f"- {{fault: {{delay: {{percentage: {{value: 20}}, fixedDelay: 0.02s}}}}, {TO_V1}}}",
    "aborted": f"- {{fault: {{abort: {{percentage: {{value: 12.5}}, httpStatus: 418}}}}, {TO_V1}}}",
    "grpc-aborted": f"- {{fault: {{abort: {{percentage: {{value: 100}}, grpcStatus: NOT_FOUND}}}}, {TO_V1}}}",
    "retried": f"""
        - match: [{{uri: {{prefix: /slow}}}}]
          retries: {{attempts: 1, perTryTimeout: 0.2s, retryOn: gateway-error}}
          {TO_V1}
        - match: [{{uri: {{prefix: /status/4}}}}]
          retries: {{attempts: 2, retryOn: "429,reset"}}
          {TO_V1}
        - match: [{{uri: {{prefix: /status/503}}}}]
          retries: {{}}
          {TO_V1}
        - retries: {{attempts: 3, retryOn: 5xx, backoff: 0.08s}}
          {TO_V1}
        """,
    "other-hosts": "- {retries: {attempts: 4, retryOn: 5xx}, route: [{destination: {host: half.example}}]}",
    "same-hosts": """
        - retries: {attempts: 1, retryOn: 5xx, retryIgnorePreviousHosts: false}
          route: [{destination: {host: half.example}}]
        """,
    "near": "- {retries: {attempts: 4, retryOn: 5xx}, route: [{destination: {host: far.example}}]}",
    "remote": """
        - retries: {attempts: 4, retryOn: 5xx, retryRemoteLocalities: true}
          route: [{destination: {host: far.example}}]
        """,
    "said-nothing": f"- {TO_V1}",
    "timed": f"- {{timeout: 0.5s, retries: {{}}, {TO_V1}}}",
    "mirrored": f"""
        - mirrors:
          - {{destination: {{host: copies.example}}, percentage: {{value: 30}}}}
          - {{destination: {{host: v2.example, port: {{number: 8080}}}}}}
          {TO_V1}
        """,
    "old-mirrored": f"- {{mirror: {{host: copies.example}}, mirrorPercent: 100, {TO_V1}}}",
    "mirrored-badly": f"""
        - match: [{{uri: {{prefix: /closed}}}}]
          mirror: {{host: closed.example}}
          mirrorPercentage: {{value: 100}}
          {TO_V1}
        - match: [{{uri: {{prefix: /sick}}}}]
          mirror: {{host: sick.example}}
          {TO_V1}
        - mirror: {{host: slow.example}}
          {TO_V1}
        """,
    "cors": f"""
        - match: [{{uri: {{prefix: /old}}}}]
          corsPolicy: {{allowOrigin: ["https://old.example"], allowMethods: [GET]}}
          {TO_V1}
        - corsPolicy:
            allowOrigins: [{{exact: "https://a.example"}}, {{prefix: "https://b."}}, {{regex: "https://c[0-9]"}}]
            allowMethods: [GET, PUT]
            allowHeaders: [x-one, x-two]
            exposeHeaders: [x-three]
            maxAge: 90s
            allowCredentials: true
            unmatchedPreflights: IGNORE
          {TO_V1}
        """,
    "moved": """
        - {match: [{uri: {exact: /whole}}], redirect: {uri: /new, authority: other.example, scheme: https}}
        - {match: [{uri: {prefix: /part/}}], redirect: {prefixRewrite: /whole/, redirectCode: 307}}
        - {match: [{uri: {exact: /port}}], redirect: {port: 8443, redirectCode: 302}}
        - {match: [{uri: {exact: /same-port}}], redirect: {authority: x.example, derivePort: FROM_REQUEST_PORT}}
        - {match: [{uri: {exact: /own-port}}], redirect: {scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}}
        - {match: [{uri: {exact: /303}}], redirect: {uri: /, redirectCode: 303}}
        - {match: [{uri: {exact: /308}}], redirect: {uri: /, redirectCode: 308}}
        """,
    "rewritten": f"""
        - {{match: [{{uri: {{exact: /exact}}}}], rewrite: {{uri: /other}}, {TO_V1}}}
        - {{match: [{{uri: {{prefix: /prefix/}}}}], rewrite: {{uri: /, authority: new.example}}, {TO_V1}}}
        - match: [{{uri: {{prefix: /pattern}}}}]
          rewrite: {{uriRegexRewrite: {{match: "^/pattern/([^/]+)/(.*)$", rewrite: '/\\2/\\1'}}}}
          {TO_V1}
        - {{match: [{{uri: {{regex: "/re/.*"}}}}], rewrite: {{uri: /whole}}, {TO_V1}}}
        - {{rewrite: {{authority: only.example}}, {TO_V1}}}
        """,
    "answered": """
        - {match: [{uri: {exact: /text}}], directResponse: {status: 418, body: {string: short}}}
        - {match: [{uri: {exact: /bytes}}], directResponse: {status: 200, body: {bytes: AAEC}}}
        - {directResponse: {status: 204}}
        """,
    "headed": """
        - headers:
            request: {set: {x-set: "to %REQ(:PATH)%", x-percent: "100%%"}, add: {x-add: r}, remove: [x-gone]}
            response: {set: {x-set: r}, add: {x-add: r}, remove: [content-type]}
          route:
          - destination: {host: v1.example}
            headers:
              request: {set: {x-target: v1, host: set.example}, add: {x-target-add: v1}, remove: [x-target-gone]}
              response: {set: {x-target: v1}, add: {x-target-add: v1}, remove: [x-app]}
        """,
}
MESH = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far}
spec:
  host: far.example
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1000}}
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
defaultHttpRetryPolicy: {attempts: 1, retryOn: "507", backoff: 10ms}
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    with site(BEHAVIOURS, MESH) as found:
        yield found


# --- which route -----------------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{HTTP}.route[].weight", f"{HTTP}.route[].destination")
def test_a_split_of_90_to_10(shop: Site) -> None:
    found = shop.many("split", 2000)
    assert set(found) == {"v1", "v2"}
    assert within(found["v2"], 2000, 0.1), found


@pytest.mark.covers(f"{HTTP}.match[].ignoreUriCase")
def test_a_path_in_any_spelling(shop: Site) -> None:
    assert {shop.app("spelt", path) for path in ("/Upper", "/upper/x", "/UPPER", "/exact", "/EXACT")} == {"v2"}
    assert shop.app("spelt", "/exact/x") == "v1"
    assert [shop.app("spelt", path) for path in ("/Strict/x", "/strict/x")] == ["v2", "v1"]


@pytest.mark.covers(f"{HTTP}.match[].statPrefix", f"{HTTP}.match[].name", f"{HTTP}.name")
def test_routes_have_names_and_statistics(shop: Site) -> None:
    def counted() -> int:
        found = shop.proxy.admin("/stats?usedonly&filter=route.spelling.upstream_rq_completed")
        return sum(int(line.rpartition(" ")[2]) for line in found.splitlines())

    before = counted()
    shop.get("spelt", "/upper")
    assert counted() == before + 1
    routes = shop.proxy.admin("/config_dump")
    assert '"first.any-case"' in routes


@pytest.mark.covers(
    f"{HTTP}.match[].headers",
    f"{HTTP}.match[].withoutHeaders",
    f"{HTTP}.match[].queryParams",
    f"{HTTP}.match[].method",
    f"{HTTP}.match[].scheme",
    f"{HTTP}.match[].authority",
)
def test_some_requests_meet_another_version(shop: Site) -> None:
    assert shop.app("ab") == "v1"
    assert shop.app("ab", x_version="v2") == "v2"
    assert shop.app("ab", x_version="v20") == "v1"
    assert shop.app("ab", cookie="a=b; version=v2; c=d") == "v2"
    assert shop.app("ab", cookie="version=v1") == "v1"
    assert shop.app("ab", end_user="jason") == "v2"
    assert shop.app("ab", end_user="jason", x_out="1") == "v1"
    assert shop.app("ab", end_user="ann") == "v1"
    assert shop.app("ab", "/?a=b&version=v3") == "v2"
    assert shop.app("ab", "/?version=v1") == "v1"
    assert shop.app("ab", "/any/path", x_any_path="1") == "v2"
    assert shop.get("ab", method="PUT").headers["x-app"] == "v2"


@pytest.mark.covers(
    f"{HTTP}.match[].sourceNamespace",
    f"{HTTP}.match[].sourceLabels",
    f"{HTTP}.match[].port",
    f"{HTTP}.match[].gateways",
    f"{HTTP}.match[].uri",
)
def test_the_clients_place_chooses(shop: Site) -> None:
    assert (shop.app("place"), shop.app("place", "/here/too")) == ("v1", "v2")


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{HTTP}.fault.delay")
def test_a_share_of_requests_is_delayed(shop: Site) -> None:
    before = shop.proxy.stat("http.*fault.delays_injected")
    start = time.monotonic()
    assert shop.many("delayed", 300) == {"v1": 300}
    delayed = shop.proxy.stat("http.*fault.delays_injected") - before
    assert within(delayed, 300, 0.2)
    assert time.monotonic() - start >= delayed * 0.02


@pytest.mark.covers(f"{HTTP}.fault.abort")
def test_a_share_of_requests_is_aborted(shop: Site) -> None:
    found = shop.many("aborted", 800)
    assert set(found) == {"v1", "418"}
    assert within(found["418"], 800, 0.125), found
    answer = shop.get("grpc-aborted", headers={"content-type": "application/grpc"})
    assert (answer.status, answer.headers["grpc-status"]) == (200, "5")


# --- retries and time ------------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{HTTP}.retries.attempts", f"{HTTP}.retries.retryOn", f"{HTTP}.retries.perTryTimeout")
def test_retries_are_counted_at_the_upstream(shop: Site) -> None:
    v1 = shop.apps["v1"]
    assert shop.get("retried", "/flaky/2").status == 200
    assert v1.asked("/flaky/2") == 3
    assert shop.get("retried", "/status/500").status == 500
    assert v1.asked("/status/500") == 4
    assert shop.get("retried", "/status/429").status == 429
    assert v1.asked("/status/429") == 3
    assert shop.get("retried", "/status/400").status == 400
    assert v1.asked("/status/400") == 1
    assert shop.get("retried", "/status/503").status == 503
    assert v1.asked("/status/503") == 1
    start = time.monotonic()
    assert shop.get("retried", "/slow/1").status == 504
    assert time.monotonic() - start >= 0.35, (
        "two tries of 0.2 s, less what Envoy's clock of whole milliseconds takes off"
    )
    assert v1.asked("/slow/1") == 2


@pytest.mark.covers(f"{HTTP}.retries.backoff")
def test_retries_wait_longer_each_time_and_never_alike(shop: Site) -> None:
    paths = [f"/status/599?{number}" for number in range(10)]
    threads = [threading.Thread(target=shop.get, args=("retried", path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waits = []
    for path in paths:
        times = shop.apps["v1"].times[path]
        waits.append([later - earlier for earlier, later in itertools.pairwise(times)])
    assert all(len(found) == 3 for found in waits)
    first, last = [found[0] for found in waits], [found[2] for found in waits]
    assert sum(last) > sum(first)
    assert max(last) - min(last) > 0.05


@pytest.mark.covers(f"{HTTP}.retries.retryIgnorePreviousHosts")
def test_a_retry_goes_to_another_member_unless_told_otherwise(shop: Site) -> None:
    assert set(shop.many("other-hosts", 40)) == {"v1"}
    assert set(shop.many("same-hosts", 60)) == {"v1", "sick"}


@pytest.mark.covers(f"{HTTP}.retries.retryRemoteLocalities")
def test_a_retry_leaves_for_another_locality_where_it_may(shop: Site) -> None:
    assert shop.app("near", "/near") == "sick"
    assert shop.apps["sick"].asked("/near") == 5
    assert shop.app("remote", "/remote") == "v1"
    assert 1 <= shop.apps["sick"].asked("/remote") <= 4


@pytest.mark.covers("MeshConfig defaultHttpRetryPolicy")
@pytest.mark.parametrize("host", ["said-nothing", "v1"])
def test_the_meshs_retries_hold_where_a_route_says_nothing(shop: Site, host: str) -> None:
    assert shop.get(host, f"/status/507?{host}").status == 507
    assert shop.apps["v1"].asked(f"/status/507?{host}") == 2


@pytest.mark.covers(f"{HTTP}.timeout")
def test_a_timeout_bounds_what_a_grpc_client_asks_for(shop: Site) -> None:
    assert shop.get("timed", "/slow/1.5").status == 504
    grpc = {"content-type": "application/grpc"}
    for asked, told in (("200m", "200m"), ("9S", "500m")):
        answer = shop.get("timed", f"/slow/1.5?{asked}", {**grpc, "grpc-timeout": asked})
        assert answer.headers["grpc-status"] in ("4", "14")
        seen = eventually(lambda path=f"/slow/1.5?{asked}": [s for s in shop.apps["v1"].seen if s["path"] == path])
        assert seen[0]["headers"]["grpc-timeout"] == told


# --- mirrors ---------------------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{HTTP}.mirrors", f"{HTTP}.mirror", f"{HTTP}.mirrorPercent")
def test_mirrors_get_their_share_of_copies(shop: Site) -> None:
    assert shop.many("mirrored", 400, "/copy") == {"v1": 400}
    eventually(lambda: shop.apps["v2"].asked("/copy") == 400)
    assert within(shop.apps["copies"].asked("/copy"), 400, 0.3)
    assert shop.get("old-mirrored", "/old-copy", method="POST", body=b"12345").seen["app"] == "v1"
    (copy,) = eventually(lambda: [seen for seen in shop.apps["copies"].seen if seen["path"] == "/old-copy"])
    assert (copy["method"], copy["body"], copy["headers"]["host"]) == ("POST", 5, "old-mirrored.example")


@pytest.mark.covers(f"{HTTP}.mirror", f"{HTTP}.mirrorPercentage")
@pytest.mark.parametrize("how", ["closed", "sick", "late"])
def test_a_mirrors_failure_harms_nobody(shop: Site, how: str) -> None:
    start = time.monotonic()
    assert shop.many("mirrored-badly", 20, f"/{how}") == {"v1": 20}
    assert time.monotonic() - start < 20  # the late one takes 2 s for each


# --- answers of the proxy --------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{HTTP}.corsPolicy")
def test_cross_origin_requests(shop: Site) -> None:
    wanted = {"access-control-request-method": "PUT"}
    for origin in ("https://a.example", "https://b.example:8443", "https://c7"):
        answer = shop.get("cors", "/preflight", {"origin": origin, **wanted}, "OPTIONS")
        said = {name.removeprefix("access-control-"): value for name, value in answer.headers.items()}
        assert (answer.status, said["allow-origin"], said["allow-methods"]) == (200, origin, "GET,PUT")
        assert (said["allow-headers"], said["max-age"], said["allow-credentials"]) == ("x-one,x-two", "90", "true")
        actual = shop.get("cors", "/", {"origin": origin})
        assert actual.seen["app"] == "v1"
        assert actual.headers["access-control-expose-headers"] == "x-three"
    for origin in ("https://c77", "https://a.example.evil", "null"):
        answer = shop.get("cors", "/preflight", {"origin": origin, **wanted}, "OPTIONS")
        assert "access-control-allow-origin" not in answer.headers
    assert shop.apps["v1"].asked("/preflight") == 0
    old = shop.get("cors", "/old", {"origin": "https://old.example", **wanted}, "OPTIONS")
    assert old.headers["access-control-allow-methods"] == "GET"
    assert shop.get("cors", "/old/unmatched", {"origin": "https://x.example", **wanted}, "OPTIONS").seen["app"] == "v1"


@pytest.mark.covers(f"{HTTP}.redirect")
@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/whole?a=b", 301, "https://other.example/new?a=b"),
        ("/part/x?a=b", 307, "http://moved.example/whole/x?a=b"),
        ("/port", 302, "http://moved.example:8443/port"),
        ("/same-port", 301, "http://x.example:8080/same-port"),
        ("/own-port", 301, "https://moved.example/own-port"),
        ("/303", 303, "http://moved.example/"),
        ("/308", 308, "http://moved.example/"),
    ],
)
def test_redirects(shop: Site, path: str, status: int, location: str) -> None:
    answer = shop.get("moved", path)
    assert (answer.status, answer.headers["location"]) == (status, location)


@pytest.mark.covers(f"{HTTP}.directResponse")
def test_the_proxy_answers_itself(shop: Site) -> None:
    assert shop.get("answered", "/text")[::2] == (418, b"short")
    assert shop.get("answered", "/bytes")[::2] == (200, b"\x00\x01\x02")
    assert shop.get("answered", "/else")[::2] == (204, b"")


# --- changes on the way ----------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{HTTP}.rewrite")
@pytest.mark.parametrize(
    ("path", "upstream", "host"),
    [
        ("/exact?a=b", "/other?a=b", "rewritten.example"),
        ("/prefix/x?a=b", "/x?a=b", "new.example"),
        ("/pattern/a/b/c?d=e", "/b/c/a?d=e", "rewritten.example"),
        ("/pattern", "/pattern", "rewritten.example"),
        ("/re/x?a=b", "/whole?a=b", "rewritten.example"),
        ("/else", "/else", "only.example"),
    ],
)
def test_rewrites(shop: Site, path: str, upstream: str, host: str) -> None:
    seen = shop.get("rewritten", path).seen
    assert (seen["path"], seen["headers"]["host"]) == (upstream, host)


@pytest.mark.covers(f"{HTTP}.headers", f"{HTTP}.route[].headers")
def test_headers_of_route_and_destination_are_changed(shop: Site) -> None:
    sent = {"x-set": "old", "x-add": "first", "x-gone": "1", "x-target-gone": "1"}
    answer = shop.get("headed", "/a", sent)
    seen = answer.seen["headers"]
    assert (seen["x-set"], seen["x-percent"], seen["x-add"]) == ("to /a", "100%", "r")
    assert (seen["x-target"], seen["x-target-add"], seen["host"]) == ("v1", "v1", "set.example")
    assert not {"x-gone", "x-target-gone"} & set(seen)
    assert [answer.headers[name] for name in ("x-set", "x-add", "x-target", "x-target-add")] == ["r", "r", "v1", "v1"]
    assert not {"content-type", "x-app"} & set(answer.headers)
