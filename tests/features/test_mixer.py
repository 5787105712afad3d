"""Mixer's rules on a running mesh: what is refused, what headers become, and what goes on when the mixer is away."""

import contextlib
import http.server
import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from tests.envoy.collectors import ForwardCollector, GrpcCollector, HttpCollector
from tests.features.running import ROOT, until
from tests.outside_support import CONFIG, OutsideAdapter
from tests.redis_support import redis_server

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("mixer"), pytest.mark.timeout(240)]
ECHO = "http://echo:8000"
HEAD = "apiVersion: config.istio.io/v1alpha2\n"
TO_ECHO = 'destination.labels["app"] == "echo"'


def resource(kind, name, spec):
    return f"{HEAD}kind: {kind}\nmetadata: {{name: {name}}}\nspec: {json.dumps(spec)}\n"


def rule(match, *actions, name="rule", **more):
    return resource(
        "rule", name, {"match": match, "actions": [{"handler": h, "instances": [i]} for h, i in actions], **more}
    )


def documents(*texts):
    return "---\n".join(texts)


NOTHING = resource("instance", "nothing", {"compiledTemplate": "checknothing"})


@pytest.fixture(autouse=True, scope="module")
def in_use(mesh):
    """A rule that never matches: where a mesh has any, a new one holds for connections that are open, too."""
    texts = (
        resource("handler", "never", {"compiledAdapter": "denier"}),
        resource("instance", "nil", {"compiledTemplate": "checknothing"}),
        rule('request.path == "/never"', ("never", "nil"), name="never"),
    )
    mesh.write("in-use.yaml", documents(*texts))
    mesh.settled()


def statuses(mesh, headers=None, count=6, path="/echo"):
    return {mesh.fetch(f"{ECHO}{path}", headers=headers).status for _ in range(count)}


def test_rules_may_be_written_in_cel(mesh):
    match = "destination.labels.app == 'echo' && (request.headers['x-none'] == 'a' || 'x-cel' in request.headers)"
    wanted = rule(match, ("in-cel", "nothing"), name="in-cel")
    wanted = wanted.replace("{name: in-cel}", "{name: in-cel, annotations: {policy.istio.io/lang: CEL}}")
    denier = resource("handler", "in-cel", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}})
    with mesh.applied(documents(denier, NOTHING, wanted)):
        assert statuses(mesh) == {200}
        assert statuses(mesh, {"x-cel": "yes"}) == {403}


def test_a_denier_refuses_what_matches_and_nothing_else(mesh):
    denier = resource(
        "handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7, "message": "not you"}}}
    )
    wanted = rule(f'{TO_ECHO} && request.headers["x-user"] == "mallory"', ("deny", "nothing"))
    with mesh.applied(documents(denier, NOTHING, wanted)):
        assert statuses(mesh) == {200}
        assert statuses(mesh, {"x-user": "alice"}) == {200}
        assert statuses(mesh, {"x-user": "mallory"}) == {403}
        refused = mesh.fetch(f"{ECHO}/echo", headers={"x-user": "mallory"})
        assert refused.body == b"PERMISSION_DENIED:deny.default:not you"
        assert mesh.get("/echo", headers={"x-user": "mallory"}).status == 403
    assert statuses(mesh, {"x-user": "mallory"}) == {200}


def test_the_older_form_with_a_kind_for_each_adapter_and_template(mesh):
    texts = documents(
        resource("denier", "closed", {"status": {"code": 5, "message": "gone"}}),
        resource("checknothing", "nothing", {}),
        rule(f'{TO_ECHO} && request.path.startsWith("/closed")', ("closed.denier", "nothing.checknothing")),
    )
    with mesh.applied(texts):
        assert statuses(mesh, path="/closed") <= {403, 404}
        until(lambda: statuses(mesh, path="/closed") == {404}, "connections know the new status")
        assert statuses(mesh, path="/open") == {200}


def test_a_whitelist_and_a_blacklist(mesh):
    versions = resource(
        "handler",
        "known",
        {"compiledAdapter": "listchecker", "params": {"overrides": ["v1", "v2"], "blacklist": False}},
    )
    sources = resource(
        "handler",
        "blocked",
        {
            "compiledAdapter": "listchecker",
            "params": {"overrides": ["Bad.*"], "entryType": "REGEX", "blacklist": True},
        },
    )
    texts = documents(
        versions,
        sources,
        resource(
            "instance",
            "version",
            {"compiledTemplate": "listentry", "params": {"value": 'request.headers["x-v"] | "v1"'}},
        ),
        resource("instance", "agent", {"compiledTemplate": "listentry", "params": {"value": 'request.useragent | ""'}}),
        rule(TO_ECHO, ("known", "version"), ("blocked", "agent")),
    )
    with mesh.applied(texts):
        assert statuses(mesh) == {200}
        assert statuses(mesh, {"x-v": "v2"}) == {200}
        assert statuses(mesh, {"x-v": "v3"}) == {403}
        assert statuses(mesh, {"user-agent": "a Bad one"}) == {403}


def test_who_calls_is_what_the_certificate_says(mesh):
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 16}}})
    wanted = rule(
        f'{TO_ECHO} && source.workload.name == "client" && source.namespace == "default" && connection.mtls',
        ("deny", "nothing"),
    )
    with mesh.applied(documents(denier, NOTHING, wanted)):
        until(lambda: statuses(mesh) == {401}, "connections know the new status")
        assert mesh.get("/echo").status == 200, "the gateway is not the client"


