"""Conditions of AuthorizationPolicies, each on a host of its own at one gateway: tokens, headers, places, accounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import (
    ANSWERS,
    gateway,
    gateway_workload,
    request_authentication,
    serves,
    serves_mesh,
    virtual_service,
)
from tests.envoy.harness import free_port
from tests.envoy.tls_support import EdgeAuthority, call
from tests.envoy.token_support import Issuer

RULES = {
    "subject": "from: [{source: {requestPrincipals: [https://a.example/ann]}}]",
    "any-subject": "from: [{source: {requestPrincipals: [https://a.example/*]}}]",
    "tokened": "from: [{source: {requestPrincipals: ['*']}}]",
    "tokenless": "from: [{source: {notRequestPrincipals: ['*']}}]",
    "auth-principal": "when: [{key: request.auth.principal, values: ['*/ann']}]",
    "audience": "when: [{key: request.auth.audiences, values: [shop, bar-*]}]",
    "presenter": "when: [{key: request.auth.presenter, notValues: [robot]}]",
    "nested": "when: [{key: 'request.auth.claims[place][room]', values: ['4*']}]",
    "group": "when: [{key: 'request.auth.claims[groups]', values: [cooks], notValues: [guests]}]",
    "header": "when: [{key: 'request.headers[X-Kind]', values: [good, fine-*], notValues: ['*-not']}]",
    "port": "when: [{key: destination.port, values: ['{port}']}]",
    "address": "when: [{key: destination.ip, values: [127.0.0.0/8]}, {key: source.ip, values: [127.0.0.1]}]",
    "far": "when: [{key: remote.ip, notValues: [127.0.0.0/8]}]",
    "template": "to: [{operation: {paths: ['/a/{*}/c', '/deep/{**}']}}]",
    "account": "from: [{source: {serviceAccounts: [default/friend, other]}}]",
    "domain": "from: [{source: {trustDomains: [cluster.local]}}]",
    "not-domain": "from: [{source: {notTrustDomains: ['cluster*']}}]",
    "by-account": "when: [{key: source.serviceAccount, values: [default/friend]}]",
    "by-namespace": "when: [{key: source.namespace, values: [def*]}, {key: source.trustDomain, values: [cluster.*]}]",
    "by-principal": "when: [{key: source.principal, values: ['*/sa/friend']}]",
    "sni": "when: [{key: connection.sni, values: ['*.example'], notValues: [no.example]}]",
    "filter": "when: [{key: 'experimental.envoy.filters.http.jwt_authn[nothing]', values: [x]}]",
}
UNKNOWN = {
    "any-principal": "from: [{source: {principals: ['*']}}]",
    "any-namespace": "from: [{source: {namespaces: ['*']}}]",
    "any-domain": "from: [{source: {trustDomains: ['*']}}]",
    "any-by-principal": "when: [{key: source.principal, values: ['*']}]",
    "but-principal": "from: [{source: {notPrincipals: ['*/sa/stranger']}}]",
    "but-namespace": "from: [{source: {notNamespaces: [far]}}]",
    "but-account": "from: [{source: {notServiceAccounts: [default/stranger]}}]",
    "but-domain": "from: [{source: {notTrustDomains: [far.example]}}]",
    "but-by-principal": "when: [{key: source.principal, notValues: ['*/sa/stranger']}]",
}
DENIED = {
    "not-my-principal": "from: [{source: {notPrincipals: ['*/sa/friend']}}]",
    "not-my-namespace": "from: [{source: {notNamespaces: [default]}}]",
    "not-my-account": "from: [{source: {notServiceAccounts: [default/friend]}}]",
    "not-my-domain": "from: [{source: {notTrustDomains: ['cluster.*']}}]",
    "not-by-principal": "when: [{key: source.principal, notValues: ['*/sa/friend']}]",
    "not-by-namespace": "when: [{key: source.namespace, notValues: [default]}]",
}
MESH = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: all, namespace: edge}}
spec:
  rules:
{rules}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: denied, namespace: edge}}
spec:
  action: DENY
  rules:
{denied}
"""


def rules(port: int, listed: dict[str, str]) -> str:
    found = ""
    for host, rule in listed.items():
        said = rule.replace("{port}", str(port))
        hosts = f"hosts: [{host}.example]"
        found += f"  - {said}\n"
        if "operation" in said:
            found = found.replace("{operation: {paths", f"{{operation: {{{hosts}, paths")
        else:
            found += f"    to: [{{operation: {{{hosts}}}}}]\n"
    return found


class Edge(NamedTuple):
    proxy: Running
    mutual: int
    port: int
    issuer: Issuer
    authority: EdgeAuthority

    def status(self, rule: str, path: str = "/", headers: dict[str, str] | None = None, **claims: Any) -> int:
        said = dict(headers or {})
        if claims:
            said["authorization"] = f"Bearer {self.issuer.token(**claims)}"
        return self.proxy.get(f"{rule}.example", self.port, path, said, address="127.0.0.1").status

    def as_account(self, rule: str, account: str, name: str = "any.example") -> int:
        context = self.authority.context_of(account)
        return call(self.mutual, name, context, f"{rule}.example").status


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    authority, issuer, port, mutual = EdgeAuthority(), Issuer("https://a.example"), free_port(), free_port()
    text = gateway(serves(port), serves_mesh(mutual), namespace="edge") + virtual_service(ANSWERS, namespace="edge")
    text += request_authentication(f"[{{issuer: https://a.example, jwks: '{issuer.jwks}'}}]", "edge")
    allowed = rules(port, {**RULES, **UNKNOWN, **dict.fromkeys(DENIED, "{}")}).replace("- {}\n    to:", "- to:")
    text += MESH.format(rules=allowed, denied=rules(port, DENIED))
    with sidecar(text, workload=gateway_workload("edge"), authority=authority) as proxy:
        yield Edge(proxy, mutual, port, issuer, authority)


