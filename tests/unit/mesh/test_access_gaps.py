"""Rules that let in more than they seem to are told, each at its line."""

import json

import pytest

from lateen.mesh.access_gaps import access_gaps
from tests.unit.plan.building import gateway, service, snapshot, workload

SHOP = service("shop")


def policy(spec, kind="AuthorizationPolicy"):
    metadata = {"name": "p"}
    return json.dumps({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}) + "\n"


def found(*documents, workloads=None):
    made = snapshot(SHOP + "---\n".join(documents), *(workloads or [workload("shop")]))
    return [(one.code, one.origin.field) for one in access_gaps(made)]


EXCLUDING = {"rules": [{"from": [{"source": {"namespaces": ["a"]}}, {"source": {"notNamespaces": ["far"]}}]}]}


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE", "STRICT"])
def test_callers_without_identity_are_told_of_where_there_can_be_any(mode):
    peers = policy({"mtls": {"mode": mode}}, "PeerAuthentication")
    wanted = [] if mode == "STRICT" else [("unknown-callers", "spec.rules[0].from[1].source")]
    assert found(policy(EXCLUDING), peers) == wanted
    assert found(policy({**EXCLUDING, "action": "DENY"}), peers) == []


def test_a_gateway_has_callers_without_identity():
    assert found(policy(EXCLUDING), workloads=[gateway()]) == [("unknown-callers", "spec.rules[0].from[1].source")]
