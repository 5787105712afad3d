"""RateLimits in a running mesh: counted together by the mixer, edited under load, kept by a Redis."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.features.running import until

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("rate-limits"), pytest.mark.timeout(240)]
ECHO = "http://echo:8000"


def limits(scope, rule, name="echo", more=""):
    return f"""
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  scope: {scope}
  {more}
  rules: [{rule}]
"""


def at_once(mesh, times, path):
    """The statuses of so many requests, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: mesh.fetch(f"{ECHO}{path}").status, range(times)))


def test_two_replicas_let_through_exactly_what_is_allowed_in_all(mesh):
    rule = "{name: few, match: {paths: [{exact: /few}]}, per: [source.principal], limit: {requests: 7, per: 24h}}"
    with mesh.applied(limits("global", rule)):
        found = at_once(mesh, 24, "/few")
        assert (found.count(200), found.count(429)) == (7, 17)
        refused = mesh.fetch(f"{ECHO}/few")
        assert refused.headers["x-lateen-rate-limit"] == "default/echo/few"
        assert mesh.fetch(f"{ECHO}/open").status == 200


def test_a_mixer_that_is_gone_does_what_the_rule_says_and_is_back_soon(mesh):
    rule = "{match: {paths: [{exact: /%s}]}, limit: {requests: 1000, per: 1s}}"
    closed = limits("global", rule % "closed", "closed")
    opened = limits("global", rule % "opened", "opened", "onFailure: allow")
    with mesh.applied(f"{closed}---{opened}"):
        assert mesh.fetch(f"{ECHO}/closed").status == mesh.fetch(f"{ECHO}/opened").status == 200
        pid = mesh.status()["mixer"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert at_once(mesh, 4, "/closed") == [503] * 4
            assert at_once(mesh, 4, "/opened") == [200] * 4
        finally:
            os.kill(pid, signal.SIGKILL)
        until(lambda: mesh.fetch(f"{ECHO}/closed").status == 200, "the mixer is back")


@pytest.mark.parametrize("scope", ["local", "global"])
def test_edits_lose_no_request(mesh, scope):
    rule = "{match: {methods: [GET], paths: [{prefix: /busy}]}, per: [source.ip], limit: {requests: %d, per: 1s}}"
    stop, seen = threading.Event(), []

    def load():
        while not stop.is_set():
            seen.append(mesh.fetch(f"{ECHO}/busy").status)

    worker = threading.Thread(target=load)
    with mesh.applied(limits(scope, rule % 100_000)):
        worker.start()
        try:
            for requests in (100_001, 100_002, 100_003):
                before = len(seen)
                mesh.write("extra.yaml", limits(scope, rule % requests))
                mesh.settled()
                until(lambda before=before: len(seen) > before, "requests go on")
        finally:
            stop.set()
            worker.join(60)
    assert set(seen) == {200}


def test_a_limit_holds_for_connections_that_are_open(mesh):
    rule = "{match: {paths: [{exact: /now}]}, limit: {requests: 1, per: 24h}}"
    assert mesh.fetch(f"{ECHO}/now").status == 200
    with mesh.applied(limits("local", rule)):
        assert 429 in at_once(mesh, 6, "/now")
    assert at_once(mesh, 6, "/now") == [200] * 6


def test_a_limit_that_cannot_be_is_told_and_the_last_one_stays(mesh):
    rule = "{match: {paths: [{exact: /last}]}, limit: {requests: %s, per: 24h}}"
    with mesh.applied(limits("local", rule % 1)):
        mesh.write("extra.yaml", limits("local", rule % 0))
        mesh.settled()
        texts = [entry["text"] for entry in mesh.control("/v1/findings")["findings"]]
        assert any("no request at all would pass" in text for text in texts)
        assert 429 in at_once(mesh, 6, "/last")