SOURCE = "AuthorizationPolicy rules[].from[].source"
TOKENS = [
    ("subject", {"sub": "ann"}, 200),
    ("subject", {"sub": "ann2"}, 403),
    ("subject", {"sub": "x/ann"}, 403),
    ("any-subject", {"sub": "bob"}, 200),
    ("any-subject", {"sub": "with\nbreak"}, 200),
    ("tokened", {"sub": "bob"}, 200),
    ("tokenless", {"sub": "bob"}, 403),
    ("tokenless", {"sub": "with\nbreak"}, 403),
    ("auth-principal", {"sub": "ann"}, 200),
    ("auth-principal", {"sub": "bob"}, 403),
    ("audience", {"aud": "shop"}, 200),
    ("audience", {"aud": ["x", "bar-1"]}, 200),
    ("audience", {"aud": ["x", "foo"]}, 403),
    ("presenter", {"azp": "robot"}, 403),
    ("presenter", {"azp": "person"}, 200),
    ("nested", {"place": {"room": "42"}}, 200),
    ("nested", {"place": {"room": "24"}}, 403),
    ("nested", {"place": "42"}, 403),
    ("group", {"groups": ["cooks"]}, 200),
    ("group", {"groups": "cooks"}, 200),
    ("group", {"groups": ["cooks", "guests"]}, 403),
    ("group", {"groups": ["eaters"]}, 403),
    ("filter", {"sub": "ann"}, 403),
]


@pytest.mark.covers(
    f"{SOURCE}.requestPrincipals", f"{SOURCE}.notRequestPrincipals", "AuthorizationPolicy rules[].when[].key"
)
@pytest.mark.parametrize(("rule", "claims", "status"), TOKENS)
def test_what_a_token_says(edge: Edge, rule: str, claims: dict[str, Any], status: int) -> None:
    assert edge.status(rule, **claims) == status


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("subject", 403),
        ("any-subject", 403),
        ("tokened", 403),
        ("tokenless", 200),
        ("audience", 403),
        ("presenter", 200),
    ],
)
def test_a_request_without_a_token(edge: Edge, rule: str, status: int) -> None:
    assert edge.status(rule) == status
    claimed = {"x-jwt-payload": "e30", "x-user": "ann"}
    assert edge.status(rule, headers=claimed) == status


@pytest.mark.covers("AuthorizationPolicy rules[].when[].values", "AuthorizationPolicy rules[].when[].notValues")
@pytest.mark.parametrize(
    ("value", "status"), [("good", 200), ("fine-1", 200), ("fine-not", 403), ("bad", 403), (None, 403)]
)
def test_what_a_header_says(edge: Edge, value: str | None, status: int) -> None:
    assert edge.status("header", headers={"x-kind": value} if value else {}) == status


@pytest.mark.parametrize(("rule", "status"), [("port", 200), ("address", 200), ("far", 403)])
def test_where_from_and_where_to(edge: Edge, rule: str, status: int) -> None:
    assert edge.status(rule) == status


@pytest.mark.covers("AuthorizationPolicy rules[].to[].operation.paths")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/a/b/c", 200),
        ("/a/b/c?x=/", 200),
        ("/a/b/x/../c", 200),
        ("/a/c", 403),
        ("/a/b/d/c", 403),
        ("/deep/er/down", 200),
        ("/deepest", 403),
    ],
)
def test_templates_of_paths(edge: Edge, path: str, status: int) -> None:
    assert edge.status("template", path) == status


@pytest.mark.covers(
    f"{SOURCE}.serviceAccounts",
    f"{SOURCE}.trustDomains",
    f"{SOURCE}.notTrustDomains",
)
@pytest.mark.parametrize(
    ("rule", "friend", "stranger"),
    [
        ("account", 200, 403),
        ("domain", 200, 200),
        ("not-domain", 403, 403),
        ("by-account", 200, 403),
        ("by-namespace", 200, 200),
        ("by-principal", 200, 403),
        ("sni", 200, 200),
    ],
)
def test_whose_certificate(edge: Edge, rule: str, friend: int, stranger: int) -> None:
    assert (edge.as_account(rule, "friend"), edge.as_account(rule, "stranger")) == (friend, stranger)
    if rule not in ("not-domain",):
        assert edge.status(rule) == 403


def test_a_server_name_that_is_left_out(edge: Edge) -> None:
    assert edge.as_account("sni", "friend", "no.example") == 403


@pytest.mark.covers(
    f"{SOURCE}.principals",
    f"{SOURCE}.namespaces",
    f"{SOURCE}.notPrincipals",
    f"{SOURCE}.notNamespaces",
    f"{SOURCE}.notServiceAccounts",
)
@pytest.mark.parametrize("rule", [*UNKNOWN, *DENIED])
def test_a_caller_in_plain_text_is_nobody(edge: Edge, rule: str) -> None:
    """Nobody is anybody, and nobody is excluded by name: a rule that denies whoever is not X denies them as well."""
    assert edge.as_account(rule, "friend") == 200
    assert edge.status(rule) == (200 if rule.startswith("but-") else 403)
    excluded = rule.startswith("but-") or rule in DENIED
    by_name = rule.rpartition("-")[2] in ("principal", "account")
    assert edge.as_account(rule, "stranger") == (403 if excluded and by_name else 200)
