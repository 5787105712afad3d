"""Ports in policies that mean no port of a workload are told, each at its line; those that do are not."""

import json

import pytest

from lateen.mesh.port_gaps import port_gaps
from tests.unit.plan.building import gateway, service, snapshot, workload

SHOP = service("shop", ports="[{name: http, port: 80, targetPort: 8080}, {name: other, port: 81, targetPort: 81}]")
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8443, name: http, protocol: HTTP}, hosts: ["*"]}]
---
"""


def policy(spec, kind="AuthorizationPolicy", namespace="default"):
    version = "lateen.io/v1alpha1" if kind == "RateLimit" else "security.istio.io/v1"
    metadata = {"name": "p", "namespace": namespace}
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}) + "\n"


def found(*documents, workloads=None):
    made = snapshot(SHOP + "---\n".join(documents), *(workloads or [workload("shop")]))
    return [(one.code, one.origin.field) for one in port_gaps(made)]


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


@pytest.mark.parametrize(
    ("ports", "told"),
    [([8080, 81], []), ([80], ["service-port"]), ([9000, 81], ["unknown-port"])],
)
def test_ports_of_limits_are_those_of_workloads(ports, told):
    limit = {"rules": [{"limit": {"requests": 1, "per": "1s"}, "match": {"ports": ports}}]}
    assert found(policy(limit, "RateLimit")) == [(code, "spec.rules[0].match.ports[0]") for code in told]


def test_ports_of_limits_are_those_of_gateways_too():
    limit = {"rules": [{"limit": {"requests": 1, "per": "1s"}, "match": {"ports": [8443, 9000]}}]}
    wanted = [("unknown-port", "spec.rules[0].match.ports[1]")]
    assert found(GATEWAY, policy(limit, "RateLimit"), workloads=[gateway()]) == wanted
