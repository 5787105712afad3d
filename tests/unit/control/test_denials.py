"""What the access log's words for a denial mean, in terms of resources."""

from __future__ import annotations

from lateen.control.coordinator import Coordinator
from lateen.control.denials import explain_entries
from lateen.settings import Settings
from tests.unit.plan.building import resources, service, workload

ASKED = """
kind: MeshConfig
extensionProviders:
- name: asker
  envoyExtAuthzHttp: {service: b.default.svc.cluster.local, port: 80}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {action: CUSTOM, provider: {name: asker}, rules: [{to: [{operation: {paths: [/asked]}}]}]}
"""


def test_what_was_to_be_asked_on_a_connection_from_before_is_told_so() -> None:
    coordinator = Coordinator(Settings(), lambda *_: None)
    server = workload("a", address="240.241.0.2")
    wanted = resources(service("a") + service("b") + ASKED)
    coordinator.adopt(coordinator.draft(wanted, (server,), {}))
    ended = "rbac_access_denied_matched_policy[istio-ext-authz-asker-ns[default]-policy[p]-rule[0]]"
    entry = {"response_code": 403, "response_code_details": ended, "method": "GET", "path": "/asked", "authority": "a"}
    ((told,),) = explain_entries(coordinator, server.id, [entry])
    assert told.startswith("authorizer asker is to be asked, which connections of before cannot do, so it is denied")
    assert "AuthorizationPolicy default/p spec.rules[0]" in told
