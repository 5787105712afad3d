"""Security of the first generation on the real Envoy: who passes, and that what `lateen convert` writes says the same.

Each case is a file of old resources with calls and their answers: 0 is a connection that is refused.
"""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from lateen.control.conversion import InputFile, convert
from lateen.explain.call import Call as Asked, Mode, Protocol as Spoken, Tls
from lateen.explain.simulate import Configuration, simulate
from lateen.explain.verdict import Error
from lateen.explain.why import action_of, judged
from lateen.mesh.model import Workload, WorkloadPort
from lateen.resources.judge import judge
from lateen.values.protocol import Protocol
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Authority
from tests.envoy.test_live_inbound import PORT, Server, app_address, ask_tcp, connect, mesh_tls
from tests.envoy.token_support import Issuer

BYTES = 18082
ISSUER, OTHER = Issuer("https://a.example", "ES256"), Issuer("https://b.example", "ES256")
SERVER = Workload(
    "server-0", "default", "server", (("app", "server"), ("version", "v1")), "server", "", ready=True,
    ports=(WorkloadPort("http", PORT, PORT, Protocol.HTTP), WorkloadPort("tcp", BYTES, BYTES, Protocol.TCP)),
)  # fmt: skip
SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: default}}
spec:
  selector: {{app: server}}
  ports: [{{name: http, port: {PORT}}}, {{name: tcp, port: {BYTES}}}]
