"""What goes on while those whom adapters of Mixer call are gone, hang, are slow or talk nonsense; or the mixer does."""

import contextlib
import itertools
import json
import os
import signal
import socket
import threading
import time

import pytest

from tests.features.mixer_support import ECHO, NOTHING, TO_ECHO, documents, resource, rule, statuses
from tests.features.running import running_mesh, until
from tests.features.test_mixer import opa_rule
from tests.features.test_mixer_quotas import quota
from tests.outside_support import CONFIG, OutsideAdapter
from tests.redis_support import redis_server

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("mixer-failures"), pytest.mark.timeout(240)]
WAYS = ("gone", "hung", "slow", "garbage")
WELL = {"opa": b'{"result": true}', "list": b"v1\nv2\n"}
OPEN = "---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\npolicyCheckFailOpen: true\n"


class Server:
    """Answers every HTTP request alike: well, or as ``way`` says."""

    def __init__(self, body):
        self.way = "well"
        self._body = body
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._ended = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                if self.way == "gone":
                    return
                if self.way == "hung":
                    while not self._ended and self.way == "hung":
                        time.sleep(0.05)
                    return
                if self.way == "slow":
                    time.sleep(1.5)
                body = b"\xff\xfe{{" if self.way == "garbage" else self._body
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

    def close(self):
        self._ended = True
        self._listening.close()


@contextlib.contextmanager
def server(body=b""):
    running = Server(body)
    try:
        yield running
    finally:
        running.close()


TO_OTHERS = 'destination.labels["app"] != "client"'
ANNOTATED = """
  lenient:
    ports: {http: 8000}
    command: python3 app.py
    annotations: {policy.istio.io/check: allow-on-error, policy.istio.io/checkRetries: "2"}
  unchecked:
    ports: {http: 8000}
    command: python3 app.py
    annotations: {policy.istio.io/check: disable}
gateways:
"""


def with_annotations(mesh):
    text = (mesh.project / "lateen.yaml").read_text()
    mesh.write("lateen.yaml", text.replace("\ngateways:\n", ANNOTATED))


@pytest.fixture(scope="module")
def loopback():
    with running_mesh("loopback", with_annotations) as mesh:
        yield mesh


def closed(path="/closed"):
    """A rule that another handler decides: it is to hold whatever happens to the one under test."""
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 16}}})
    return documents(
        denier, NOTHING, rule(f'{TO_ECHO} && request.path == "{path}"', ("deny", "nothing"), name="closed")
    )


@pytest.mark.parametrize("fail_close", [True, False])
def test_an_open_policy_agent_that_fails(loopback, fail_close):
    paths = (f"/asked/{number}" for number in itertools.count())

    def asked():
        """Statuses of requests that nobody has an answer for yet."""
        return {loopback.fetch(f"{ECHO}{next(paths)}").status for _ in range(3)}

    with server(WELL["opa"]) as opa, loopback.applied(documents(opa_rule(opa.port, failClose=fail_close), closed())):
        until(lambda: statuses(loopback, path="/closed", count=1) == {401}, "the rules are in force")
        for way in WAYS:
            opa.way = way
            wanted = {500, 503, 504} if fail_close else {200}
            until(lambda wanted=wanted: asked() <= wanted, f"it is felt: {way}")
            assert asked() <= wanted
            assert statuses(loopback, path="/closed", count=1) == {401}
            opa.way = "well"
            until(lambda: asked() == {200}, f"it is asked again after {way}")


def outside(port, params):
    value = 'request.headers["x-v"] | "good"'
    return documents(
        resource("adapter", "mine", {"config": CONFIG, "templates": ["listentry"]}),
        resource(
            "handler",
            "outside",
            {"adapter": "mine", "connection": {"address": f"127.0.0.1:{port}", "timeout": "0.3s"}, "params": params},
        ),
        resource("instance", "version", {"template": "listentry", "params": {"value": value}}),
        rule(TO_ECHO, ("outside", "version"), name="outside"),
    )