def test_what_kubernetesenv_finds_decides(mesh):
    """Beside who calls, it fills in what no certificate says."""
    params = {"source_ip": "source.ip", "destination_uid": "destination.uid", "destination_port": "destination.port"}
    bindings = {
        "source.name": '$out.source_pod_name | "unknown"',
        "source.namespace": '"elsewhere"',
        "destination.container.name": "$out.destination_container_name",
    }
    texts = documents(
        resource("handler", "env", {"compiledAdapter": "kubernetesenv"}),
        resource(
            "instance",
            "who",
            {"compiledTemplate": "kubernetes", "params": params, "attributeBindings": bindings},
        ),
        resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}}),
        NOTHING,
        rule("", ("env", "who"), name="find"),
        rule(
            f'{TO_ECHO} && source.namespace == "default" && request.path == "/named"'
            ' && (source.name.startsWith("client-") || source.name == "unknown")',
            ("deny", "nothing"),
        ),
        rule(f'{TO_ECHO} && destination.container.name.endsWith("-v2") && request.path == "/v2"', ("deny", "nothing"))
        .replace("{name: rule}", "{name: to-v2}"),
    )  # fmt: skip
    with mesh.applied(texts):
        assert statuses(mesh, path="/named") == {403}
        assert statuses(mesh, path="/other") == {200}
        assert {mesh.get("/v2").status for _ in range(8)} == {200, 403}
        said = mesh.lateen("mixer", "explain", "echo-v1").stdout
        assert "by the mixer, because source.namespace may be found by env.default" in said
        assert "kubernetesenv env.default on who.default\n    echo-v1:7000, echo-v1:8000: by the mixer" in said


def test_headers_of_requests_and_responses_are_changed(mesh):
    wanted = rule(
        TO_ECHO,
        requestHeaderOperations=[
            {"name": "x-added", "values": ['source.workload.name | "nobody"'], "operation": "APPEND"},
            {"name": "x-gone", "operation": "REMOVE"},
        ],
        responseHeaderOperations=[
            {"name": "x-by", "values": ["destination.service.host"], "operation": "REPLACE"},
            {"name": "x-split", "values": ['request.query_params["r"] | ""'], "operation": "REPLACE"},
        ],
    )
    with mesh.applied(wanted):
        for _ in range(4):
            answer = mesh.fetch(f"{ECHO}/echo", headers={"x-gone": "yes"})
            assert answer.status == 200
            seen = {name.lower(): value for name, value in answer.json()["headers"].items()}
            assert seen["x-added"] == "client"
            assert "x-gone" not in seen
            assert answer.headers["x-by"] == "echo.default.svc.cluster.local"
        split = mesh.get("/echo?r=a%0d%0aset-cookie:%20b%00")
        assert (split.status, split.headers["x-split"]) == (200, "a??set-cookie: b?")
        assert "set-cookie" not in split.headers
        forged = mesh.get("/echo", headers={"x-istio-attributes": "CgA="})
        assert forged.status == 200
        assert "x-istio-attributes" not in forged.body.decode().lower()


def test_connections_that_pass_bytes_on_are_refused_too(mesh):
    denier = resource("handler", "deny", {"compiledAdapter": "denier"})
    match = f'{TO_ECHO} && context.protocol == "tcp" && destination.port == 7000 && source.namespace == "%s"'

    def got():
        return mesh.get("/tcp?to=echo:7000").json().get("got", "")

    assert got()
    with mesh.applied(documents(denier, NOTHING, rule(match % "default", ("deny", "nothing")))):
        until(lambda: not got(), "it is refused")
        assert statuses(mesh) == {200}
    with mesh.applied(documents(denier, NOTHING, rule(match % "other", ("deny", "nothing")))):
        until(got, "it passes")


class Opa(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list] = []

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, said))
        allowed = said["input"]["action"]["path"] == "/allowed"
        body = json.dumps({"result": allowed}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def opa_rule(port, match=TO_ECHO, **params):
    return documents(
        resource(
            "handler",
            "opa",
            {
                "compiledAdapter": "opa",
                "params": {"url": f"http://127.0.0.1:{port}", "checkMethod": "data.mesh.allow", **params},
            },
        ),
        resource(
            "instance",
            "who",
            {
                "compiledTemplate": "authorization",
                "params": {"subject": {"user": 'source.principal | ""'}, "action": {"path": "request.path"}},
            },
        ),
        rule(match, ("opa", "who")),
    )


def test_an_open_policy_agent_is_asked(mesh):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Opa)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with mesh.applied(opa_rule(server.server_port)):
            assert statuses(mesh, path="/allowed") == {200}
            assert statuses(mesh, path="/other") == {403}
        path, said = Opa.asked[0]
        assert path == "/v1/data/mesh/allow"
        assert said["input"]["subject"]["user"] == "cluster.local/ns/default/sa/client"
    finally:
        server.shutdown()
        server.server_close()
    with mesh.applied(opa_rule(server.server_port, fail_close=True)):
        assert statuses(mesh, path="/allowed") == {503}
    with mesh.applied(opa_rule(server.server_port, fail_close=False)):
        assert statuses(mesh, path="/allowed") == {200}


