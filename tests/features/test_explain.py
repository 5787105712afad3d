"""Every call is explained, and every denial says which rule it was, with file and line; as the mesh really does."""

import http.server
import json
import threading

import pytest

from tests.envoy.token_support import Issuer
from tests.features.running import until
from tests.features.test_security import ECHO, peer, policy

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]


def explained(mesh, *words):
    done = mesh.lateen("explain", *words, check=False)
    return done.returncode, done.stdout


def denied_entry(mesh, service, path):
    """The line of the access log of one of a service's instances."""

    def found():
        lines = mesh.lateen("logs", service, "--access").stdout.splitlines()
        entries = [json.loads(line[line.index("{") :]) for line in lines if "{" in line]
        return next((entry for entry in entries if entry.get("path") == path and "denied_because" in entry), None)

    return until(found, "the access log tells of the denial")


def test_a_call_is_followed_to_its_application(mesh):
    code, said = explained(mesh, "client", f"{ECHO}/echo")
    assert code == 0, said
    assert "outbound|8000||echo.default.svc.cluster.local" in said
    assert "no policy is for it, so it is allowed" in said
    assert "the application of echo-v" in said
    code, said = explained(mesh, "outside", f"http://127.0.0.1:{mesh.port}/echo")
    assert code == 0, said
    assert "a client comes to port" in said


def test_a_client_may_be_named_by_its_service(mesh):
    code, said = explained(mesh, "echo", f"{ECHO}/echo")
    assert code == 0, said
    assert said.startswith("echo-v1-0\n")


def test_a_call_that_nobody_takes_is_closed_and_not_said_to_leave(mesh):
    for url in ("https://echo:8000/", "http://echo:9999/"):
        code, said = explained(mesh, "client", url)
        assert code == 1, said
        assert "leaves the mesh" not in said
    code, said = explained(mesh, "client", f"{ECHO}/a%00b")
    assert (code, "client-0 answers 400 itself" in said) == (1, True)


@pytest.mark.one_capture
def test_a_call_of_an_instance_by_its_address_is_followed_there(mesh):
    if mesh.capture != "namespaces":
        pytest.skip("instances have addresses of their own in namespaces alone")
    url = f"http://{mesh.workload('echo-v1-0')['address']}:8000/echo"
    code, said = explained(mesh, "client", url)
    assert (code, "plain text came" in said, "leaves the mesh" in said) == (1, True, False), said
    with mesh.applied(peer("PERMISSIVE")):
        assert mesh.fetch(url).status == 200
        code, said = explained(mesh, "client", url)
        assert (code, "the application of echo-v1-0 gets it" in said) == (0, True), said


def test_a_denial_names_the_rule_its_file_and_its_line(mesh):
    with mesh.applied(policy("  action: DENY\n  rules:\n  - to: [{operation: {paths: [/secret]}}]")):
        assert mesh.fetch(f"{ECHO}/secret").status == 403
        code, said = explained(mesh, "client", f"{ECHO}/secret")
        assert code == 1
        assert "access: ns[default]-policy[echo]-rule[0] denies it" in said
        assert "extra.yaml:9" in said
        assert "access_denied" in said
        assert explained(mesh, "client", f"{ECHO}/open")[0] == 0
        assert "extra.yaml:9" in denied_entry(mesh, "echo", "/secret")["denied_because"][0]


LIMIT = """
apiVersion: lateen.io/v1alpha1
kind: RateLimit
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  rules:
  - {match: {paths: [{exact: /limited}]}, per: [source.principal], limit: {requests: 1, per: 1h}}
"""


def test_a_limit_that_refuses_a_call_is_named_with_its_line(mesh):
    with mesh.applied(LIMIT):
        statuses = {mesh.fetch(f"{ECHO}/limited").status for _ in range(4)}  # there are two replicas
        assert statuses == {200, 429}
        code, said = explained(mesh, "client", f"{ECHO}/limited")
        assert code == 0
        assert "limit default/echo/0 counts it: 1 in 3600 s for each client, by this proxy alone" in said
        assert "extra.yaml:8" in said
        assert "limit" not in explained(mesh, "client", f"{ECHO}/open")[1]
        assert "extra.yaml:8" in denied_entry(mesh, "echo", "/limited")["denied_because"][0]


