"""RateLimits that all proxies count together: real Envoys that ask a real mixer, in memory and on a real Redis."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from lateen.settings import Settings
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, serves_mesh
from tests.envoy.harness import Answer, Application, free_port, raw_status
from tests.envoy.mixer_support import MixerProcess, mixer_process
from tests.envoy.tls_support import EdgeAuthority, call
from tests.machine import eventually
from tests.redis_support import redis_server

MESH = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: edge}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - {match: [{uri: {exact: /direct}}], directResponse: {status: 204}}
  - {route: [{destination: {host: shop.example}}]}
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: shared, namespace: edge}
spec:
  scope: global
  rules:
  - {name: all, match: {hosts: [all.example]}, limit: {requests: 50, per: 24h}}
  - {name: client, match: {hosts: [client.example]}, per: [source.principal], limit: {requests: 2, per: 24h}}
  - name: paths
    match: {hosts: [paths.example]}
    per: [request.path, "request.headers[x-key]"]
    limit: {requests: 2, per: 24h}
  - {name: closed, match: {hosts: [closed.example]}, limit: {requests: 10000, per: 1s}}
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: open, namespace: edge}
spec:
  scope: global
  onFailure: allow
  rules:
  - {match: {hosts: [open.example]}, limit: {requests: 2, per: 24h}}
  - {match: {hosts: [bytes.example]}, per: ["request.headers[x-key]"], limit: {requests: 2, per: 24h}}
  response: {status: 503, headers: {X-Why: 100% full, Content-Type: application/json}, body: '{"wait": true}'}
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: tried, namespace: edge}
spec:
  scope: global
  dryRun: true
  rules: [{match: {hosts: [tried.example]}, limit: {requests: 1, per: 24h}}]
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: own, namespace: edge}
spec: {rules: [{match: {hosts: [both.example]}, limit: {requests: 1, per: 24h}}]}
---
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: plenty, namespace: edge}
spec: {scope: global, rules: [{match: {hosts: [both.example]}, limit: {requests: 5, per: 24h}}]}
"""
LIMITED = [200, 200, 429]


class Edge(NamedTuple):
    """One gateway; ``mixer`` is the one that it asks."""

    proxy: Running
    port: int
    mutual: int
    authority: EdgeAuthority
    mixer: MixerProcess

    def ask(self, rule: str, path: str = "/", headers: dict[str, str] | None = None) -> Answer:
        return self.proxy.get(f"{rule}.example", self.port, path, headers, address="127.0.0.1")

    def statuses(self, times: int, rule: str, path: str = "/", headers: dict[str, str] | None = None) -> list[int]:
        return [self.ask(rule, path, headers).status for _ in range(times)]

    def as_account(self, rule: str, account: str) -> int:
        context = self.authority.context_of(account)
        return call(self.mutual, "any.example", context, f"{rule}.example").status


@contextlib.contextmanager
def limiting(name: str, mixer: MixerProcess) -> Iterator[Edge]:
    authority, port, mutual = EdgeAuthority(), free_port(), free_port()
    settings = Settings(mixer_socket=str(mixer.socket))
    with Application("shop") as app:
        text = entry("shop", app.port, namespace="edge") + MESH
        text += gateway(serves(port), serves_mesh(mutual), namespace="edge")
        workload = gateway_workload("edge", name)
        with sidecar(text, workload=workload, authority=authority, logs=True, settings=settings) as proxy:
            yield Edge(proxy, port, mutual, authority, mixer)


@pytest.fixture(scope="module")
def edges() -> Iterator[tuple[Edge, Edge]]:
    """Two gateways that ask one mixer."""
    with mixer_process() as mixer, limiting("one", mixer) as one, limiting("two", mixer) as two:
        yield one, two