@pytest.mark.one_capture
def test_calls_of_an_api_have_an_operation_and_a_key(mesh, tmp_path):
    """By an HTTPAPISpec: checks and reports, and keys that come in a header are looked at by the proxy."""
    log = tmp_path / "calls.log"

    def api(name, keys):
        pattern = {"httpMethod": "GET", "uriTemplate": "/pets/{id}", "attributes": operation}
        return documents(
            resource("HTTPAPISpec", name, {"patterns": [pattern], "apiKeys": keys}),
            resource("HTTPAPISpecBinding", name, {"services": [{"name": "echo"}], "apiSpecs": [{"name": name}]}),
        )

    operation = {"attributes": {"api.operation": {"stringValue": "show"}}}
    texts = documents(
        resource(
            "handler", "stolen", {"compiledAdapter": "listchecker", "params": {"overrides": ["s"], "blacklist": True}}
        ),
        resource("instance", "key", {"compiledTemplate": "listentry", "params": {"value": 'request.api_key | "-"'}}),
        rule(TO_ECHO, ("stolen", "key"), name="keys"),
        resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 16}}}),
        NOTHING,
        rule('api.operation == "show" && (request.api_key | "") == ""', ("deny", "nothing"), name="need-a-key"),
        resource(
            "handler",
            "log",
            {"compiledAdapter": "stdio", "params": {"logStream": "FILE", "outputPath": str(log), "outputAsJson": True}},
        ),
        resource(
            "instance",
            "call",
            {
                "compiledTemplate": "logentry",
                "params": {"variables": {"key": "request.api_key", "operation": "api.operation"}},
            },
        ),
        rule(TO_ECHO, ("log", "call"), name="calls"),
    )
    with mesh.applied(documents(texts, api("pets", [{"header": "X-Key"}, {"cookie": "k"}]))):
        assert statuses(mesh, path="/pets/1") == {401}
        assert statuses(mesh, path="/other") == {200}
        assert statuses(mesh, {"x-key": "a"}, path="/pets/1") == {200}
        assert statuses(mesh, {"cookie": "a=b; k=c"}, path="/pets/1") == {200}
        assert statuses(mesh, {"x-key": "s"}, path="/other") == {403}
        assert statuses(mesh, {"cookie": "k=s"}, path="/other") == {403}

        def logged():
            mesh.fetch(f"{ECHO}/pets/2", headers={"cookie": "k=from-cookie"})
            lines = [json.loads(line) for line in (log.read_text().splitlines() if log.exists() else ())]
            return [one for one in lines if one["key"] == "from-cookie"]

        assert until(logged, "calls are logged")[0]["operation"] == "show"
    with mesh.applied(documents(texts, api("pets", [{"header": "X-Key"}]))):
        assert statuses(mesh, {"x-key": "s"}, path="/other") == {403}
        said = mesh.lateen("mixer", "explain", "echo-v1").stdout
        assert "echo-v1:8000: in the proxy" in said[said.index("listchecker stolen.default on key.default") :]
        assert "api.operation may be found by an HTTPAPISpec" in said


def role(name, **spec):
    kind = "ServiceRoleBinding" if "subjects" in spec else "ServiceRole"
    return f"apiVersion: rbac.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {json.dumps(spec)}\n"


@pytest.mark.one_capture
@pytest.mark.parametrize(("told", "where"), [({}, "in the proxy"), ({"v": "request.size | 0"}, "by the mixer")])
def test_roles_decide_where_the_adapter_rbac_is_asked(mesh, told, where):
    caller = {"user": 'source.principal | ""', "groups": '"devs,ops"', "properties": {}}
    action = {
        "namespace": "destination.namespace",
        "service": "destination.service.host",
        "method": "request.method",
        "path": "request.url_path",
        "properties": {"destination.labels[version]": 'destination.labels["version"] | ""', **told},
    }
    reading = {
        "services": ["echo.default.svc.cluster.local"],
        "methods": ["GET"],
        "paths": ["/read*"],
        "constraints": [{"key": "destination.labels[version]", "values": ["v1", "v2"]}],
    }
    known = [{"user": "cluster.local/ns/default/sa/client", "groups": ["ops"]}]
    texts = (
        resource("handler", "roles", {"compiledAdapter": "rbac", "params": {"configStoreUrl": "k8s://"}}),
        resource(
            "instance",
            "who",
            {"compiledTemplate": "authorization", "params": {"subject": caller, "action": action}},
        ),
        rule(f'{TO_ECHO} && context.protocol == "http"', ("roles", "who")),
        role("reader", rules=[reading]),
    )
    bound = role("clients-read", subjects=known, roleRef={"kind": "ServiceRole", "name": "reader"})
    with mesh.applied(documents(*texts)):
        until(lambda: statuses(mesh, path="/read") == {403}, "nobody is allowed anything")
        with mesh.applied(bound, "bound.yaml"):
            until(lambda: statuses(mesh, path="/read") == {200}, "the binding is in force")
            assert statuses(mesh, path="/write") == {403}
            assert mesh.fetch(f"{ECHO}/read", method="DELETE").status == 403
            words = b"PERMISSION_DENIED:roles.default:no role allows it"
            until(lambda: mesh.get("/read").body == words, "connections know the new text")
            assert mesh.get("/read").status == 403
            assert f"echo-v1:8000: {where}, because" in mesh.lateen("mixer", "explain", "echo-v1").stdout
            assert not told_of(mesh, "ClusterRbacConfig")
        until(lambda: statuses(mesh, path="/read") == {403}, "it is gone")


def told_of(mesh, words):
    return [one["text"] for one in mesh.control("/v1/findings")["findings"] if words in one["text"]]


def test_a_mixer_that_is_killed_comes_back_and_meanwhile_requests_fail_closed(mesh):
    wanted = rule(
        TO_ECHO, requestHeaderOperations=[{"name": "x-time", "values": ["request.id"], "operation": "REPLACE"}]
    )
    with mesh.applied(wanted):
        assert statuses(mesh) == {200}
        before = mesh.status()["mixer"]["pid"]
        os.kill(before, signal.SIGSTOP)
        try:
            assert statuses(mesh, count=1) == {503}
        finally:
            os.kill(before, signal.SIGKILL)
        until(lambda: mesh.fetch(f"{ECHO}/echo").status == 200, "the mixer is back")
        assert mesh.status()["mixer"]["pid"] != before


def test_rules_change_without_a_failed_request(mesh):
    texts = [
        documents(
            resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}}),
            NOTHING,
            rule(f'{TO_ECHO} && request.path == "/number/{number}"', ("deny", "nothing")),
        )
        for number in range(4)
    ]
    with mesh.load() as load:
        for text in texts:
            with mesh.applied(text):
                number = texts.index(text)
                assert statuses(mesh, path=f"/number/{number}", count=3) == {403}
    assert load.failures == []
    assert load.summary["answered"] > 20


def test_a_rule_in_force_stays_so_when_its_handler_goes(mesh):
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}})
    wanted = rule(f'{TO_ECHO} && request.path == "/kept"', ("deny", "nothing"))
    with mesh.applied(documents(denier, NOTHING, wanted)):
        assert statuses(mesh, path="/kept") == {403}
        mesh.write("extra.yaml", documents(NOTHING, wanted))
        mesh.settled()
        assert statuses(mesh, path="/kept") == {403}
        assert until(lambda: told(mesh, "still names it; its last version goes on"), "it is told")