@pytest.mark.parametrize("url", ["http://echo:99999/", "ftp://echo", "http://[::1", "http://"])
def test_what_is_no_url_is_told(mesh, url):
    done = mesh.lateen("explain", "client", url, check=False)
    assert done.returncode == 1
    assert f"{url} is no URL such as http://reviews:9080/path" in done.stderr


def test_a_token_that_is_over_is_refused_as_it_really_is(mesh):
    issuer = Issuer("https://a.example")
    rule = f"jwtRules: [{{issuer: https://a.example, jwks: '{issuer.jwks}'}}]"
    text = (
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: echo}\n"
        f"spec:\n  selector: {{matchLabels: {{app: echo}}}}\n  {rule}\n"
    )
    with mesh.applied(text):
        for claims, why in (
            ({"exp": 1}, "the token has expired"),
            ({"exp": 4_000_000_000, "nbf": 3_000_000_000}, "the token is not valid yet"),
            ({"exp": 4_000_000_000, "sub": 7}, "the claim sub of the token is no text"),
        ):
            token = issuer.token(**{"iss": "https://a.example", "sub": "x", **claims})
            shown = {"authorization": f"Bearer {token}"}
            until(lambda shown=shown: mesh.fetch(f"{ECHO}/echo", headers=shown).status == 401, "it is refused")
            code, said = explained(mesh, "client", f"{ECHO}/echo", "--token", token)
            assert (code, why in said, "answers 401" in said) == (1, True, True), said
        good = issuer.token(iss="https://a.example", sub="x", exp=4_000_000_000)
        assert explained(mesh, "client", f"{ECHO}/echo", "--token", good)[0] == 0


def test_what_came_near_is_told_with_what_it_failed_by(mesh):
    rules = "  rules:\n  - {from: [{source: {principals: ['*/sa/other']}}], to: [{operation: {paths: [/near]}}]}"
    with mesh.applied(policy(rules)):
        assert mesh.fetch(f"{ECHO}/near").status == 403
        code, said = explained(mesh, "client", f"{ECHO}/near")
        assert code == 1
        assert "no ALLOW rule matches, so it is denied" in said
        near = next(line for line in said.splitlines() if "fails:" in line)
        assert "extra.yaml:8" in near
        assert "the caller is spiffe://cluster.local/ns/default/sa/client" in near
        assert "the path is" not in near


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nobody", "http://echo:8000/"), "there is no workload nobody"),
        (("client", "ftp://echo"), "is no URL"),
        (("outside", "http://127.0.0.1:1/"), "no gateway listens on port 1"),
        (("client", "http://echo:8000/", "--claims", "[]"), "no JSON object"),
        (("client", "http://echo:8000/", "--token", "x"), "three parts"),
        (("client", "http://echo:8000/", "-H", "x"), "NAME: VALUE"),
        (("client", "http://echo:8000/", "-X", ""), "no method"),
        (("client", "http://echo:8000/", "-X", "GET / HTTP"), "no method"),
        (("client", "http://echo:8000/", "--claims", '{"a":' * 20_000 + "1" + "}" * 20_000), "no JSON object"),
        (("client", "http://echo:8000/", "--claims", '{"exp": NaN}'), "no JSON object"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told(mesh, words, told):
    done = mesh.lateen("explain", *words, check=False)
    assert done.returncode in (1, 2)
    assert told in done.stderr


def refused(mesh, service, wanted):
    """The line of an access log that tells so."""

    def found():
        lines = mesh.lateen("logs", service, "--access").stdout.splitlines()
        told = [json.loads(line[line.index("{") :]).get("denied_because", []) for line in lines if "{" in line]
        return next((reasons for reasons in told if wanted in "\n".join(reasons)), None)

    return until(found, f"the access log tells: {wanted}")


PLAIN_AND_STRICT = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a-plain}
spec: {host: echo, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  mtls: {mode: PERMISSIVE}
  portLevelMtls: {"8000": {mode: STRICT}}
"""


def test_plain_text_that_a_port_refuses_is_told_with_the_mode_and_its_line(mesh):
    with mesh.applied(PLAIN_AND_STRICT):
        assert mesh.fetch(f"{ECHO}/echo").status == 503
        code, said = explained(mesh, "client", f"{ECHO}/echo")
        assert code == 1
        told = "port 8000 takes mesh TLS alone, and plain text came: mode STRICT (PeerAuthentication default/echo"
        assert told in said
        assert "extra.yaml:13" in said
        assert "extra.yaml:13" in refused(mesh, "echo", told)[0]


def test_a_token_that_is_refused_names_the_rules_that_did_not_take_it(mesh):
    issuer = Issuer("https://a.example")
    text = (
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: echo}\n"
        "spec:\n  selector: {matchLabels: {app: echo}}\n  jwtRules:\n"
        f"  - {{issuer: https://a.example, audiences: [shop], jwks: '{issuer.jwks}'}}\n"
    )
    with mesh.applied(text):
        token = issuer.token(iss="https://b.example", aud="shop", exp=4_000_000_000)
        shown = {"authorization": f"Bearer {token}"}
        until(lambda: mesh.fetch(f"{ECHO}/token", headers=shown).status == 401, "it is refused")
        code, said = explained(mesh, "client", f"{ECHO}/token", "--token", token)
        assert code == 1
        assert "extra.yaml:7) fails: the token is of 'https://b.example', not of 'https://a.example'" in said
        told = refused(mesh, "echo", "the token is refused: Jwt issuer is not configured")
        assert "extra.yaml:7) takes tokens of 'https://a.example' for 'shop'" in told[1]
        other = issuer.token(iss="https://a.example", aud="else", exp=4_000_000_000)
        assert (
            "the token is for 'else', not for 'shop'" in explained(mesh, "client", f"{ECHO}/token", "--token", other)[1]
        )


ASKED = """
kind: MeshConfig
extensionProviders:
- name: asker
  envoyExtAuthzHttp: {service: asker.example, port: 9000, timeout: 5s}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: asker}
