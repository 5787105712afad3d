"""What a workload accepts: PeerAuthentication and AuthorizationPolicy, as the inbound chains carry them."""

import pytest

from lateen.plan.tls import ServerTls
from tests.unit.plan.building import plan, service, workload


def peer(name, namespace, mode, selector="", ports=""):
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  mtls: {{mode: {mode}}}
  {selector}
  {ports}
---
"""


OWN = "selector: {matchLabels: {app: reviews}}"


def modes(text, port=8080):
    """What the chains of a port take: tls, plain or both."""
    planned = plan(service("reviews") + text, workload("reviews"))
    inbound = next(listener for listener in planned.listeners if listener.name == "virtualInbound")
    chains = [chain for chain in inbound.chains if chain.match.destination_port == port]
    return {"tls" if isinstance(chain.tls, ServerTls) else "plain" for chain in chains}


def test_without_a_policy_the_mesh_is_strict():
    assert modes("") == {"tls"}


def test_the_narrowest_policy_holds():
    mesh = peer("default", "istio-system", "DISABLE")
    namespace = peer("default", "default", "PERMISSIVE")
    own = peer("own", "default", "STRICT", OWN)
    assert modes(mesh) == {"plain"}
    assert modes(mesh + namespace) == {"tls", "plain"}
    assert modes(mesh + namespace + own) == {"tls"}


def test_unset_asks_the_next_level():
    assert modes(peer("default", "istio-system", "DISABLE") + peer("default", "default", "UNSET")) == {"plain"}


def test_ports_are_the_workloads_own():
    text = peer("own", "default", "STRICT", OWN, "portLevelMtls: {8080: {mode: DISABLE}}")
    assert modes(text) == {"plain"}
    text = peer("own", "default", "STRICT", OWN, "portLevelMtls: {80: {mode: DISABLE}}")
    assert modes(text) == {"tls"}


def test_a_selector_in_the_root_namespace_is_ignored():
    assert modes(peer("own", "istio-system", "DISABLE", OWN)) == {"tls"}


def access(text):
    planned = plan(service("reviews") + text, workload("reviews"))
    inbound = next(listener for listener in planned.listeners if listener.name == "virtualInbound")
    return next(chain for chain in inbound.chains if chain.match.destination_port == 8080).action.access


def policy(name, spec, namespace="default"):
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
---
"""


def test_without_policies_everything_is_allowed():
    assert access("").is_open


def test_an_empty_policy_denies_everything():
    assert access(policy("deny-all", "{}")).allow == ()


@pytest.mark.parametrize("namespace", ["default", "istio-system"])
def test_policies_of_the_own_and_the_root_namespace_hold(namespace):
    assert len(access(policy("a", "{rules: [{}]}", namespace)).allow) == 1


def test_policies_of_other_namespaces_and_workloads_do_not():
    assert access(policy("a", "{rules: [{}]}", "elsewhere")).is_open
    assert access(policy("a", "{selector: {matchLabels: {app: other}}, rules: [{}]}")).is_open


def test_deny_rules_stand_beside_allow_rules():
    found = access(
        policy("a", "{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}") + policy("b", "{rules: [{}]}")
    )
    assert [rule.name for rule in found.deny] == ["ns[default]-policy[a]-rule[0]"]
    assert [rule.name for rule in found.allow] == ["ns[default]-policy[b]-rule[0]"]