def test_where_a_rule_is_decided_is_told(mesh):
    texts = documents(
        resource("handler", "deny", {"compiledAdapter": "denier"}),
        NOTHING,
        rule(f'{TO_ECHO} && request.path == "/here"', ("deny", "nothing"), name="here"),
        rule(f'{TO_ECHO} && source.workload.name == "there"', ("deny", "nothing"), name="there"),
    )
    with mesh.applied(texts):
        said = mesh.lateen("mixer", "explain").stdout
        here, there = said.split("rule default/there")
        assert "rule default/here  (" in here
        assert "extra.yaml:" in here
        assert "echo-v1:8000, echo-v2:8000: in the proxy, because the proxy knows all that it looks at" in here
        assert "client:8000, echo-v1:7000, echo-v2:7000: nowhere, because its match cannot hold here" in here
        assert "echo-v1:8000, echo-v2:8000: by the mixer, because source.workload.name is known to the mixer" in there
        assert json.loads(mesh.lateen("mixer", "explain", "client", "-o", "json").stdout)[0]["where"] == "nowhere"
        assert "there is no workload nobody" in mesh.lateen("mixer", "explain", "nobody", check=False).stderr


def test_attributes_are_checked_by_hand(mesh):
    texts = documents(
        resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7, "message": "no"}}}),
        NOTHING,
        rule('request.headers["x-user"] == "mallory" && request.size > 10', ("deny", "nothing")),
    )
    with mesh.applied(texts):
        words = ("mixer", "check", "--at", "echo-v1-0:8000")
        refused = mesh.lateen(*words, "request.headers[x-user]=mallory", "request.size=11", check=False)
        assert refused.returncode == 1
        assert "refused with 403: PERMISSION_DENIED:deny.default:no" in refused.stdout
        passed = mesh.lateen(*words, "request.headers[x-user]=mallory", "request.size=9")
        assert "the request goes on" in passed.stdout
        for wrong, words_of in (("request.sise=1", "name of an attribute"), ("request.size=x", "is no whole number")):
            done = mesh.lateen("mixer", "check", wrong, check=False)
            assert done.returncode == 2
            assert words_of in done.stderr


def log_rule(path, **params):
    return documents(
        resource(
            "handler",
            "log",
            {
                "compiledAdapter": "stdio",
                "params": {"logStream": "FILE", "outputPath": str(path), "outputAsJson": True, **params},
            },
        ),
        resource(
            "instance",
            "entry",
            {
                "compiledTemplate": "logentry",
                "params": {
                    "severity": '"info"',
                    "timestamp": "request.time",
                    "variables": {
                        "caller": 'source.workload.name | "unknown"',
                        "principal": 'source.principal | ""',
                        "service": 'destination.service.host | "none"',
                        "path": "request.path",
                        "user": 'request.headers["x-user"] | "nobody"',
                        "status": "response.code | 0",
                        "took": 'response.duration | "0ms"',
                        "type": 'response.headers["content-type"] | ""',
                        "flags": "context.proxy_error_code",
                        "kept": "check.cache_hit | false",
                    },
                },
            },
        ),
        rule(f'{TO_ECHO} && context.reporter.kind == "inbound" && request.path != "/quiet"', ("log", "entry")),
    )


def test_what_is_over_is_reported_with_what_rules_ask_for(mesh, tmp_path):
    path = tmp_path / "entries.log"
    with mesh.applied(log_rule(path)):

        def entries():
            mesh.fetch(f"{ECHO}/quiet")
            mesh.fetch(f"{ECHO}/loud?a=b", headers={"x-user": "ann"})
            lines = path.read_text().splitlines() if path.exists() else []
            return [json.loads(line) for line in lines]

        found = until(entries, "something is reported")
        entry = found[0]
        assert {one["path"] for one in found} == {"/loud?a=b"}
        assert entry["caller"] == "client"
        assert entry["principal"] == "cluster.local/ns/default/sa/client"
        assert entry["service"] == "echo.default.svc.cluster.local"
        assert (entry["user"], entry["status"], entry["type"]) == ("ann", 200, "application/json")
        assert entry["flags"] == "-"
        assert entry["level"] == "info"
        assert entry["took"].endswith("s")


def test_whatever_mixer_refuses_has_the_same_flag(mesh, tmp_path):
    path = tmp_path / "refused.log"
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}})
    texts = documents(
        log_rule(path),
        denier,
        NOTHING,
        rule(f'{TO_ECHO} && request.path == "/in-proxy"', ("deny", "nothing"), name="in-proxy"),
        rule(f'{TO_ECHO} && request.path == "/asked" && size(request.path) > 1', ("deny", "nothing"), name="asked"),
    )
    with mesh.applied(texts):

        def entries():
            for name in ("/in-proxy", "/asked", "/asked"):
                assert mesh.fetch(f"{ECHO}{name}").status == 403
            lines = path.read_text().splitlines() if path.exists() else []
            found = [one for one in map(json.loads, lines) if one["path"] in ("/in-proxy", "/asked")]
            return (
                any(one["kept"] for one in found)
                and {one["path"] for one in found} == {"/in-proxy", "/asked"}
                and found
            )

        found = until(entries, "all are reported")
        assert {one["flags"] for one in found} == {"UAEX"}
        assert {one["kept"] for one in found if one["path"] == "/in-proxy"} == {False}


def test_connections_are_reported_as_they_open_and_once_they_are_over(mesh, tmp_path):
    path = tmp_path / "connections.log"
    variables = {
        "event": "connection.event",
        "received": "connection.received.bytes | 0",
        "sent": "connection.sent.bytes_total | 0",
        "took": 'connection.duration | "0ms"',
        "caller": 'source.principal | ""',
        "namespace": 'source.namespace | ""',
        "port": "destination.port",
        "mtls": "connection.mtls",
    }
    file = {"logStream": "FILE", "outputPath": str(path), "outputAsJson": True}
    texts = documents(
        resource("handler", "log", {"compiledAdapter": "stdio", "params": file}),
        resource("instance", "entry", {"compiledTemplate": "logentry", "params": {"variables": variables}}),
        rule(f'{TO_ECHO} && context.protocol == "tcp"', ("log", "entry")),
    )
    with mesh.applied(texts):

        def entries():
            mesh.get("/tcp?to=echo:7000")
            lines = path.read_text().splitlines() if path.exists() else []
            found = [json.loads(line) for line in lines]
            return found if {one["event"] for one in found} == {"open", "close"} else None

        found = until(entries, "connections are reported")
        assert statuses(mesh) == {200}
    over = next(one for one in found if one["event"] == "close")
    opened = next(one for one in found if one["event"] == "open")
    assert over["received"] == len(b"hello\n")
    assert over["sent"] > 0
    assert (opened["received"], opened["sent"]) == (0, 0)
    assert over["caller"] == opened["caller"] == "cluster.local/ns/default/sa/client"
    assert (over["namespace"], over["port"], over["mtls"]) == ("default", 7000, True)


