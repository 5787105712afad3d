"""What a workload accepts: PeerAuthentication and AuthorizationPolicy, as the inbound chains carry them."""

import pytest

from lateen.plan.access.rules import access_policy
from lateen.plan.tls import ServerTls
from tests.unit.plan.building import plan, service, snapshot, workload


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


def test_where_one_authorizer_is_the_most_rules_of_several_deny():
    provider = "{name: NAME, envoyExtAuthzGrpc: {service: reviews.default.svc.cluster.local, port: 80}}"
    config = (
        f"kind: MeshConfig\nextensionProviders: [{', '.join(provider.replace('NAME', name) for name in 'ab')}]\n---\n"
    )
    asking = [f"{{action: CUSTOM, provider: {{name: {name}}}, rules: [{{}}]}}" for name in "ab"]
    text = config + service("reviews") + "".join(policy(f"p{index}", spec) for index, spec in enumerate(asking))

    def found(**settings):
        labels = (("app", "reviews"),)
        return access_policy(snapshot(text, workload("reviews"), **settings), "default", labels)

    assert [check.authorizer.name for check in found().policy.external] == ["a", "b"]
    alone = found(several_authorizers=False)
    assert not alone.policy.external
    names = [f"istio-ext-authz-{name}-ns[default]-policy[p{index}]-rule[0]" for index, name in enumerate("ab")]
    assert [rule.name for rule in alone.policy.deny] == [f"{name}-deny-due-to-bad-CUSTOM-action" for name in names]
    assert [finding.code for finding in alone.findings] == ["several-providers"] * 2
