"""Security of the first generation: what is refused of a resource by itself, and what is told of all of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lateen.control.coordinator import Coordinator
from lateen.control.store import ResourceStore
from lateen.mesh.build import build_snapshot
from lateen.mesh.security_policy import token_demands
from lateen.mesh.token_keys import KeySource, key_uses
from lateen.plan.access.origins import origin_rules
from lateen.plan.access.token_rules import token_providers
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.judge import judge
from lateen.resources.support import check_support
from lateen.settings import Settings
from lateen.sources.files import FileEvent

GROUP = {"Policy": "authentication.istio.io", "MeshPolicy": "authentication.istio.io"}
RULE: dict[str, Any] = {"services": ["*"]}
EVERYONE = [{"user": "*"}]
REFERENCE = {"kind": "ServiceRole", "name": "r"}
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: web}]}
"""


def document(kind: str, spec: Any, name: str = "default") -> str:
    group = GROUP.get(kind, "rbac.istio.io")
    value = {"apiVersion": f"{group}/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return yaml.safe_dump(value, sort_keys=False)


def told(kind: str, spec: Any, name: str = "default", severity: str = "error") -> list[str]:
    (verdict,) = judge(document(kind, spec, name).encode(), "file.yaml")
    return [finding.origin.field for finding in verdict.findings if finding.severity.value == severity]


def role(**fields: Any) -> Any:
    return {"rules": [{**RULE, **fields}]}


def binding(subject: Any, **fields: Any) -> Any:
    return {"subjects": [subject], "roleRef": REFERENCE, **fields}


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("ClusterRbacConfig", {"mode": "SOME"}, "spec.mode"),
        ("ClusterRbacConfig", {"mode": "ON", "inclusion": {"namespaces": ["a"]}}, "spec.inclusion"),
        ("ClusterRbacConfig", {"mode": "ON_WITH_EXCLUSION"}, "spec.exclusion"),
        ("RbacConfig", {"mode": "ON_WITH_INCLUSION", "inclusion": {"services": ["a"]}}, "spec.inclusion.services[0]"),
        ("RbacConfig", {"mode": "ON", "enforcement_mode": "MAYBE"}, "spec.enforcement_mode"),
        ("ServiceRole", {}, "spec.rules"),
        ("ServiceRole", {"rules": [{"paths": ["/a"]}]}, "spec.rules[0].services"),
        ("ServiceRole", role(paths=["/a"], notPaths=["/b"]), "spec.rules[0].notPaths"),
        ("ServiceRole", role(paths=["/a", "/b/{*}"]), "spec.rules[0].paths[1]"),
        ("ServiceRole", role(notPaths=["/a}"]), "spec.rules[0].notPaths[0]"),
        ("ServiceRole", role(methods=["A"], notMethods=["B"]), "spec.rules[0].notMethods"),
        ("ServiceRole", role(hosts=["a"], notHosts=["b"]), "spec.rules[0].notHosts"),
        ("ServiceRole", role(ports=[1], notPorts=[2]), "spec.rules[0].notPorts"),
        ("ServiceRole", role(ports=[70000]), "spec.rules[0].ports[0]"),
        ("ServiceRole", role(constraints=[{"values": ["a"]}]), "spec.rules[0].constraints[0].key"),
        ("ServiceRole", role(constraints=[{"key": "a", "values": ["a"]}]), "spec.rules[0].constraints[0].key"),
        ("ServiceRole", role(constraints=[{"key": "destination.ip"}]), "spec.rules[0].constraints[0].values"),
        (
            "ServiceRole",
            role(constraints=[{"key": "destination.ip", "values": ["x"]}]),
            "spec.rules[0].constraints[0].values[0]",
        ),
        ("ServiceRoleBinding", {"subjects": EVERYONE}, "spec.roleRef"),
        ("ServiceRoleBinding", {"roleRef": REFERENCE}, "spec.subjects"),
        ("ServiceRoleBinding", binding({"user": "*"}, role="r"), "spec"),
        ("ServiceRoleBinding", {"subjects": EVERYONE, "roleRef": {"kind": "Role", "name": "r"}}, "spec.roleRef.kind"),
        ("ServiceRoleBinding", {"subjects": EVERYONE, "roleRef": {"kind": "ServiceRole"}}, "spec.roleRef.name"),
        ("ServiceRoleBinding", binding({}), "spec.subjects[0]"),
        ("ServiceRoleBinding", binding({"user": "a", "names": ["b"]}), "spec.subjects[0].user"),
        ("ServiceRoleBinding", binding({"names": ["*"]}), "spec.subjects[0].names"),
        ("ServiceRoleBinding", binding({"names": ["a"], "notNames": ["b"]}), "spec.subjects[0].notNames"),
        ("ServiceRoleBinding", binding({"group": "a", "groups": ["b"]}), "spec.subjects[0].group"),
        ("ServiceRoleBinding", binding({"group": "a", "notGroups": ["b"]}), "spec.subjects[0].notGroups"),
        ("ServiceRoleBinding", binding({"ips": ["x"]}), "spec.subjects[0].ips[0]"),
        ("ServiceRoleBinding", binding({"properties": {"a": "b"}}), "spec.subjects[0].properties.a"),
        ("ServiceRoleBinding", binding({"properties": {"source.ip": "b"}}), "spec.subjects[0].properties.source.ip"),
        ("Policy", {"targets": [{"name": "a"}]}, "spec.targets"),
        ("MeshPolicy", {"targets": [{"name": "a"}]}, "spec.targets"),
        ("Policy", {"peers": [{}]}, "spec.peers[0]"),
        ("Policy", {"peers": [{"mtls": None}, {"mtls": {}}]}, "spec.peers"),
        ("Policy", {"peers": [{"mtls": {"mode": "DISABLE"}}]}, "spec.peers[0].mtls.mode"),
        ("Policy", {"origins": [{}]}, "spec.origins[0].jwt"),
        ("Policy", {"origins": [{"jwt": {"issuer": "a", "jwksUri": "x"}}]}, "spec.origins[0].jwt.jwksUri"),
        ("Policy", {"principalBinding": "USE_ORIGIN"}, "spec.principalBinding"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(kind: str, spec: Any, field: str) -> None:
    assert told(kind, spec) == [field]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("ClusterRbacConfig", {"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["a"]}}),
        (
            "ServiceRole",
            role(paths=["/a"], methods=["*"], constraints=[{"key": "request.headers[a]", "values": ["b"]}]),
        ),
        ("ServiceRoleBinding", binding({"user": "a", "properties": {"request.auth.claims[a]": "b"}})),
        ("Policy", {"peers": [{"mtls": None}]}),
        ("MeshPolicy", {"peers": [{"mtls": {}}], "peerIsOptional": True}),
    ],
)
def test_what_is_right_is_taken(kind: str, spec: Any) -> None:
    assert told(kind, spec) == []


@pytest.mark.parametrize("kind", ["ClusterRbacConfig", "RbacConfig", "MeshPolicy", "Policy"])
def test_names_that_have_to_be_default(kind: str) -> None:
    assert told(kind, {}, "other") == ["metadata.name"]


PLAIN = {"issuer": "b", "jwksUri": "https://b.example/k"}


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        (
            "ServiceRole",
            role(constraints=[{"key": "destination.user", "values": ["a"]}]),
            "spec.rules[0].constraints[0].key",
        ),
        (
            "ServiceRoleBinding",
            {
                "subjects": EVERYONE,
                "actions": [{**RULE, "constraints": [{"key": "destination.labels[a]", "values": ["b*"]}]}],
            },
            "spec.actions[0].constraints[0].values",
        ),
        ("Policy", {"targets": [{"name": "a", "labels": {"b": "c"}}]}, "spec.targets[0].labels"),
        ("Policy", {"peers": [{"jwt": PLAIN}]}, "spec.peers[0].jwt"),
        ("Policy", {"peers": [{"mtls": {"allowTls": True}}]}, "spec.peers[0].mtls.allowTls"),
    ],
)
def test_what_cannot_be_done_is_refused(kind: str, spec: Any, field: str) -> None:
    documents, _ = parse_documents(document(kind, spec, "a").encode(), "file.yaml")
    resource, problems = decode(documents[0])
    assert resource is not None, problems
    assert [(one.code, one.origin.field) for one in check_support(resource)] == [("unsupported-field", field)]