def test_attributes_are_reported_by_hand(mesh, tmp_path):
    path = tmp_path / "entries.log"
    with mesh.applied(log_rule(path)):
        words = ("mixer", "report", "--at", "echo-v1-0:8000", "context.reporter.kind=inbound")
        more = ("request.time=2026-01-31T12:00:00Z", "context.proxy_error_code=-", "response.code=503")
        said = mesh.lateen(*words, *more, "request.path=/by-hand").stdout
        assert "log.default: took logentry" in said
        assert 'variables.path = "/by-hand"' in said
        (entry,) = (one for one in map(json.loads, path.read_text().splitlines()) if one["path"] == "/by-hand")
        assert entry["status"] == 503
        assert "no rule reports this" in mesh.lateen(*words, *more, "request.path=/quiet").stdout


def test_metrics_go_to_statsd(mesh):
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(1)
        texts = documents(
            resource(
                "handler",
                "counts",
                {
                    "compiledAdapter": "statsd",
                    "params": {
                        "address": f"127.0.0.1:{server.getsockname()[1]}",
                        "metrics": {"size.default": {"type": "COUNTER", "nameTemplate": "size.{{.code}}"}},
                    },
                },
            ),
            resource(
                "instance",
                "size",
                {
                    "compiledTemplate": "metric",
                    "params": {"value": "response.size", "dimensions": {"code": "response.code"}},
                },
            ),
            rule(TO_ECHO, ("counts", "size")),
        )
        with mesh.applied(texts):

            def counted():
                mesh.fetch(f"{ECHO}/echo")
                with contextlib.suppress(TimeoutError):
                    return server.recv(4096).decode()
                return ""

            line = until(counted, "a count comes")
            assert line.startswith("size.200:")
            assert int(line.split(":")[1].split("|")[0]) > 100


TRACE = "0123456789abcdef0123456789abcdef"
METRIC = {"value": "response.size", "dimensions": {"path": "request.path", "who": "source.workload.name"}}
ENTRY = {"variables": {"path": "request.path", "code": "response.code"}, "severity": '"warn"'}
SPAN = {
    "traceId": 'request.headers["x-trace"] | ""',
    "spanId": 'request.headers["x-span"] | ""',
    "spanName": "request.path",
    "startTime": "request.time",
    "endTime": "response.time",
    "httpStatusCode": "response.code",
    "destinationName": "destination.workload.name",
    "sourceName": 'source.workload.name | "?"',
    "spanTags": {"who": 'source.principal | ""'},
}
EDGE = {"timestamp": "request.time", "sourceOwner": 'source.owner | ""', "destinationOwner": "destination.owner"}


@pytest.mark.one_capture
def test_an_adapter_outside_mixer_decides_counts_and_is_told(mesh):
    """As it was written for Mixer: it answers Mixer's own services over gRPC, those of all templates."""
    others = {
        "apikey": {"api": '"echo"', "apiKey": 'request.headers["x-key"] | "none"', "timestamp": "request.time"},
        "authorization": {"subject": {"user": 'source.user | "unknown"'}, "action": {"path": "request.path"}},
        "checknothing": {},
        "reportnothing": {},
        "logentry": ENTRY,
        "tracespan": SPAN,
        "edge": EDGE,
    }
    with OutsideAdapter() as server:
        texts = (
            resource("adapter", "mine", {"config": CONFIG, "templates": ["listentry", "metric", "quota", *others]}),
            *(
                resource("instance", f"of-{name}", {"template": name, "params": given})
                for name, given in others.items()
            ),
            rule(
                f'{TO_ECHO} && context.protocol == "http"',
                *(("outside", f"of-{name}") for name in others),
                name="others",
            ),
            resource(
                "handler",
                "outside",
                {
                    "adapter": "mine",
                    "connection": {"address": f"127.0.0.1:{server.port}", "timeout": "1s"},
                    "params": {"list": ["good"], "most": 1},
                },
            ),
            resource(
                "handler",
                "bare",
                {"compiledAdapter": "bypass", "params": {"backendAddress": f"127.0.0.1:{server.port}"}},
            ),
            resource(
                "instance", "who", {"template": "listentry", "params": {"value": 'request.headers["x-who"] | "good"'}}
            ),
            resource("instance", "size", {"template": "metric", "params": {"value": "response.size"}}),
            resource("instance", "used", {"template": "quota", "params": {}}),
            rule(TO_ECHO, ("outside", "who"), ("outside", "size"), ("outside", "used"), name="all"),
            rule(f'{TO_ECHO} && request.path == "/bare"', ("bare", "who"), name="bare"),
            resource(
                "QuotaSpec",
                "charged",
                {
                    "rules": [
                        {
                            "match": [{"clause": {"request.path": {"exact": f"/charge-{charge}"}}}],
                            "quotas": [{"quota": "used", "charge": charge}],
                        }
                        for charge in (1, 2)
                    ]
                },
            ),
            resource(
                "QuotaSpecBinding", "bound", {"services": [{"name": "echo"}], "quotaSpecs": [{"name": "charged"}]}
            ),
        )
        with mesh.applied(documents(*texts)):
            assert statuses(mesh) == {200}
            assert statuses(mesh, {"x-who": "bad"}) == {403}
            refused = mesh.fetch(f"{ECHO}/echo", headers={"x-who": "bad"})
            assert refused.body == b"PERMISSION_DENIED:outside.default:not in my list"
            sent = mesh.get("/echo", headers={"x-who": "elsewhere"})
            assert (sent.status, sent.headers["location"]) == (302, "https://x.example/")
            until(lambda: mesh.fetch(f"{ECHO}/charge-2").status == 429, "more is charged than it grants")
            assert mesh.fetch(f"{ECHO}/charge-1").status == 200
            assert mesh.fetch(f"{ECHO}/bare").body == b"PERMISSION_DENIED:bare.default:not in my list", "it has no list"
            everything = {"listentry", "metric", "quota", *others}
            until(lambda: mesh.fetch(ECHO) and {name for name, _ in server.calls} == everything, "it is told all")
            who = next(told for name, told in server.calls if name == "authorization").instance.subject.user
            assert who.startswith("cluster.local/ns/")
            assert any(b"echo" in told and b"none" in told for name, told in server.calls if name == "apikey")
            assert any(b"/deployments/client" in told for name, told in server.calls if name == "edge")