---
"""


def rbac(kind: str, name: str, spec: str) -> str:
    head = f"apiVersion: rbac.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\n"
    return f"{head}spec: {spec}\n---\n"


def authentication(kind: str, name: str, spec: str) -> str:
    head = (
        f"apiVersion: authentication.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\n"
    )
    return f"{head}spec: {spec}\n---\n"


def present(kind: str, spec: str, annotations: str = "{}") -> str:
    metadata = f"{{name: own{len(spec)}, annotations: {annotations}}}"
    return f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n---\n"


ON = rbac("ClusterRbacConfig", "default", "{mode: 'ON'}")
PLAIN_SPEC = "{targets: [{name: server}], peers: [{mtls: {mode: PERMISSIVE}}]}"
PLAIN = authentication("Policy", "server", PLAIN_SPEC)
HOST = "server.default.svc.cluster.local"


def granted(rule: str, subject: str, more: str = "") -> str:
    role = rbac("ServiceRole", "role", f"{{rules: [{rule}]}}")
    binding = f"{{subjects: [{subject}], roleRef: {{kind: ServiceRole, name: role}}{more}}}"
    return PLAIN + ON + role + rbac("ServiceRoleBinding", "some", binding)


ALL = f"{{services: [{HOST}]}}"
FRIEND = "{user: cluster.local/ns/default/sa/friend}"
TOKEN = f"{{jwt: {{issuer: 'https://a.example', jwks: '{ISSUER.jwks}'}}}}"
TOKEN_AT = TOKEN.replace("}}", ", jwtHeaders: [x-token], jwtParams: [t], audiences: [shop]}}")
A = ISSUER.token()
FULL = ("authorization", f"Bearer {ISSUER.token(azp='app', a={'b': 'cd'})}")
BEARER = (("authorization", f"Bearer {A}"),)


class Call(NamedTuple):
    """One call: as which account ("" for plain text), and how; ``status`` is the answer.

    ``converted``: what policies of the present kinds answer, where they cannot say the same.
    """

    status: int
    account: str = "friend"
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    port: int = PORT
    converted: int | None = None


def origins(text: str, more: str = "") -> str:
    return authentication("Policy", "default", f"{{peers: [{{mtls: {{mode: PERMISSIVE}}}}], origins: [{text}]{more}}}")


def bearer(issuer: Issuer) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {issuer.token()}"),)


TOKEN_B = TOKEN.replace("a.example", "b.example").replace(ISSUER.jwks, OTHER.jwks)
AT_HTTP = "targets: [{name: server, ports: [{name: http}]}]"
IN_A = ", triggerRules: [{includedPaths: [{prefix: /a}]}]}}"
IN_B = ", triggerRules: [{includedPaths: [{prefix: /b}]}]}}"
TRIGGERS = "triggerRules: [{includedPaths: [{prefix: /in}], excludedPaths: [{exact: /in/free}, {suffix: .css}]}]"
CASES: dict[str, tuple[str, list[Call]]] = {
    "denied by default": (PLAIN + ON, [Call(403), Call(403, ""), Call(0, port=BYTES)]),
    "off": (PLAIN + ON.replace("'ON'", "'OFF'"), [Call(200), Call(200, ""), Call(1, port=BYTES)]),
    "not included": (
        PLAIN + rbac("ClusterRbacConfig", "default", "{mode: ON_WITH_INCLUSION, inclusion: {services: [a.b]}}"),
        [Call(200)],
    ),
    "included": (
        PLAIN + rbac("RbacConfig", "default", "{mode: ON_WITH_INCLUSION, inclusion: {namespaces: [default]}}"),
        [Call(403)],
    ),
    "excluded": (
        PLAIN + rbac("ClusterRbacConfig", "default", f"{{mode: ON_WITH_EXCLUSION, exclusion: {{services: [{HOST}]}}}}"),
        [Call(200)],
    ),
    "the cluster's config wins": (
        PLAIN + rbac("RbacConfig", "default", "{mode: 'OFF'}") + ON,
        [Call(403)],
    ),
    "a config on trial": (
        PLAIN + rbac("ClusterRbacConfig", "default", "{mode: 'ON', enforcement_mode: PERMISSIVE}"),
        [Call(200), Call(1, port=BYTES)],
    ),
    "a user": (
        granted(ALL, FRIEND),
        [Call(200), Call(403, "foe"), Call(403, ""), Call(1, port=BYTES), Call(0, "foe", port=BYTES)],
    ),
    "everyone": (
        granted("{services: ['*']}", "{user: '*'}"),
        [Call(200, ""), Call(200, "foe"), Call(1, "", port=BYTES)],
    ),
    "a binding on trial": (granted(ALL, FRIEND, ", mode: PERMISSIVE"), [Call(403), Call(403, "foe")]),
    "another service's role": (granted("{services: [server.shop.svc.cluster.local]}", FRIEND), [Call(403)]),
    "paths and methods": (
        granted(f"{{services: [{HOST}], paths: [/a, /b/*, '*.css'], methods: [GET]}}", FRIEND),
        [
            Call(200, path="/a"), Call(200, path="/b/c?d"), Call(200, path="/x.css"), Call(403, path="/ab"),
            Call(403, path="/a", method="POST"), Call(403, "foe", "/a"), Call(0, port=BYTES),
        ],
    ),
    "what is left out": (
        granted(
            f"{{services: [server*], notPaths: [/a], notMethods: [PUT], notHosts: [b.example], notPorts: [{BYTES}]}}",
            "{notNames: ['*/sa/foe'], notNamespaces: [other], notIps: [10.0.0.0/8]}",
        ),
        [
            Call(200), Call(403, path="/a"), Call(403, method="PUT"), Call(403, "foe"), Call(403, ""),
            Call(403, headers=(("host", "b.example"),)), Call(0, port=BYTES),
        ],
    ),
    "hosts and ports": (
        granted(f"{{services: ['*.cluster.local'], hosts: [c.example], ports: [{PORT}]}}", "{names: ['*/sa/friend']}"),
        [Call(200, headers=(("host", "c.example"),)), Call(403), Call(0, port=BYTES)],
    ),
    "constraints": (
        granted(
            "{services: ['*'], constraints: ["
            "{key: 'destination.labels[version]', values: [v1, v2]}, {key: destination.name, values: [ser*]},"
            "{key: destination.namespace, values: [default]}, {key: 'request.headers[x-a]', values: [b, c*]},"
            f"{{key: destination.port, values: ['{PORT}']}}, {{key: destination.ip, values: [127.0.0.0/8]}}]}}",
            "{namespaces: [default], ips: [127.0.0.0/8],"
            "properties: {source.namespace: def*, source.ip: 127.0.0.1/32}}",
        ),
        [Call(403), Call(200, headers=(("x-a", "cd"),)), Call(403, "", headers=(("x-a", "b"),))],
    ),
    "other labels": (
        granted("{services: ['*'], constraints: [{key: 'destination.labels[version]', values: [v2]}]}", FRIEND),
        [Call(403)],
    ),
    "inline actions": (
        PLAIN + ON + rbac("ServiceRoleBinding", "some", f"{{subjects: [{FRIEND}], actions: [{{services: ['*']}}]}}"),
        [Call(200), Call(403, "foe")],
    ),
    "a role by its name": (
        granted(ALL, FRIEND).replace("roleRef: {kind: ServiceRole, name: role}", "role: role"),
        [Call(200), Call(403, "foe")],
    ),
    "claims": (
        origins(TOKEN, ", originIsOptional: true, principalBinding: USE_ORIGIN")
        + granted(ALL, "{groups: [cooks], properties: {'request.auth.claims[place]': bar, "
                  "'request.auth.principal': '*/ann'}}").removeprefix(PLAIN),
        [
            Call(403),
            Call(200, headers=(("authorization", f"Bearer {ISSUER.token(groups=['cooks'], place='bar')}"),)),
            Call(403, headers=(("authorization", f"Bearer {ISSUER.token(groups=['cooks'])}"),)),
            Call(403, headers=(("authorization", f"Bearer {ISSUER.token(groups=['x'], place='bar')}"),)),
        ],
    ),
    "every property": (
        origins(TOKEN, ", originIsOptional: true, principalBinding: USE_ORIGIN")
        + granted(ALL, "{properties: {source.principal: '*/sa/friend', source.namespace: default, "
                  "source.ip: 127.0.0.0/8, request.auth.principal: 'https://a.example/ann', "
                  "request.auth.audiences: shop, request.auth.presenter: app, 'request.auth.claims[a][b]': c*, "
                  "'request.headers[x-a]': '*z'}}").removeprefix(PLAIN),
        [
            Call(200, headers=(FULL, ("x-a", "yz"))),
            Call(403, "foe", headers=(FULL, ("x-a", "yz"))),
            Call(403, "", headers=(FULL, ("x-a", "yz"))),
            Call(403, headers=(FULL, ("x-a", "zy"))),
            Call(403, headers=(FULL,)),
            Call(403, headers=(*BEARER, ("x-a", "yz"))),
        ],
    ),
    "groups that are left out": (
        origins(TOKEN, ", originIsOptional: true") + granted(ALL, "{notGroups: [guests]}").removeprefix(PLAIN),
        [
            Call(403),
            Call(200, headers=BEARER),
            Call(403, headers=(("authorization", f"Bearer {ISSUER.token(groups=['guests'])}"),)),
        ],
    ),
    "an AuthorizationPolicy goes first": (
        PLAIN + ON + "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: own}\n"
        "spec: {selector: {matchLabels: {app: server}}, rules: [{to: [{operation: {paths: [/a]}}]}]}\n---\n",
        [Call(200, path="/a"), Call(403)],
    ),
    "policies that decide nothing change nothing": (
        granted(ALL, FRIEND) + present("AuthorizationPolicy", "{action: AUDIT, rules: [{}]}")
        + present("AuthorizationPolicy", "{rules: [{}]}", "{istio.io/dry-run: 'true'}"),
        [Call(200), Call(403, "foe")],
    ),
    "a RequestAuthentication goes first": (
        origins(TOKEN) + present("RequestAuthentication", "{selector: {matchLabels: {app: server}}, "
                                 "jwtRules: [{issuer: 'https://b.example', jwks: '" + OTHER.jwks + "'}]}"),
        [Call(200), Call(401, headers=BEARER), Call(200, headers=(("authorization", f"Bearer {OTHER.token()}"),))],
    ),
    "a RequestAuthentication without rules changes nothing": (
        origins(TOKEN) + present("RequestAuthentication", "{}"),
        [Call(401, converted=403), Call(200, headers=BEARER)],
    ),
    "a PeerAuthentication goes first": (
        PLAIN + present("PeerAuthentication", "{mtls: {mode: STRICT}}"), [Call(200), Call(0, "")],
    ),
    "mesh TLS alone": (
        authentication("MeshPolicy", "default", "{peers: [{mtls: }]}"), [Call(200), Call(0, "")],
    ),
    "the namespace before the mesh": (
        authentication("MeshPolicy", "default", "{peers: [{mtls: {}}]}")
        + authentication("Policy", "default", "{peers: [{mtls: {mode: STRICT}}], peerIsOptional: true}"),
        [Call(200), Call(200, "")],
    ),
    "a port before its service": (
        authentication("Policy", "port", PLAIN_SPEC.replace("server}", f"server, ports: [{{number: {BYTES}}}]}}"))
        .replace("mode: PERMISSIVE", "")
        + PLAIN,
        [Call(200, ""), Call(0, "", port=BYTES), Call(1, port=BYTES)],
    ),
    "a port by its name": (
        authentication("MeshPolicy", "default", "{peers: [{mtls: {}}]}")
        + authentication("Policy", "port", "{targets: [{name: server, ports: [{name: http}]}]}"),
        [Call(200, ""), Call(0, "", port=BYTES)],
    ),
    "tokens": (
        origins(TOKEN),
        [
            Call(401, converted=403), Call(200, headers=BEARER), Call(1, port=BYTES),
            Call(401, headers=bearer(OTHER)),
        ],
    ),
    "tokens in other places": (
        origins(TOKEN_AT),
        [
            Call(401, converted=403), Call(401, headers=BEARER, converted=403), Call(200, headers=(("x-token", A),)),
            Call(200, path=f"/?t={A}"), Call(401, headers=(("x-token", OTHER.token()),)),
            Call(401, headers=(("x-token", ISSUER.token(aud="else")),), converted=403),
        ],
    ),
    "tokens of two issuers": (
        origins(f"{TOKEN}, {TOKEN_B}"),
        [Call(401, converted=403), Call(200, headers=BEARER), Call(200, headers=bearer(OTHER))],
    ),
    "tokens at some paths": (
        origins(TOKEN.replace("}}", f", {TRIGGERS}}}}}")),
        [
            Call(200, path="/out"), Call(401, path="/in", converted=403), Call(401, path="/in/a", converted=403),
            Call(200, path="/in/free"), Call(200, path="/in/a.css"), Call(200, path="/in", headers=BEARER),
            Call(1, port=BYTES), Call(401, path="/in", headers=bearer(OTHER)),
            Call(200, path="/out", headers=bearer(OTHER), converted=401),
        ],
    ),
    "tokens at paths of a pattern": (
        origins(TOKEN.replace("}}", ", triggerRules: [{includedPaths: [{regex: '/v[0-9]+/.*'}]}]}}")),
        [
            Call(401, path="/v1/a?x=/", converted=403), Call(200, path="/v/a", converted=403),
            Call(200, path="/v22/a", headers=BEARER), Call(200, path="/x/v1/a", converted=403),
        ],
    ),
    "each origin at paths of its own": (
        origins(f"{TOKEN.replace('}}', IN_A)}, {TOKEN_B.replace('}}', IN_B)}"),
        [
            Call(401, path="/a", converted=403), Call(200, path="/a", headers=BEARER),
            Call(401, path="/a", headers=bearer(OTHER), converted=403), Call(200, path="/b", headers=bearer(OTHER)),
            Call(401, path="/b", headers=BEARER, converted=403), Call(200, path="/c"),
        ],
    ),
    "optional tokens": (
        origins(TOKEN, ", originIsOptional: true"),
        [Call(200), Call(200, headers=BEARER), Call(200, headers=bearer(OTHER), converted=401)],
    ),
    "tokens at one port": (
        authentication("Policy", "own", "{targets: [{name: server}], peers: [{mtls: {mode: PERMISSIVE}}]}")
        + authentication("Policy", "port", f"{{{AT_HTTP}, origins: [{TOKEN}]}}"),
        [Call(401, converted=403), Call(200, headers=BEARER), Call(1, port=BYTES)],
    ),
    "the peer is the request's principal": (
        origins(TOKEN, ", originIsOptional: true")
        + granted(ALL, "{properties: {request.auth.principal: '*/sa/friend'}}").removeprefix(PLAIN),
        [Call(200), Call(403, "foe"), Call(403, ""), Call(403, "foe", headers=BEARER)],
    ),
    "the token is the request's principal": (
        origins(TOKEN, ", originIsOptional: true, principalBinding: USE_ORIGIN")
        + granted(ALL, "{properties: {request.auth.principal: 'https://a.example/*'}}").removeprefix(PLAIN),
        [Call(403), Call(200, "foe", headers=BEARER), Call(200, "", headers=BEARER)],
    ),
    "a role on trial": (
        granted(ALL, FRIEND).replace("}]}\n---\n" + "apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRoleBinding",
        "}], mode: PERMISSIVE}\n---\n" + "apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRoleBinding"),
        [Call(403), Call(403, "foe")],
    ),
    "a service before its namespace": (
        origins(TOKEN) + authentication("Policy", "own", "{targets: [{name: server}]}"),
        [Call(200), Call(200, "")],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def status(proxy: Running, authority: Authority, folder: Path, call: Call) -> int:
    """The status of an answer; for plain bytes 1 if they come back; 0 where the connection is closed."""
    wrapped: socket.socket = connect(proxy, call.port)
    try:
        if call.account:
            alpn = "istio" if call.port == BYTES else "istio-http/1.1"
            wrapped = mesh_tls(authority, folder, [alpn], call.account).wrap_socket(wrapped)
        if call.port == BYTES:
            return int(ask_tcp(wrapped) == b"tcp:hello\n")
        connection = http.client.HTTPConnection(HOST, PORT, timeout=10)
        connection.sock = wrapped
        connection.request(call.method, call.path, headers={"host": HOST, "connection": "close", **dict(call.headers)})
        return connection.getresponse().status
    except OSError:
        return 0
    except http.client.HTTPException:
        return 0
    finally:
        wrapped.close()


def verdicts(text: str, calls: list[Call], authority: Authority, folder: Path) -> list[int]:
    with sidecar(text, workload=SERVER, authority=authority) as proxy:
        address = app_address(proxy)
        with Server(address), Server(address, BYTES):
            return [status(proxy, authority, folder, call) for call in calls]


@pytest.mark.covers(
    "ClusterRbacConfig mode", "RbacConfig mode", "ServiceRole rules", "ServiceRoleBinding subjects",
    "ServiceRoleBinding actions", "ServiceRoleBinding role", "ServiceRoleBinding roleRef", "Policy targets",
    "Policy principalBinding", "ServiceRole mode",
    "Policy peers", "Policy peerIsOptional", "Policy origins", "Policy originIsOptional", "MeshPolicy peers",
)  # fmt: skip
@pytest.mark.parametrize("name", CASES)
def test_old_rules_decide_as_they_say(name: str, authority: Authority, tmp_path: Path) -> None:
    text, calls = CASES[name]
    assert verdicts(SERVICE + text, calls, authority, tmp_path) == [call.status for call in calls], calls


@pytest.mark.parametrize("name", CASES)
def test_what_is_converted_decides_the_same(name: str, authority: Authority, tmp_path: Path) -> None:
    text, calls = CASES[name]
    converted = convert([InputFile("old.yaml", (SERVICE + text).encode())])
    assert converted.holds, converted.findings
    new = converted.texts["old.yaml"]
    judged = judge(new.encode(), "new.yaml", with_support=True)
    assert not any(finding.is_error for verdict in judged for finding in verdict.findings), judged
    assert "v1alpha1" not in new
    wanted = [call.status if call.converted is None else call.converted for call in calls]
    assert verdicts(new, calls, authority, tmp_path) == wanted, new


@pytest.mark.covers("ClusterRbacConfig enforcementMode", "ServiceRoleBinding mode")
def test_what_is_on_trial_is_logged(authority: Authority, tmp_path: Path) -> None:
    text = granted(ALL, FRIEND, ", mode: PERMISSIVE").replace("mode: 'ON'", "mode: 'ON', enforcement_mode: PERMISSIVE")
    with sidecar(SERVICE + text, workload=SERVER, authority=authority, logs=True) as proxy, Server(app_address(proxy)):
        assert status(proxy, authority, tmp_path, Call(200, "foe", "/foe")) == 200
        assert status(proxy, authority, tmp_path, Call(200, "friend", "/friend")) == 200
        assert proxy.logged("/foe")["dry_run_allow_result"] == "denied"
        friend = proxy.logged("/friend")
        assert friend["dry_run_allow_result"] == "allowed"
        assert friend["dry_run_allow_policy"] == "ns[default]-policy[some-server]-rule[0]"


def test_a_missing_token_is_answered_as_ever_and_explained_with_its_policy(
    authority: Authority, tmp_path: Path
) -> None:
    text = origins(f"{TOKEN.replace('}}', IN_A)}, {TOKEN_B.replace('}}', IN_B)}")
    calls: list[tuple[str, Issuer | None]] = [("/a", None), ("/a", ISSUER), ("/b", ISSUER), ("/b", OTHER), ("/c", None)]
    with sidecar(SERVICE + text, workload=SERVER, authority=authority, logs=True) as proxy, Server(app_address(proxy)):
        for path, issuer in calls:
            headers = bearer(issuer) if issuer is not None else ()
            met = status(proxy, authority, tmp_path, Call(0, path=path, headers=headers))
            claims = {"iss": issuer.name, "sub": "ann"} if issuer is not None else None
            verdict = simulate(
                Configuration(proxy.resources),
                Asked(PORT, Mode.INBOUND, proxy.inbound, Spoken.HTTP, Tls.MTLS, HOST, path, claims=claims),
            )
            assert (verdict.error is Error.ACCESS_DENIED) == (met == 401), (path, verdict.trail)
            action = action_of(proxy.plan, verdict)
            judgement = judged(action, verdict) if action is not None else None
            assert judgement is not None and judgement.allowed == (met == 200)
            if judgement.by is not None:
                assert (judgement.by.origin.kind, judgement.by.origin.field) == ("Policy", "spec.origins")
        assert status(proxy, authority, tmp_path, Call(0, path="/a/none")) == 401
        assert proxy.logged("/a/none")["bytes_sent"] == len("Origin authentication failed.")