spec:
  hosts: [asker.example]
  ports: [{name: http, number: 9000, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
---
"""


class Refuser(http.server.BaseHTTPRequestHandler):
    """An authorizer that agrees to nothing."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_who_refused_outside_the_proxy_is_named_and_that_nobody_could_be_asked(mesh):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuser)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rules = "  action: CUSTOM\n  provider: {name: asker}\n  rules:\n  - to: [{operation: {paths: [/asked]}}]"
    with mesh.applied(ASKED % server.server_port + policy(rules)):
        until(
            lambda: {mesh.fetch(f"{ECHO}/asked").status for _ in range(6)} == {401},
            "connections to both versions know the authorizer",
        )
        told = refused(mesh, "echo", "authorizer asker denies it (AuthorizationPolicy default/echo spec.rules[0]")
        assert "extra.yaml:25" in told[0]
        server.shutdown()
        server.server_close()
        assert mesh.fetch(f"{ECHO}/asked").status == 403
        refused(mesh, "echo", "authorizer asker could not be asked, so it is denied (AuthorizationPolicy default/echo")


def test_denials_at_gateways_and_of_connections_are_told(mesh):
    texts = (
        policy("  action: DENY\n  rules: [{to: [{operation: {ports: ['7000']}}]}]", "bytes"),
        policy(
            "  rules: [{from: [{source: {namespaces: [none]}}], when: [{key: 'request.headers[x-a]', values: [b]}]}]"
        ),
        policy(
            f"  action: DENY\n  rules: [{{to: [{{operation: {{ports: ['{mesh.port}'], paths: [/edge]}}}}]}}]", "edge"
        ),
    )
    at_edge = texts[2].replace("{app: echo}", "{istio: ingressgateway}")
    with mesh.applied("---".join((*texts[:2], at_edge))):
        assert mesh.get("/edge").status == 403
        assert mesh.get("/tcp?to=echo:7000").json()["got"] == ""
        assert mesh.fetch(f"{ECHO}/near").status == 403
        assert "extra.yaml:23" in refused(mesh, "ingress", "ns[default]-policy[edge]-rule[0] denies it")[0]
        assert "extra.yaml:8" in refused(mesh, "echo", "ns[default]-policy[bytes]-rule[0] denies it")[0]
        near = refused(mesh, "echo", "no ALLOW rule matches, so it is denied")[1]
        assert "extra.yaml:15" in near
        assert "the header x-a is not known here, not 'b'" in near