@contextlib.contextmanager
def collectors():
    methods = (
        f"/opentelemetry.proto.collector.{one}Service/Export" for one in ("metrics.v1.Metrics", "trace.v1.Trace")
    )
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        opened = (HttpCollector(), GrpcCollector(*methods), HttpCollector(), ForwardCollector())
        yield (*(stack.enter_context(one) for one in opened), udp)


@pytest.mark.one_capture
def test_whoever_collects_is_told_of_real_requests(mesh):
    """Over OTLP by both ways, Zipkin, fluentd and dogstatsd, all of them by one rule; noop takes whatever there is."""
    with collectors() as (over_http, over_grpc, zipkin, fluentd, dogstatsd):
        counted = {
            "name": "sizes",
            "instanceName": "size.default",
            "kind": "DISTRIBUTION",
            "labelNames": ["path", "who"],
        }
        otlp = {"pushInterval": "1s", "metrics": [counted], "resourceAttributes": {"zone": "a"}}
        adapters = {
            "otlp-http": (
                "opentelemetry",
                {"url": f"http://127.0.0.1:{over_http.port}", **otlp},
                ("size", "entry", "span"),
            ),
            "otlp-grpc": ("opentelemetry", {"url": f"grpc://127.0.0.1:{over_grpc.port}", **otlp}, ("size", "span")),
            "zipkin": ("zipkin", {"url": f"http://127.0.0.1:{zipkin.port}/spans", "sampleProbability": 1}, ("span",)),
            "fluentd": ("fluentd", {"address": f"127.0.0.1:{fluentd.port}", "pushIntervalDuration": "1s"}, ("entry",)),
            "dog": (
                "dogstatsd",
                {
                    "address": f"127.0.0.1:{dogstatsd.getsockname()[1]}",
                    "metrics": {"size.default": {"name": "sizes", "type": "DISTRIBUTION", "tags": {"zone": "a"}}},
                },
                ("size",),
            ),
            "noop": ("noop", {}, ("size", "entry", "span", "edge", "empty", "key", "nothing")),
        }
        instances = {
            "size": ("metric", METRIC),
            "entry": ("logentry", ENTRY),
            "span": ("tracespan", SPAN),
            "edge": ("edge", EDGE),
            "empty": ("reportnothing", {}),
            "key": (
                "apikey",
                {"api": '"echo"', "apiKey": 'request.headers["x-key"] | ""', "timestamp": "request.time"},
            ),
            "nothing": ("checknothing", {}),
        }
        texts = [
            *(
                resource("handler", name, {"compiledAdapter": one, "params": given})
                for name, (one, given, _) in adapters.items()
            ),
            *(
                resource("instance", name, {"compiledTemplate": one, "params": given})
                for name, (one, given) in instances.items()
            ),
            resource(
                "rule",
                "tell",
                {
                    "match": f'{TO_ECHO} && context.protocol == "http" && request.path == "/told"',
                    "actions": [
                        {"handler": name, "instances": list(taken)} for name, (_, _, taken) in adapters.items()
                    ],
                },
            ),
        ]
        with mesh.applied(documents(*texts)):
            lines = []

            def told():
                mesh.fetch(f"{ECHO}/told", headers={"x-trace": TRACE, "x-span": "00000000000000aa"})
                with contextlib.suppress(BlockingIOError):
                    lines.append(dogstatsd.recv(4096).decode())
                everybody = {one.path for one in (*over_http.told, *over_grpc.told)}
                return len(everybody) == 5 and zipkin.told and fluentd.entries and lines

            until(told, "everybody is told")
    assert {one.path for one in over_http.told} == {"/v1/metrics", "/v1/logs", "/v1/traces"}
    metrics = metrics_service_pb2.ExportMetricsServiceRequest
    for told in (over_http.told, over_grpc.told):
        body = next(one.body for one in told if "metrics" in one.path)
        (metric,) = metrics.FromString(body).resource_metrics[0].instrumentation_library_metrics[0].metrics
        (point,) = metric.histogram.data_points
        assert metric.name == "istio.sizes"
        assert {one.key: one.value.string_value for one in point.attributes} == {"path": "/told", "who": "client"}
        assert point.count >= 1
    span = zipkin.spans()[0]
    assert (span["traceId"], span["localEndpoint"]["serviceName"][:6]) == (TRACE, "echo-v")
    assert span["tags"]["who"] == "cluster.local/ns/default/sa/client"
    assert fluentd.entries[0] == ("entry.default", {"path": "/told", "code": 200, "severity": "warn"})
    assert lines[0].startswith("istio.sizes:")
    assert lines[0].endswith("|h|#path:/told,who:client,zone:a")


