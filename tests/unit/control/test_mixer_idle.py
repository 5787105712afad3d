"""Rules of Mixer that hold nowhere are told; those that hold somewhere are not."""

from __future__ import annotations

import pytest

from lateen.control.mixer_idle import idle_rules, passed_by_bytes
from lateen.mesh.model import WorkloadPort
from lateen.values.protocol import Protocol
from tests.unit.plan.building import service, snapshot, workload

RULE = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: deny}
spec: {compiledAdapter: denier}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: nothing}
spec: {compiledTemplate: checknothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: some, namespace: %s}
spec: {match: '%s', actions: [{handler: deny.default, instances: [nothing.default]}]}
---
"""


@pytest.mark.parametrize(
    ("namespace", "match", "remedy"),
    [
        ("default", 'destination.labels["app"] == "shop" && request.path == "/a"', ""),
        ("default", 'destination.service.host == "shop.default.svc.cluster.local"', ""),
        ("istio-system", 'request.headers["x"] == "a"', ""),
        ("default", 'context.protocol == "tcp"', ""),
        ("default", 'context.reporter.kind == "outbound"', "leave context.reporter.kind out"),
        ("default", 'destination.labels["app"] == "shopp"', "correct the labels, names and ports in it"),
        ("other", "true", "correct its namespace; one of istio-system is for all"),
    ],
)
def test_a_rule_that_holds_nowhere_is_told(namespace: str, match: str, remedy: str) -> None:
    text = service("shop") + RULE % (namespace, match)
    assert [one.remedy for one in idle_rules(snapshot(text, workload("shop")))] == ([remedy] if remedy else [])
    assert list(idle_rules(snapshot(text))) == [], "offline there are no workloads"


@pytest.mark.parametrize(
    ("name", "protocol", "match", "told"),
    [
        ("any", Protocol.UNSPECIFIED, 'request.path == "/a"', True),
        ("http", Protocol.HTTP, 'request.path == "/a"', False),
        ("tcp", Protocol.TCP, 'context.protocol == "tcp"', False),
        ("any", Protocol.UNSPECIFIED, 'source.namespace == "other"', False),
    ],
)
def test_a_rule_that_bytes_get_by_is_told(name: str, protocol: Protocol, match: str, told: bool) -> None:
    text = service("shop", ports=f"[{{name: {name}, port: 80, targetPort: 8080}}]") + RULE % ("default", match)
    found = snapshot(text, workload("shop", ports=(WorkloadPort(name, 80, 8080, protocol),)))
    assert [one.code for one in passed_by_bytes(found)] == (["undeclared-port"] if told else [])
    assert list(idle_rules(found)) == []