def at_once(times: int, *edges: Edge, rule: str = "all") -> int:
    """How many requests pass of so many, through all of these at the same time."""
    start = threading.Barrier(8)

    def ask(number: int) -> int:
        start.wait(30)
        return sum(edges[number % len(edges)].ask(rule).status == 200 for _ in range(times // 8))

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(ask, range(8)))


@pytest.mark.covers("RateLimit scope")
def test_two_proxies_at_once_let_through_exactly_the_limit(edges: tuple[Edge, Edge]) -> None:
    assert at_once(160, *edges) == 50
    refused = edges[1].ask("all", "/refused")
    assert (refused.status, refused.headers["x-lateen-rate-limit"]) == (429, "edge/shared/all")
    assert refused.headers["x-ratelimit-limit"].startswith("50")
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(refused.headers["retry-after"]) <= 1728
    entry = edges[1].proxy.logged("/refused")
    assert (entry["response_flags"], entry["rate_limit"]) == ("RL", "edge/shared/all")
    refusals = edges[1].proxy.metrics("lateen_rate_limited_total")
    assert any(labels["rate_limit"] == "edge/shared/all" and value for labels, value in refusals)


@pytest.mark.covers("RateLimit rules[].per")
def test_clients_and_keys_have_buckets_of_their_own_in_the_whole_mesh(edges: tuple[Edge, Edge]) -> None:
    one, two = edges
    assert [edge.as_account("client", "ann") for edge in (one, two, one, two)] == [*LIMITED, 429]
    assert two.as_account("client", "bob") == 200
    assert one.statuses(1, "client") + two.statuses(2, "client") == LIMITED, "callers without a certificate share one"
    assert one.statuses(1, "paths", "/a?1") + two.statuses(2, "paths", "/a?2") == LIMITED
    assert two.statuses(1, "paths", "/b") == two.statuses(1, "paths", "/a", {"x-key": "k"}) == [200]
    assert one.ask("paths", "/c").headers["x-ratelimit-remaining"] == "1"
    assert "x-ratelimit-limit" not in one.ask("other").headers


@pytest.mark.parametrize("value", [b"\xff\xfe", b"a" * 255 + "ü".encode()], ids=["no UTF-8", "a cut character"])
def test_no_bytes_of_a_client_keep_a_limit_from_counting(edges: tuple[Edge, Edge], value: bytes) -> None:
    text = b"GET / HTTP/1.1\r\nhost: bytes.example\r\nx-key: " + value + b"\r\n\r\n"
    assert [raw_status(edge.port, text) for edge in (*edges, *edges)] == [200, 200, 503, 503]


@pytest.mark.covers("RateLimit response.status", "RateLimit response.headers", "RateLimit response.body")
def test_refusals_answer_as_they_are_told(edges: tuple[Edge, Edge]) -> None:
    assert edges[0].statuses(3, "open") == [200, 200, 503]
    refused = edges[1].ask("open")
    assert (refused.status, refused.body) == (503, b'{"wait": true}')
    assert (refused.headers["x-why"], refused.headers["content-type"]) == ("100% full", "application/json")
    assert refused.headers["x-lateen-rate-limit"] == "edge/open/0"


@pytest.mark.covers("RateLimit dryRun")
def test_what_is_tried_refuses_nothing(edges: tuple[Edge, Edge]) -> None:
    assert edges[0].statuses(3, "tried") == [200] * 3
    assert edges[0].ask("tried", "/tried").status == 200
    assert edges[0].proxy.logged("/tried")["rate_limit_dry_run"] == "edge/tried/0"
    counted = edges[0].mixer.metrics()
    assert counted["mixer_quotas_tried_total"] == 3
    assert counted["mixer_quotas_granted_total"] >= 4


def test_what_a_proxy_refuses_by_itself_is_not_counted_by_all(edges: tuple[Edge, Edge]) -> None:
    one, two = edges
    assert one.statuses(5, "both") == [200, 429, 429, 429, 429]
    assert two.ask("both").headers["x-ratelimit-remaining"] == "3"


@pytest.mark.covers("RateLimit onFailure")
def test_what_happens_while_nobody_can_be_asked_is_as_the_rule_says() -> None:
    with mixer_process() as mixer, limiting("one", mixer) as edge:
        assert edge.statuses(1, "closed") == [200]
        with mixer.hanging():
            assert edge.statuses(2, "closed") == [503] * 2
            assert edge.statuses(3, "open") == [200] * 3
            assert edge.statuses(1, "other") == [200]
        eventually(lambda: edge.ask("closed").status == 200)
        mixer.kill()
        assert edge.statuses(2, "closed", "/gone") == [503] * 2
        assert edge.statuses(3, "open") == [200] * 3
        assert edge.proxy.logged("/gone")["response_flags"] == "RLSE"
        mixer.start()
        eventually(lambda: edge.ask("closed").status == 200)


def test_two_mixers_count_together_on_one_redis() -> None:
    with (
        redis_server() as redis,
        mixer_process(redis.url) as first,
        mixer_process(redis.url) as second,
        limiting("one", first) as one,
        limiting("two", second) as two,
    ):
        assert at_once(160, one, two) == 50
        assert [edge.as_account("client", "ann") for edge in (one, two, one)] == LIMITED
        assert redis.command("CLIENT PAUSE 100 WRITE").startswith(b"+OK")
        assert one.ask("closed").status == 200, "slow, and in time"
        assert redis.command("CLIENT PAUSE 60000 WRITE").startswith(b"+OK")
        assert one.statuses(1, "closed") == [503], "too slow"
        assert two.statuses(2, "open") == [200] * 2
        assert redis.command("CLIENT UNPAUSE").startswith(b"+OK")
        eventually(lambda: one.ask("closed").status == 200)
        redis.stop()
        assert one.statuses(1, "closed") == [503]
        assert two.statuses(3, "open") == [200] * 3
        assert "Redis does not answer" in first.log()
        assert first.metrics()["mixer_quotas_failed_total"] >= 1
        redis.start()
        eventually(lambda: one.ask("closed").status == 200)
        assert one.statuses(1, "open") + two.statuses(2, "open") == [200, 200, 503]