def of_all(*documents: str) -> list[tuple[str, str]]:
    """Code and field of what is told of resources together."""
    store = ResourceStore("default")
    store.apply(FileEvent("mesh.yaml", "---\n".join(documents).encode()))
    assert not [finding for finding in store.findings() if finding.is_error], store.findings()
    coordinator = Coordinator(Settings(), lambda *_: None)
    coordinator.update(store.resources(), [])
    return [(finding.code, finding.origin.field) for finding in coordinator.findings]


BINDING = document("ServiceRoleBinding", {"subjects": EVERYONE, "roleRef": REFERENCE}, "b")
ROLE = document("ServiceRole", {"rules": [{"services": ["a.default.svc.cluster.local"]}]}, "r")
ON = document("ClusterRbacConfig", {"mode": "ON"})
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec:
  hosts: [e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  workloadSelector: {labels: {app: e}}
"""
ASKING = {"origins": [{"jwt": {"issuer": "https://a.example", "jwksUri": "https://a.example/k"}}]}
NEWER = """
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{name: new}}
spec: {spec}
"""


@pytest.mark.parametrize(
    ("documents", "wanted"),
    [
        ([BINDING, ROLE], [("without-effect", "")]),
        ([BINDING, ON], [("unknown-role", "spec.roleRef.name")]),
        ([BINDING, ROLE, ON], [("unknown-service", "spec.rules[0]")]),
        ([ON, document("RbacConfig", {"mode": "ON"})], [("without-effect", "")]),
        ([document("Policy", {"targets": [{"name": "x"}]}, "a")], [("unknown-service", "spec.targets[0].name")]),
        (
            [document("Policy", {"targets": [{"name": "api", "ports": [{"number": 81}]}]}, "a")],
            [("unknown-port", "spec.targets[0].ports[0]")],
        ),
        (
            [document("Policy", {"targets": [{"name": "api", "ports": [{"name": "http"}]}]}, "a")],
            [("named-port", "spec.targets[0].ports[0]")],
        ),
        (
            [document("Policy", {"targets": [{"name": "api"}]}, name) for name in ("a", "b")],
            [("without-effect", "spec.targets[0]")],
        ),
        ([ON, ENTRY], [("no-selector", "")]),
        ([document("MeshPolicy", ASKING), ENTRY], [("no-selector", "")]),
        ([ON, NEWER.format(kind="AuthorizationPolicy", spec="{rules: [{}]}")], [("overruled", "spec.mode")]),
        (
            [document("Policy", {}), NEWER.format(kind="PeerAuthentication", spec="{mtls: {mode: STRICT}}")],
            [("overruled", "")],
        ),
    ],
)
def test_what_has_no_effect_is_told(documents: list[str], wanted: list[tuple[str, str]]) -> None:
    assert of_all(SERVICE, *documents) == wanted


KEYS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'


@pytest.mark.parametrize(
    ("jwt", "field", "source"),
    [
        ({"issuer": "i", "jwksUri": "https://k.example/keys"}, "jwksUri", KeySource("https://k.example/keys")),
        (
            {"issuer": "https://i.example"},
            "issuer",
            KeySource("https://i.example/.well-known/openid-configuration", "https://i.example"),
        ),
    ],
)
def test_keys_are_fetched_for_old_policies_too(jwt: Any, field: str, source: KeySource) -> None:
    store = ResourceStore("default")
    policy = document("Policy", {"origins": [{"jwt": jwt}]})
    store.apply(FileEvent("mesh.yaml", f"{SERVICE}---\n{policy}".encode()))
    (use,) = key_uses(store.resources())
    assert use.source == source and use.origin.field == f"spec.origins[0].jwt.{field}"
    snapshot = build_snapshot(Settings(), store.resources(), [], {source: KEYS})
    (provider,) = token_providers(snapshot, "default", (("app", "api"),))
    assert provider.jwks == KEYS


def test_an_origin_keeps_its_name_whatever_stands_before_it() -> None:
    """Filters of open connections know it by its name when rules that hold at once have changed."""

    def names(*issuers: str) -> dict[str, str]:
        store = ResourceStore("default")
        policy = document("Policy", {"origins": [{"jwt": {"issuer": issuer, "jwks": KEYS}} for issuer in issuers]})
        store.apply(FileEvent("mesh.yaml", f"{SERVICE}---\n{policy}".encode()))
        snapshot = build_snapshot(Settings(), store.resources(), [])
        found = token_providers(snapshot, "default", (("app", "api"),))
        rules = tuple(origin_rules(token_demands(snapshot, "default", (("app", "api"),))))
        assert all(one.name in repr(rules) for one in found)
        return {one.issuer: one.name for one in found}

    assert names("a", "b") == names("b", "a")
    assert len(set(names("a", "b").values())) == 2