def test_metrics_that_rules_count_are_scraped_with_the_others(mesh):
    texts = documents(
        resource(
            "handler",
            "prom",
            {
                "compiledAdapter": "prometheus",
                "params": {
                    "metrics": [
                        {
                            "name": "calls",
                            "instanceName": "calls.default",
                            "kind": "COUNTER",
                            "labelNames": ["from", "code"],
                        }
                    ]
                },
            },
        ),
        resource(
            "instance",
            "calls",
            {
                "compiledTemplate": "metric",
                "params": {"value": "1", "dimensions": {"from": 'source.workload.name | "?"', "code": "response.code"}},
            },
        ),
        rule(TO_ECHO, ("prom", "calls")),
    )
    with mesh.applied(texts):

        def scraped():
            mesh.fetch(f"{ECHO}/echo")
            text = mesh.text("api.sock", "/metrics")
            return text if "istio_calls{" in text else ""

        text = until(scraped, "the metric is scraped")
        line = next(line for line in text.splitlines() if line.startswith("istio_calls{"))
        assert 'from="client"' in line
        assert 'code="200"' in line
        assert "mixer_reports_lost_total" in text
        assert "mixer_handler_calls_total{" in text


def test_the_rules_that_mixer_came_with_hold_as_they_are(mesh):
    """examples/mixer/telemetry.yaml, with attributes that kubernetesenv finds, logs and metrics."""
    with mesh.applied((ROOT / "examples" / "mixer" / "telemetry.yaml").read_text()):
        found = [one for one in mesh.control("/v1/findings")["findings"] if "telemetry" in one["text"]]
        assert found == []

        def reported():
            mesh.fetch(f"{ECHO}/default")
            mesh.get("/tcp?to=echo:7000")
            lines = mesh.lateen("logs", "--mixer").stdout.splitlines()
            entries = [json.loads(line[line.index("{") :]) for line in lines if '"instance":"' in line]
            web = [one for one in entries if one.get("url") == "/default"]
            over = [one for one in entries if one.get("connectionEvent") == "close"]
            return (web[-1], over[-1]) if web and over else None

        entry, over = until(reported, "requests and connections are logged")
        assert (entry["instance"], entry["level"]) == ("accesslog.istio-system", "info")
        assert (entry["sourceWorkload"], entry["destinationServiceHost"]) == (
            "client",
            "echo.default.svc.cluster.local",
        )
        assert entry["connection_security_policy"] == "mutual_tls"
        assert over["receivedBytes"] == 6
        alone = mesh.capture == "namespaces"
        assert entry["sourceName"] == ("client-0" if alone else "unknown"), "addresses of loopback are nobody's"
        assert (over["sourceWorkload"], over["sourceApp"]) == ("client", "client")

        def scraped():
            lines = mesh.text("api.sock", "/metrics").splitlines()
            web = [
                one for one in lines if one.startswith("istio_requests_total{") and "permissive_response_code" in one
            ]
            bytes_ = [one for one in lines if one.startswith("istio_tcp_connections_opened_total{")]
            return (web, bytes_) if web and bytes_ else None

        web, _ = until(scraped, "they are counted")
        assert any('source_app="client"' in one and 'destination_app="echo"' in one for one in web)


def told(mesh, words):
    said = mesh.lateen("status", check=False).stdout
    return said if words in said else ""


def test_what_is_wrong_is_told_with_its_place_and_nothing_else_is_touched(mesh):
    wrong = documents(
        resource("instance", "entry", {"compiledTemplate": "listentry", "params": {"value": 'request.hedaers["a"]'}}),
        resource("handler", "deny", {"compiledAdapter": "denyer"}),
        rule('request.size == "1"', ("deny", "nobody")),
        rule(TO_ECHO, ("nobody", "entry"), name="second"),
    )
    with mesh.applied(wrong):
        said = until(lambda: told(mesh, "request.hedaers"), "status tells what is wrong")
        assert "there is no adapter denyer" in said
        assert "== has INT64 at its left and STRING at its right" in said
        assert "there is no handler nobody" in said
        assert statuses(mesh) == {200}