def test_an_adapter_outside_mixer_that_fails(loopback):
    params = {"list": ["good"]}
    with server() as failing, OutsideAdapter() as well:
        for way in ("gone", "hung", "garbage"):
            failing.way = way
            with loopback.applied(documents(outside(failing.port, params), closed())):
                until(lambda: statuses(loopback, path="/closed", count=1) <= {401, 503, 504}, "the rules are in force")
                assert statuses(loopback, count=2) <= {503, 504}, way
        with loopback.applied(outside(failing.port, params) + OPEN):
            until(lambda: statuses(loopback, count=2) == {200}, "it goes on, as configured")
        with loopback.applied(outside(well.port, params)):
            until(lambda: statuses(loopback, count=2) == {200}, "it is asked elsewhere")
            assert statuses(loopback, {"x-v": "bad"}, count=2) == {403}
        with loopback.applied(outside(well.port, {"lst": []})):
            until(lambda: statuses(loopback, {"x-v": "other"}, count=2) == {500}, "it cannot be told its parameters")


def test_a_list_that_cannot_be_had(loopback):
    def of(port):
        params = {"providerUrl": f"http://127.0.0.1:{port}/list", "refreshInterval": "1s", "cachingInterval": "0s"}
        value = 'request.headers["x-v"] | "v1"'
        return documents(
            resource("handler", "listed", {"compiledAdapter": "listchecker", "params": params}),
            resource("instance", "version", {"compiledTemplate": "listentry", "params": {"value": value}}),
            rule(TO_ECHO, ("listed", "version")),
        )

    with server(WELL["list"]) as provider:
        with loopback.applied(of(provider.port)):
            until(lambda: statuses(loopback, {"x-v": "v3"}, count=1) == {403}, "the list is there")
            for way in WAYS[:3]:
                provider.way = way
                time.sleep(1.1)
                assert statuses(loopback, count=2) == {200}, "what was fetched goes on"
                assert statuses(loopback, {"x-v": "v3"}, count=1) == {403}
        provider.way = "gone"
        with loopback.applied(of(provider.port).replace("/list", "/other")):
            until(lambda: statuses(loopback, count=2) == {503}, "no list was ever there: closed")
        with loopback.applied(of(provider.port).replace("/list", "/third") + OPEN):
            until(lambda: statuses(loopback, count=2) == {200}, "no list was ever there: open, as configured")


