"""Who sets up tokens and asks nobody for one is told."""

from __future__ import annotations

import pytest

from lateen.control.coordinator import Coordinator
from lateen.control.store import ResourceStore
from lateen.resources.judge import judge
from lateen.settings import Settings
from lateen.sources.files import FileEvent

TOKENS = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: {namespace}}}
spec: {{jwtRules: [{{issuer: a, jwksUri: "https://a.example/keys"{more}}}]}}
---
"""
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask, namespace: {namespace}}}
spec: {{rules: [{rule}]}}
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: by-claims}
spec:
  hosts: [a.example]
  gateways: [edge]
  http: [{match: [{headers: {"@request.auth.claims.sub": {exact: ann}}}], directResponse: {status: 200}}]
"""
PRINCIPALS = '{from: [{source: {requestPrincipals: ["*"]}}]}'
CLAIMS = '{when: [{key: "request.auth.claims[sub]", values: [ann]}]}'
PATHS = "{to: [{operation: {paths: [/a]}}]}"


@pytest.mark.parametrize(
    ("namespace", "more", "beside", "told"),
    [
        ("default", "", "", True),
        ("default", ", presence: OPTIONAL", "", True),
        ("default", ", presence: REQUIRED", "", False),
        ("default", "", POLICY.format(namespace="default", rule=PRINCIPALS), False),
        ("default", "", POLICY.format(namespace="default", rule=CLAIMS), False),
        ("default", "", POLICY.format(namespace="istio-system", rule=PRINCIPALS), False),
        ("default", "", POLICY.format(namespace="other", rule=PRINCIPALS), True),
        ("default", "", POLICY.format(namespace="default", rule=PATHS), True),
        ("istio-system", "", POLICY.format(namespace="other", rule=PRINCIPALS), False),
        ("default", "", ROUTE, False),
    ],
)
def test_the_mesh_warns_where_nothing_asks_for_a_token(namespace: str, more: str, beside: str, told: bool) -> None:
    store = ResourceStore()
    store.apply(FileEvent("mesh.yaml", (TOKENS.format(namespace=namespace, more=more) + beside).encode()))
    assert not any(finding.is_error for finding in store.findings())
    coordinator = Coordinator(Settings(), lambda *_: None)
    coordinator.update(store.resources(), [])
    found = [(finding.code, finding.severity.value, finding.origin.line) for finding in coordinator.findings]
    assert (("no-token-required", "warning", 5) in found) == told


def test_a_file_by_itself_has_a_note() -> None:
    text = TOKENS.format(namespace="default", more="") + POLICY.format(namespace="default", rule=PRINCIPALS)
    found = [
        (one.code, one.severity.value) for verdict in judge(text.encode(), "mesh.yaml") for one in verdict.findings
    ]
    assert found == [("no-token-required", "info")]
