"""Rules that hold for less than they seem to are told, each at its line; those that hold are not."""

import json

import pytest

from lateen.mesh.access_gaps import access_gaps
from tests.unit.plan.building import gateway, service, snapshot, workload

SHOP = service("shop", ports="[{name: http, port: 80, targetPort: 8080}, {name: other, port: 81, targetPort: 81}]")


def policy(spec, kind="AuthorizationPolicy", namespace="default"):
    metadata = {"name": "p", "namespace": namespace}
    return json.dumps({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}) + "\n"


def found(*documents, workloads=None):
    made = snapshot(SHOP + "---\n".join(documents), *(workloads or [workload("shop")]))
    return [(one.code, one.origin.field) for one in access_gaps(made)]


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ({"to": [{"operation": {"ports": ["80"]}}]}, ["to[0].operation.ports"]),
        ({"to": [{"operation": {"notPorts": ["80", "9"]}}]}, ["to[0].operation.notPorts"]),
        ({"when": [{"key": "destination.port", "values": ["80"]}]}, ["when[0].values"]),
        ({"when": [{"key": "destination.port", "notValues": ["80"]}]}, ["when[0].notValues"]),
        ({"to": [{"operation": {"ports": ["8080", "81", "9000"]}}]}, []),
    ],
)
def test_ports_of_services_are_no_ports_of_workloads(rule, fields):
    said = policy({"action": "DENY", "rules": [rule]})
    assert found(said) == [("service-port", f"spec.rules[0].{field}") for field in fields]
    assert found(policy({"selector": {"matchLabels": {"app": "none"}}, "rules": [rule]})) == []
    assert found(policy({"rules": [rule]}, namespace="elsewhere")) == []
    assert len(found(policy({"rules": [rule]}, namespace="istio-system"))) == len(fields)


def test_ports_of_peer_authentications_are_the_workloads_too():
    spec = {"selector": {"matchLabels": {"app": "shop"}}, "portLevelMtls": {"80": {"mode": "STRICT"}, "8080": {}}}
    assert found(policy(spec, "PeerAuthentication")) == [("service-port", "spec.portLevelMtls.80")]


EXCLUDING = {"rules": [{"from": [{"source": {"namespaces": ["a"]}}, {"source": {"notNamespaces": ["far"]}}]}]}


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE", "STRICT"])
def test_callers_without_identity_are_told_of_where_there_can_be_any(mode):
    peers = policy({"mtls": {"mode": mode}}, "PeerAuthentication")
    wanted = [] if mode == "STRICT" else [("unknown-callers", "spec.rules[0].from[1].source")]
    assert found(policy(EXCLUDING), peers) == wanted
    assert found(policy({**EXCLUDING, "action": "DENY"}), peers) == []


def test_a_gateway_has_callers_without_identity():
    assert found(policy(EXCLUDING), workloads=[gateway()]) == [("unknown-callers", "spec.rules[0].from[1].source")]
