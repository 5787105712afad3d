"""Each field of a rule x protocol x action: what plain bytes cannot tell closes, it never opens.

A rule is written with one field, which holds for the connection where bytes can tell it at all.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lateen.envoy.rbac import DENY, LOG, for_bytes, rule_set
from lateen.explain.access import rule_holds
from lateen.explain.facts import Facts
from lateen.explain.guards import guard
from lateen.mesh.build import build_snapshot
from lateen.plan.access.model import AccessPolicy
from lateen.plan.access.rules import access_policy
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.settings import Settings

BYTES = Facts(
    identity="spiffe://cluster.local/ns/shop/sa/cart",
    source="10.1.2.3",
    remote="10.1.2.3",
    address="10.9.9.9",
    port=7000,
    server_name="cart.shop",
)
TOLD = {
    "principals": ("source", ["cluster.local/ns/shop/sa/cart", "*/sa/cart", "cluster.local/*"]),
    "namespaces": ("source", ["shop", "sh*", "*op"]),
    "serviceAccounts": ("source", ["shop/cart"]),
    "trustDomains": ("source", ["cluster.local", "*.local"]),
    "ipBlocks": ("source", ["10.0.0.0/8", "10.1.2.3"]),
    "remoteIpBlocks": ("source", ["10.0.0.0/8"]),
    "ports": ("operation", ["7000"]),
    "source.ip": ("when", ["10.0.0.0/8"]),
    "remote.ip": ("when", ["10.0.0.0/8"]),
    "source.namespace": ("when", ["shop"]),
    "source.principal": ("when", ["*/sa/cart"]),
    "source.serviceAccount": ("when", ["shop/cart"]),
    "source.trustDomain": ("when", ["cluster.*"]),
    "destination.ip": ("when", ["10.9.0.0/16"]),
    "destination.port": ("when", ["7000"]),
    "connection.sni": ("when", ["*.shop"]),
}
NOT_TOLD = {
    "requestPrincipals": ("source", ["*"]),
    "hosts": ("operation", ["*"]),
    "methods": ("operation", ["GET"]),
    "paths": ("operation", ["/a/{*}"]),
    "request.headers[x-a]": ("when", ["*"]),
    "request.auth.principal": ("when", ["*"]),
    "request.auth.audiences": ("when", ["a"]),
    "request.auth.presenter": ("when", ["a"]),
    "request.auth.claims[a][b]": ("when", ["a"]),
    "experimental.envoy.filters.http.any[a]": ("when", ["a"]),
}
FIELDS = {**TOLD, **NOT_TOLD}


def _rule(field: str, *, negated: bool) -> dict[str, Any]:
    place, values = FIELDS[field]
    if place == "when":
        return {"when": [{"key": field, "notValues" if negated else "values": values}]}
    name = f"not{field[0].upper()}{field[1:]}" if negated else field
    return {"from" if place == "source" else "to": [{place: {name: values}}]}


def _policy(action: str, rule: dict[str, Any], **annotations: str) -> AccessPolicy:
    metadata = {"name": "p", "namespace": "shop", "annotations": annotations}
    head = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata}
    text = json.dumps({**head, "spec": {"action": action, "rules": [rule]}})
    documents, _ = parse_documents(text.encode(), "p.yaml")
    resource, findings = decode(documents[0])
    assert resource is not None and not findings, findings
    return for_bytes(access_policy(build_snapshot(Settings(), [resource], []), "shop", ()).policy)


@pytest.mark.parametrize("negated", [False, True], ids=["named", "excluded"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_on_plain_bytes(field: str, negated: bool) -> None:
    rule = _rule(field, negated=negated)
    told = field in TOLD
    allowing, denying, auditing = (_policy(action, rule) for action in ("ALLOW", "DENY", "AUDIT"))

    allowed = [rule_holds(one, BYTES) for one in allowing.allow or ()]
    assert allowed == ([not negated] if told else [])
    matched = not negated if told else True
    assert [rule_holds(one, BYTES) for one in denying.deny] == [matched]
    assert guard(rule_set(DENY, denying.deny), BYTES).passes != matched
    assert [rule_holds(one, BYTES) for one in auditing.audit] == [matched]
    assert guard(rule_set(LOG, auditing.audit), BYTES).passes
    tried = _policy("DENY", rule, **{"istio.io/dry-run": "true"})
    assert not tried.deny and [rule_holds(one, BYTES) for one in tried.trial_deny] == [matched]


@pytest.mark.parametrize("field", NOT_TOLD)
def test_only_what_cannot_be_told_is_left_out_of_a_denial(field: str) -> None:
    for port, denied in (("7000", True), ("7001", False)):
        rule = {**_rule(field, negated=False)}
        if "to" in rule:
            rule["to"][0]["operation"]["ports"] = [port]
        else:
            rule["to"] = [{"operation": {"ports": [port]}}]
        (found,) = _policy("DENY", rule).deny
        assert rule_holds(found, BYTES) == denied
        assert not _policy("ALLOW", rule).allow