def test_a_rule_reports_the_first_requests_of_a_while_and_then_a_share(mesh):
    def counted(name):
        metric = {"name": name, "instanceName": "sampled.default", "kind": "COUNTER"}
        return resource("handler", name, {"compiledAdapter": "prometheus", "params": {"metrics": [metric]}})

    def limit(most):
        return {"rateLimit": {"samplingDuration": "1h", "maxUnsampledEntries": most, "samplingRate": 3}}

    def value(name):
        lines = mesh.text("api.sock", "/metrics").splitlines()
        return next((int(line.split()[-1]) for line in lines if line.startswith(f"istio_{name}{{")), 0)

    own = TO_ECHO + ' && request.headers["x-sampled"] == "yes"'
    texts = documents(
        counted("sampled_all"),
        counted("sampled_some"),
        counted("sampled_none"),
        resource("instance", "sampled", {"compiledTemplate": "metric", "params": {"value": "1"}}),
        rule(own, ("sampled_all", "sampled"), name="all", sampling=limit(1000)),
        rule(own, ("sampled_some", "sampled"), name="some", sampling=limit(2)),
        rule(
            own,
            ("sampled_none", "sampled"),
            name="none",
            sampling={"random": {"percentSampled": {"numerator": 0}}},
        ),
    )
    with mesh.applied(texts):

        def counted_enough():
            """Connections that are older than the rules are not reported on."""
            mesh.fetch(f"{ECHO}/echo", headers={"x-sampled": "yes"})
            return value("sampled_all") >= 8

        until(counted_enough, "some are counted")
        until(lambda: value("sampled_some") == 2 + (value("sampled_all") - 2) // 3, "two and every third are counted")
        assert value("sampled_none") == 0


# --- quotas ----------------------------------------------------------------------------------------------------------


def quota(adapter, params, clause=None, charge=None):
    """A quota ``used`` that requests to echo are charged to, for each value of the header x-who."""
    match = [{"clause": clause}] if clause else []
    quotas = [{"quota": "used", **({"charge": charge} if charge is not None else {})}]
    dimensions = {"who": 'request.headers["x-who"] | "nobody"'}
    return (
        resource("handler", "counter", {"compiledAdapter": adapter, "params": params}),
        resource("instance", "used", {"compiledTemplate": "quota", "params": {"dimensions": dimensions}}),
        rule(TO_ECHO, ("counter", "used"), name="counted"),
        resource("QuotaSpec", "charged", {"rules": [{"match": match, "quotas": quotas}]}),
        resource("QuotaSpecBinding", "bound", {"services": [{"name": "echo"}], "quotaSpecs": [{"name": "charged"}]}),
    )


def granted(mesh, who, path="/echo", count=12):
    """The statuses of some requests to both versions of echo, in order."""
    return [mesh.get(path, headers={"x-who": who}).status for _ in range(count)]


def test_what_all_proxies_use_is_counted_together(mesh):
    limits = {
        "name": "used",
        "maxAmount": 5,
        "validDuration": "3600s",
        "overrides": [{"dimensions": {"who": "rich"}, "maxAmount": 9}],
    }
    texts = quota("memquota", {"quotas": [limits]}, {"request.path": {"prefix": "/echo"}})
    with mesh.applied(documents(*texts)):
        until(lambda: mesh.get("/echo", headers={"x-who": "first"}).status == 429 or None, "the quota is in force")
        assert granted(mesh, "poor") == [200] * 5 + [429] * 7
        assert granted(mesh, "rich") == [200] * 9 + [429] * 3
        with ThreadPoolExecutor(8) as pool:
            at_once = [
                status for found in pool.map(lambda _: granted(mesh, "many", count=4), range(8)) for status in found
            ]
        assert sorted(at_once) == [200] * 5 + [429] * 27
        refused = mesh.get("/echo", headers={"x-who": "poor"})
        assert refused.body == b"RESOURCE_EXHAUSTED:Quota is exhausted for: used"
        assert granted(mesh, "poor", "/other") == [200] * 12
        pods = {mesh.get("/other").json()["pod"] for _ in range(10)}
        assert len(pods) == 2
    assert granted(mesh, "poor") == [200] * 12


def test_a_charge_is_more_than_one_and_comes_back(mesh):
    limits = {"name": "used.default", "maxAmount": 4, "validDuration": "2s"}
    texts = quota("memquota", {"quotas": [limits]}, charge=2)
    with mesh.applied(documents(*texts)):
        until(lambda: 429 in granted(mesh, "first", count=3), "the quota is in force")
        until(lambda: granted(mesh, "second", count=3) == [200, 200, 429], "two charges of two are granted")
        until(lambda: granted(mesh, "second", count=1) == [200], "it comes back")


@pytest.mark.parametrize("algorithm", ["FIXED_WINDOW", "ROLLING_WINDOW"])
def test_quotas_are_counted_in_a_redis(mesh, algorithm):
    with redis_server() as redis:
        limits = {"name": "used", "maxAmount": 5, "validDuration": "3600s", "rateLimitAlgorithm": algorithm}
        if algorithm == "ROLLING_WINDOW":
            limits["bucketDuration"] = "60s"
        texts = quota("redisquota", {"quotas": [limits], "redisServerUrl": redis.url})
        with mesh.applied(documents(*texts)):
            until(lambda: 429 in granted(mesh, "first", count=6), "the quota is in force")
            assert granted(mesh, "poor", count=8) == [200] * 5 + [429] * 3
            redis.stop()
            until(lambda: granted(mesh, "anybody", count=2) == [503, 503], "nobody knows what is left")
            redis.start()
            until(lambda: 200 in granted(mesh, "anybody", count=2), "it is asked again")
    mesh.settled()


def test_quotas_that_count_nothing_are_told(mesh):
    handler, instance, counting, spec, binding = quota("memquota", {"quotas": [{"name": "other", "maxAmount": 5}]})
    texts = [handler, instance, counting, spec.replace('"quota": "used"', '"quota": "unused"'), binding]
    with mesh.applied(documents(*texts)):
        codes = {finding["code"] for finding in mesh.control("/v1/findings")["findings"]}
    assert {"unknown-quota", "no-limit", "uncharged-quota"} <= codes


def test_every_refusal_is_told_with_its_rule_and_line(mesh):
    """By the proxy itself, by the mixer, by an answer of the mixer that the proxy kept."""
    texts = documents(
        resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}}),
        resource("handler", "listed", {"compiledAdapter": "listchecker", "params": {"overrides": ["a"]}}),
        NOTHING,
        resource("instance", "value", {"compiledTemplate": "listentry", "params": {"value": 'request.headers["x-l"]'}}),
        rule(f'{TO_ECHO} && request.path == "/here"', ("deny", "nothing"), name="here"),
        rule(
            f'{TO_ECHO} && request.path == "/there" && size(request.headers["x-l"]) > 0',
            ("listed", "value"),
            name="there",
        ),
    )

    def told(path, wanted):
        def found():
            lines = mesh.lateen("logs", "echo", "--access").stdout.splitlines()
            entries = [json.loads(line[line.index("{") :]) for line in lines if "{" in line]
            return any(entry.get("path") == path and wanted in str(entry.get("denied_because")) for entry in entries)

        until(found, f"the access log tells: {wanted}")

    with mesh.applied(texts):
        assert statuses(mesh, path="/here") == {403}
        assert statuses(mesh, {"x-l": "b"}, path="/there", count=12) == {403}
        place = f"{mesh.project}/extra.yaml"
        here, there = (_line_of(texts, name) for name in ("here", "there"))
        told("/here", f"403 'PERMISSION_DENIED:deny.default:' (rule default/here ({place}:{here}))")
        told("/there", f"rule default/there of Mixer denies it (rule default/there ({place}:{there}))")
        said = mesh.lateen("explain", "client", f"{ECHO}/here", check=False).stdout
        assert "rule default/here of Mixer denies it: 403" in said
        said = mesh.lateen("explain", "client", f"{ECHO}/there", "-H", "x-l: b").stdout
        assert "the mixer is asked, by rule default/there of Mixer, and has to agree" in said
        assert "the mixer is asked" not in mesh.lateen("explain", "client", f"{ECHO}/echo").stdout


def _line_of(text, name):
    """The line in which the resource of this name begins."""
    lines = text[: text.index(f"{{name: {name}}}")].splitlines()
    return len(lines) - 2
