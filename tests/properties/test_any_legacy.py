"""Old security resources of any shape: what validation accepts, Envoy accepts, and what is converted means the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, strategies as st

from lateen.control.conversion import InputFile, convert
from lateen.control.offline import OfflineProxy, configure
from lateen.control.store import ResourceStore
from lateen.explain.access import rule_holds
from lateen.explain.facts import Facts
from lateen.explain.request import Request
from lateen.mesh.build import build_snapshot
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.security_policy import peer_policy
from lateen.plan.access.rules import access_policy
from lateen.plan.access.token_rules import token_providers
from lateen.resources.judge import judge
from lateen.settings import Settings
from lateen.sources.files import FileEvent
from tests.envoy.harness import validate
from tests.properties.length import examples

SERVICES = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "ports": ports},
    }
    for name, selector, ports in (
        ("a", {"app": "a"}, [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 9000}]),
        ("a1", {"app": "a", "version": "v1"}, [{"name": "http", "port": 81}, {"name": "other", "port": 82}]),
        ("b", {"app": "b"}, [{"name": "grpc", "port": 83, "targetPort": "web"}]),
    )
]
WORKLOADS = ((("app", "a"),), (("app", "a"), ("version", "v1")), (("app", "b"),), (("app", "c"),))
KEYS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
HOSTS = ("*", "a.default.svc.cluster.local", "a*", "*.cluster.local", "b.default.svc.cluster.local", "x")
TEXTS = ("x", "x*", "*x", "*", "a b", "\u00fc", "a\nb", ".+[", "{*}", "a: b", "- a", "#", "null", "1")
PATHS = ("/x", "/x*", "*.css", "/{a}", "/\u00fc", "x", "/a b")
BLOCKS = ("10.0.0.0/8", "127.0.0.1", "::/0", "x")


def some(*texts: str, most: int = 2) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(texts), min_size=1, max_size=most)


def mapping(wanted: dict[str, Any], **optional: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(wanted, optional=optional)


def document(group: str, kind: str, name: str, spec: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    head = {"apiVersion": f"{group}/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}
    return spec.map(lambda content: {**head, "spec": content})


constraint = st.one_of(
    mapping({"key": st.sampled_from(("destination.labels[version]",)), "values": some("v1", "v2", "v*")}),
    mapping({"key": st.sampled_from(("destination.name", "destination.namespace")), "values": some("a", "d*", "*")}),
    mapping({"key": st.just("destination.ip"), "values": some(*BLOCKS)}),
    mapping({"key": st.just("request.headers[x-a]"), "values": some(*TEXTS)}),
    mapping({"key": st.just("experimental.envoy.filters.http.a[b]"), "values": some("x", "[y]")}),
)
ports = st.lists(st.sampled_from((80, 8080, 9000, 81)), min_size=1, max_size=2)
rule = mapping(
    {"services": some(*HOSTS)},
    paths=some(*PATHS), notPaths=some(*PATHS), methods=some("GET", "*"), notMethods=some("PUT"),
    hosts=some("x.example", "*.example", "\u00fc"), notHosts=some("y"), ports=ports, notPorts=ports,
    constraints=st.lists(constraint, max_size=2),
)  # fmt: skip
rules = st.lists(rule, min_size=1, max_size=2)
properties = st.dictionaries(
    st.sampled_from(("source.principal", "source.namespace", "request.auth.claims[a][b]", "request.headers[x]")),
    st.sampled_from(TEXTS),
    max_size=2,
)
subject = mapping(
    {},
    user=st.sampled_from(TEXTS), names=some(*TEXTS), notNames=some(*TEXTS), group=st.sampled_from(TEXTS),
    groups=some(*TEXTS), notGroups=some(*TEXTS), namespaces=some(*TEXTS), notNamespaces=some(*TEXTS),
    ips=some(*BLOCKS), notIps=some(*BLOCKS), properties=properties,
)  # fmt: skip
subjects = st.lists(subject, min_size=1, max_size=2)
enforcement = st.sampled_from(("ENFORCED", "PERMISSIVE"))
target = mapping({}, services=some("a.default.svc.cluster.local"), namespaces=some("default", "x"))
config = st.one_of(
    mapping({"mode": st.sampled_from(("ON", "OFF"))}, enforcementMode=enforcement),
    mapping({"mode": st.just("ON_WITH_EXCLUSION"), "exclusion": target}),
    mapping({"mode": st.just("ON_WITH_INCLUSION"), "inclusion": target}),
)
path = st.one_of(*(mapping({kind: st.sampled_from(("/x", "/{a}", ".b", "/\u00fc"))}) for kind in ("exact", "prefix")))
trigger = mapping({}, includedPaths=st.lists(path, max_size=2), excludedPaths=st.lists(path, max_size=2))
jwt = mapping(
    {"issuer": st.sampled_from(("i", "https://i.example", "\u00fc")), "jwks": st.just(KEYS)},
    audiences=some("x"), jwtHeaders=some("x-a", "a b"), jwtParams=some("t"), triggerRules=st.lists(trigger, max_size=2),
)  # fmt: skip
peers = st.sampled_from(([], [{"mtls": {}}], [{"mtls": None}], [{"mtls": {"mode": "PERMISSIVE"}}]))
origins = st.lists(mapping({"jwt": jwt}), max_size=2)
WAYS: dict[str, Any] = {"peerIsOptional": st.booleans(), "originIsOptional": st.booleans()}
everywhere = mapping({}, peers=peers, origins=origins, **WAYS)
at_service = mapping(
    {"targets": st.sampled_from(([{"name": "a"}], [{"name": "b"}]))}, peers=peers, origins=origins, **WAYS
)
at_port = mapping({"targets": st.just([{"name": "a", "ports": [{"number": 80}]}])}, peers=peers)
RBAC, AUTHENTICATION = "rbac.istio.io", "authentication.istio.io"
reference = st.just({"kind": "ServiceRole", "name": "r"})
one = st.one_of(
    document(RBAC, "ServiceRole", "r", mapping({"rules": rules})),
    document(RBAC, "ServiceRoleBinding", "b", mapping({"subjects": subjects, "roleRef": reference}, mode=enforcement)),
    document(RBAC, "ServiceRoleBinding", "i", mapping({"subjects": subjects, "actions": rules}, mode=enforcement)),
    document(RBAC, "ClusterRbacConfig", "default", config),
    document(AUTHENTICATION, "MeshPolicy", "default", everywhere),
    document(AUTHENTICATION, "Policy", "default", everywhere),
    document(AUTHENTICATION, "Policy", "service", at_service),
    document(AUTHENTICATION, "Policy", "port", at_port),
)
meshes = st.lists(one, min_size=4, max_size=14, unique_by=lambda found: (found["kind"], found["metadata"]["name"]))


def text_of(documents: list[Any]) -> str:
    return "\n---\n".join(json.dumps(found) for found in documents)


def accepted(found: list[Any]) -> str:
    """The documents that are not refused, with the services."""
    kept = list(SERVICES)
    for candidate in found:
        store = ResourceStore("default")
        store.apply(FileEvent("one.yaml", text_of([candidate]).encode()))
        if not any(finding.is_error for finding in store.findings()):
            kept.append(candidate)
    return text_of(kept)


def snapshot_of(text: str) -> MeshSnapshot:
    store = ResourceStore("default")
    store.apply(FileEvent("mesh.yaml", text.encode()))
    assert not any(finding.is_error for finding in store.findings()), (text, store.findings())
    return build_snapshot(Settings(), store.resources(), [])


def meaning(snapshot: MeshSnapshot, labels: tuple[tuple[str, str], ...]) -> Any:
    """What a workload enforces, without where it comes from. Of tokens: which are looked at, who gets in without one.

    What becomes of one that is not good, policies of the present kinds say in another way.
    """
    access = access_policy(snapshot, "default", labels).policy
    rules_by_use: list[Any] = [
        None if found is None else {(rule.principal, rule.permission) for rule in found}
        for found in (access.allow, access.trial_deny, access.trial_allow)
    ]
    for port in (8080, 81, 82, 83, 9000):
        for way in ("/x", "/x/y", "/{a}", "/a.b", "/"):
            request = Request("h", way, "", ((":authority", "h"), (":method", "GET"), (":path", way)))
            facts = Facts(address="127.0.0.1", port=port, request=request)
            rules_by_use.append(any(rule_holds(rule, facts) for rule in access.deny))
    peer = peer_policy(snapshot, "default", labels)
    tokens = {(one.issuer, one.jwks, one.headers, one.params) for one in token_providers(snapshot, "default", labels)}
    return rules_by_use, peer.mode, peer.ports, tokens


@given(meshes)
@examples(60, 2000)
def test_what_is_converted_means_the_same(found: list[Any]) -> None:
    old = accepted(found)
    converted = convert([InputFile("mesh.yaml", old.encode())])
    assert converted.holds, converted.findings
    new = converted.texts["mesh.yaml"]
    judged = judge(new.encode(), "new.yaml", with_support=True)
    assert not [finding for verdict in judged for finding in verdict.findings if finding.is_error], (old, new)
    before, after = snapshot_of(old), snapshot_of(new)
    for labels in WORKLOADS:
        assert meaning(before, labels) == meaning(after, labels), (old, new)


@given(meshes)
@examples(8, 300, shrinks=False)
def test_envoy_takes_what_validation_takes(found: list[Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        path = Path(folder) / "mesh.yaml"
        path.write_text(accepted(found))
        for labels in WORKLOADS[1:3]:
            proxy = OfflineProxy("sidecar", "default", labels, "10.1.0.1", "a")
            result = configure([path], proxy, Settings())
            assert "internal-error" not in [finding.code for finding in result.findings], result.findings
            assert not validate(result.bootstrap().encode(), Path(folder)), path.read_text()