@pytest.mark.parametrize("way", WAYS)
def test_reports_that_nobody_takes_harm_no_request(loopback, way):
    def lost(handler):
        lines = loopback.text("api.sock", "/metrics").splitlines()
        found = [line for line in lines if line.startswith("mixer_handler_") and f'"{handler}.default"' in line]
        return sum(float(line.split()[-1]) for line in found if "lost" in line or "failures" in line)

    def counted():
        lines = loopback.text("api.sock", "/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("istio_seen_beside{"))

    span = {
        "traceId": '"1"',
        "spanId": '"2"',
        "spanName": '"a"',
        "startTime": "request.time",
        "endTime": "response.time",
    }
    metric = {"name": "seen_beside", "instanceName": "seen.default", "kind": "COUNTER"}
    with server(b"") as collector:
        collector.way = way
        otlp = f"http://127.0.0.1:{collector.port}"
        url = f"{otlp}/api/v2/spans"
        fluentd = {
            "address": f"127.0.0.1:{collector.port}",
            "pushIntervalDuration": "0.2s",
            "pushTimeoutDuration": "0.3s",
        }
        texts = documents(
            resource("handler", "spans", {"compiledAdapter": "zipkin", "params": {"url": url, "sampleProbability": 1}}),
            resource("handler", "entries", {"compiledAdapter": "fluentd", "params": fluentd}),
            resource("handler", "otlp", {"compiledAdapter": "opentelemetry", "params": {"url": otlp}}),
            resource("handler", "beside", {"compiledAdapter": "prometheus", "params": {"metrics": [metric]}}),
            resource("instance", "span", {"compiledTemplate": "tracespan", "params": span}),
            resource("instance", "entry", {"compiledTemplate": "logentry", "params": {"severity": '"INFO"'}}),
            resource("instance", "seen", {"compiledTemplate": "metric", "params": {"value": "1"}}),
            rule(TO_ECHO, ("spans", "span"), ("entries", "entry"), ("otlp", "entry"), ("beside", "seen")),
        )
        with loopback.applied(texts):
            until(lambda: statuses(loopback, count=5) == {200} and counted() >= 5, "what another takes is counted")
            if way in ("gone", "hung"):
                until(lambda: statuses(loopback, count=2) == {200} and lost("spans") > 0, "its loss is counted", 90)
                until(lambda: lost("entries") > 0, "its loss is counted", 90)
            if way == "gone":
                until(lambda: lost("otlp") > 0, "its loss is counted", 90)


def test_a_mixer_that_hangs_lets_through_where_that_is_configured(loopback):
    header = rule(TO_ECHO, requestHeaderOperations=[{"name": "x-t", "values": ["request.id"], "operation": "REPLACE"}])
    with loopback.applied(header + OPEN):
        assert statuses(loopback) == {200}
        pid = loopback.status()["mixer"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: statuses(loopback, count=2) == {200}, "connections know that it may pass")
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: "x-t" in json.loads(loopback.fetch(f"{ECHO}/echo").body)["headers"], "it is asked again")


@pytest.mark.parametrize("text", ["", OPEN], ids=["closed", "open"])
def test_a_redis_that_is_gone_or_hangs(loopback, text):
    def granted(count=2):
        return [loopback.fetch(f"{ECHO}/echo", headers={"x-who": "anybody"}).status for _ in range(count)]

    with redis_server() as redis:
        limits = {"name": "used", "maxAmount": 1_000_000, "validDuration": "3600s"}
        params = {"quotas": [limits], "redisServerUrl": redis.url}
        with loopback.applied(documents(*quota("redisquota", params)) + text):
            until(lambda: redis.command("DBSIZE") != b":0\r\n" or not granted(), "it is asked")
            redis.process.send_signal(signal.SIGSTOP)
            wanted = [200, 200] if text else [503, 503]
            until(lambda: granted() == wanted, "it hangs")
            redis.process.send_signal(signal.SIGCONT)
            until(lambda: granted() == [200, 200], "it is asked again")
            redis.stop()
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
                redis.socket.unlink(missing_ok=True)
                other.bind(str(redis.socket))
                other.listen()
                until(lambda: granted() == wanted, "somebody else is there, who says nothing")


def test_annotations_say_whether_checks_are_made_and_what_without_an_answer(loopback):
    header = rule(
        TO_OTHERS, requestHeaderOperations=[{"name": "x-t", "values": ["request.id"], "operation": "REPLACE"}]
    )
    services = ("echo", "lenient", "unchecked")

    def asked():
        return {name: loopback.fetch(f"http://{name}:8000/echo").status for name in services}

    with server(WELL["opa"]) as opa, loopback.applied(documents(opa_rule(opa.port, failClose=True, match=TO_OTHERS))):
        until(lambda: asked() == dict.fromkeys(services, 200), "the rules are in force")
        opa.way = "gone"
        until(lambda: asked()["echo"] == 503, "it is felt")
        assert asked() == {"echo": 503, "lenient": 200, "unchecked": 200}
    with loopback.applied(header):
        until(
            lambda: all("x-t" in loopback.fetch(f"{ECHO}/echo").json()["headers"] for _ in range(8)),
            "the rule is in force at both versions",
        )
        assert "x-t" in loopback.fetch("http://lenient:8000/echo").json()["headers"]
        assert "x-t" not in loopback.fetch("http://unchecked:8000/echo").json()["headers"]
        pid = loopback.status()["mixer"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert asked() == {"echo": 503, "lenient": 200, "unchecked": 200}
        finally:
            os.kill(pid, signal.SIGCONT)
        said = loopback.lateen("mixer", "explain", "unchecked").stdout
        assert "unchecked:8000: nowhere, because checks are switched off there" in said
