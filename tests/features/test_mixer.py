"""Mixer's rules on a running mesh: what is refused, what headers become, and what goes on when the mixer is away."""

import contextlib
import http.server
import json
import os
import signal
import threading
from typing import ClassVar

import pytest

from tests.features.mixer_support import ECHO, NOTHING, TO_ECHO, documents, in_use as in_use, resource, rule, statuses
from tests.features.running import until

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("mixer"), pytest.mark.timeout(240)]


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


@pytest.mark.parametrize(
    "lacking",
    ['request.headers["x-pass"] != "sesame"', '!match(request.headers["x-pass"], "ses*")'],
    ids=["not", "glob"],
)
def test_a_header_that_is_not_there_is_no_way_round_a_rule(mesh, lacking):
    """As in Mixer, an entry that a map lacks is an empty text."""
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}})
    with mesh.applied(documents(denier, NOTHING, rule(f"{TO_ECHO} && {lacking}", ("deny", "nothing")))):
        assert statuses(mesh, {"x-pass": "sesame"}) == {200}
        assert statuses(mesh, {"x-pass": "x"}) == {403}
        assert statuses(mesh, {"x-pass": ""}) == {403}
        assert statuses(mesh) == {403}


def test_a_list_has_an_empty_text_for_a_label_that_a_caller_lacks(mesh):
    listed = resource("handler", "listed", {"compiledAdapter": "listchecker", "params": {"overrides": ["v9"]}})
    version = resource(
        "instance", "version", {"compiledTemplate": "listentry", "params": {"value": 'source.labels["no-such"]'}}
    )
    with mesh.applied(documents(listed, version, rule(TO_ECHO, ("listed", "version")))):
        until(lambda: statuses(mesh) == {403}, "it is refused as not listed")


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
        rule('request.headers["x-pass"] == "no"', ("deny", "nothing"), name="with-headers"),
    )
    with mesh.applied(texts):
        said = mesh.lateen("mixer", "explain").stdout
        here, there = said.split("rule default/there")
        there, with_headers = there.split("rule default/with-headers")
        assert "echo-v1:7000, echo-v2:7000: nowhere, because its match cannot hold here" in with_headers
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


HEADERS = {
    "requestHeaderOperations": [
        {"name": "x-mesh", "values": ['"50%"', "destination.service.name"], "operation": "REPLACE"},
        {"name": "x-more", "values": ['"b"'], "operation": "APPEND"},
        {"name": "x-gone", "operation": "REMOVE"},
    ],
    "responseHeaderOperations": [
        {"name": "x-by", "values": ["destination.service.host"], "operation": "REPLACE"},
        {"name": "content-type", "operation": "REMOVE"},
    ],
}


def seen_by(mesh, path="/echo", **headers):
    """What the application sees of a request, headers that come twice joined, and what comes back."""
    answer = mesh.fetch(f"{ECHO}{path}", headers=headers)
    assert answer.status == 200, answer.body
    seen: dict[str, str] = {}
    for name, value in answer.json()["lines"]:
        seen[name] = f"{seen[name]},{value}" if name in seen else value
    return seen, answer.headers


@contextlib.contextmanager
def without_a_mixer(mesh):
    """It hangs: whoever asks is refused."""
    pid = mesh.status()["mixer"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_headers_are_changed_in_the_proxy_where_it_knows_how(mesh):
    with mesh.applied(rule(TO_ECHO, **HEADERS)):
        assert "operations on headers\n    echo-v1:7000" in mesh.lateen("mixer", "explain", "echo-v1").stdout
        with without_a_mixer(mesh):
            seen, answered = seen_by(mesh, **{"x-mesh": "mine", "x-more": "a", "x-gone": "yes"})
        assert (seen["x-mesh"], seen["x-more"], "x-gone" in seen) == ("50%,echo", "a,b", False)
        assert (answered["x-by"], "content-type" in answered) == ("echo.default.svc.cluster.local", False)


def test_headers_are_set_in_the_proxy_for_requests_that_match(mesh):
    match = f"""{TO_ECHO} && request.headers["x-v"] == "it's" && !request.path.startsWith("/other")"""
    match += ' && source.namespace == "default" && source.principal.endsWith("sa/client") && request.method == "GET"'
    operations = [{"name": "x-set", "values": ['"so"']}, {"name": "x-more", "values": ['"b"'], "operation": "APPEND"}]
    with mesh.applied(rule(match, requestHeaderOperations=operations)):
        with without_a_mixer(mesh):
            chosen, _ = seen_by(mesh, **{"x-v": "it's", "x-more": "a"})
            others = [seen_by(mesh, **headers)[0] for headers in ({"x-v": "its"}, {}, {"x-set": "mine"})]
            others.append(seen_by(mesh, "/other", **{"x-v": "it's"})[0])
            through = json.loads(mesh.get("/echo", headers={"x-v": "it's"}).body)["headers"]
        assert (chosen["x-set"], chosen["x-more"]) == ("so", "a,b")
        assert [seen.get("x-set") for seen in others] == [None, None, "mine", None]
        assert "x-set" not in through, "the gateway is somebody else"


def test_operations_of_the_mixer_and_of_the_proxy_are_done_once_each(mesh):
    """Where the mixer is asked all the same, and where two rules change one header."""
    append = {"operation": "APPEND"}
    texts = documents(
        rule(TO_ECHO, name="one", requestHeaderOperations=[{"name": "x-one", "values": ['"1"'], **append}]),
        rule(TO_ECHO, name="asked", requestHeaderOperations=[{"name": "x-two", "values": ["request.id"]}]),
        rule(TO_ECHO, name="first", requestHeaderOperations=[{"name": "x-both", "values": ['"a"'], **append}]),
        rule(TO_ECHO, name="second", requestHeaderOperations=[{"name": "x-both", "values": ['"b"'], **append}]),
    )
    with mesh.applied(texts):
        for _ in range(3):
            seen, _ = seen_by(mesh, **{"x-one": "0", "x-both": "0"})
            assert (seen["x-one"], seen["x-both"], seen["x-two"]) == ("0,1", "0,a,b", seen["x-request-id"])
            assert seen_by(mesh)[0]["x-both"] == "a,b"
        said = mesh.lateen("mixer", "explain", "echo-v1").stdout
        assert "x-both is changed more than once" in said and "a value is worked out from the request" in said


def test_what_is_refused_has_no_header_of_a_rule(mesh):
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}})
    texts = documents(denier, NOTHING, rule(TO_ECHO, name="by", **HEADERS), rule(TO_ECHO, ("deny", "nothing")))
    with mesh.applied(texts):
        answer = mesh.fetch(f"{ECHO}/echo")
        assert answer.status == 403 and "x-by" not in answer.headers
