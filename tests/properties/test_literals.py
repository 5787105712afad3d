"""Texts in policies stand for themselves, whatever signs of patterns are in them; ``*`` at an end is the only one."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given, strategies as st

from lateen.envoy.rbac import ALLOW, rule_set
from lateen.explain.access import rule_holds
from lateen.explain.facts import Facts
from lateen.explain.guards import guard
from lateen.explain.request import Request
from lateen.mesh.build import build_snapshot
from lateen.plan.access.model import PAYLOAD, TOKEN_FILTER
from lateen.plan.access.rules import access_policy
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.settings import Settings
from tests.properties.length import examples

SIGNS = r".+?()[]{}|^$\\-_~!@#%&=:;,'ab1"
texts = st.text(st.sampled_from(SIGNS), min_size=1, max_size=6)
names = st.text(st.sampled_from(".-_ab1+[](|"), min_size=1, max_size=6)


def request(host: str = "h", method: str = "GET", path: str = "/", **headers: str) -> Request:
    own = ((":authority", host), (":method", method), (":path", path))
    return Request(host, path, "", (*own, *headers.items()))


def token(**claims: Any) -> dict[str, Any]:
    return {TOKEN_FILTER: {PAYLOAD: claims}}


FIELDS: dict[str, Any] = {
    "principals": (
        "source",
        lambda text: f"td/ns/{text}/sa/x",
        lambda text: Facts(identity=f"spiffe://td/ns/{text}/sa/x"),
    ),
    "namespaces": ("source", lambda text: text, lambda text: Facts(identity=f"spiffe://td/ns/{text}/sa/x")),
    "serviceAccounts": ("source", lambda text: f"n/{text}", lambda text: Facts(identity=f"spiffe://td/ns/n/sa/{text}")),
    "trustDomains": ("source", lambda text: text, lambda text: Facts(identity=f"spiffe://{text}/ns/n/sa/x")),
    "requestPrincipals": ("source", lambda text: f"i/{text}", lambda text: Facts(found=token(iss="i", sub=text))),
    "hosts": ("operation", lambda text: text, lambda text: Facts(request=request(host=text))),
    "methods": ("operation", lambda text: text, lambda text: Facts(request=request(method=text))),
    "paths": ("operation", lambda text: f"/{text}", lambda text: Facts(request=request(path=f"/{text}"))),
    "request.headers[x-a]": ("when", lambda text: text, lambda text: Facts(request=request(**{"x-a": text}))),
    "request.auth.claims[c]": ("when", lambda text: text, lambda text: Facts(found=token(c=text))),
    "request.auth.audiences": ("when", lambda text: text, lambda text: Facts(found=token(aud=[text]))),
    "connection.sni": ("when", lambda text: text, lambda text: Facts(server_name=text)),
}
NARROW = frozenset({"principals", "namespaces", "serviceAccounts", "trustDomains", "requestPrincipals"})


def rule_of(field: str, text: str) -> dict[str, Any]:
    place, written, _ = FIELDS[field]
    if place == "when":
        return {"when": [{"key": field, "values": [written(text)]}]}
    entry = {place: {field: [written(text)]}}
    return {"from": [entry]} if place == "source" else {"to": [entry]}


@given(st.sampled_from(sorted(FIELDS)), st.data())
@examples(300, 5000)
def test_a_literal_matches_itself_alone(field: str, data: st.DataObject) -> None:
    drawn = names if field in NARROW else texts
    text, other = data.draw(drawn), data.draw(st.one_of(drawn, st.sampled_from(["a", "ab", "a1", "aa"])))
    if field == "hosts":
        assume(":" not in text + other and text.lower() != other.lower())
    if field == "paths":
        assume("{" not in text)
    assume(text != other)

    spec = {"rules": [rule_of(field, text)]}
    head = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "p"}}
    documents, problems = parse_documents(json.dumps({**head, "spec": spec}).encode(), "p.yaml")
    assert not problems
    resource, findings = decode(documents[0])
    assume(resource is not None and not any(finding.is_error for finding in findings))
    assert resource is not None
    (rule,) = access_policy(build_snapshot(Settings(), [resource], []), "default", ()).policy.allow or ()
    rules = rule_set(ALLOW, [rule])
    for value, wanted in ((text, True), (other, False)):
        facts = FIELDS[field][2](value)
        assert rule_holds(rule, facts) == wanted, (field, text, value)
        assert guard(rules, facts).passes == wanted, (field, text, value)
