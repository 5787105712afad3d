"""DestinationRules whose TLS a server does not take are told, each at its line; what works is not."""

import pytest

from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload, WorkloadPort
from lateen.mesh.mtls_conflicts import mtls_conflicts
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.settings import Settings
from lateen.values.protocol import Protocol

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: more, port: 81, targetPort: 8081}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  mtls: {mode: %s}
  portLevelMtls: {8081: {mode: %s}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec: {host: echo, %s}
"""
WORKLOAD = Workload(
    id="echo-0",
    namespace="default",
    name="echo",
    labels=(("app", "echo"), ("version", "v1")),
    service_account="echo",
    address="10.0.0.1",
    ports=(WorkloadPort("http", 80, 8080, Protocol.HTTP), WorkloadPort("more", 81, 8081, Protocol.HTTP)),
    ready=True,
)


def found(mode, other, rule, host="echo", more="", **settings):
    text = (SERVICE % (mode, other, rule)).replace("host: echo", f"host: '{host}'") + more
    documents, problems = parse_documents(text.encode(), "mesh.yaml")
    assert not problems
    resources = [decode(document)[0] for document in documents]
    snapshot = build_snapshot(Settings(**settings), [one for one in resources if one is not None], [WORKLOAD])
    return [(one.code, one.origin.field) for one in mtls_conflicts(snapshot)]


TLS = "trafficPolicy: {tls: {mode: %s}}"
PORT = "trafficPolicy: {portLevelSettings: [{port: {number: %s}, tls: {mode: %s}}]}"
TLS_BUT = "trafficPolicy: {tls: {mode: %s}, portLevelSettings: [{port: {number: %s}, %s}]}"
SUBSET = "subsets: [{name: v, labels: {version: %s}, trafficPolicy: {tls: {mode: DISABLE}}}]"


@pytest.mark.parametrize(
    ("mode", "other", "rule", "field"),
    [
        ("STRICT", "STRICT", TLS % "DISABLE", "spec.trafficPolicy.tls.mode"),
        ("STRICT", "STRICT", TLS % "SIMPLE", "spec.trafficPolicy.tls.mode"),
        ("DISABLE", "DISABLE", TLS % "ISTIO_MUTUAL", "spec.trafficPolicy.tls.mode"),
        ("STRICT", "PERMISSIVE", PORT % (80, "DISABLE"), "spec.trafficPolicy.portLevelSettings[0].tls.mode"),
        ("STRICT", "STRICT", SUBSET % "v1", "spec.subsets[0].trafficPolicy.tls.mode"),
    ],
)
def test_what_cannot_work_is_told(mode, other, rule, field):
    assert found(mode, other, rule) == [("mtls-conflict", field)]


@pytest.mark.parametrize(
    ("mode", "other", "rule"),
    [
        ("STRICT", "STRICT", TLS % "ISTIO_MUTUAL"),
        ("PERMISSIVE", "PERMISSIVE", TLS % "DISABLE"),
        ("PERMISSIVE", "PERMISSIVE", TLS % "ISTIO_MUTUAL"),
        ("DISABLE", "DISABLE", TLS % "DISABLE"),
        ("STRICT", "PERMISSIVE", PORT % (81, "DISABLE")),
        ("STRICT", "STRICT", SUBSET % "v2"),
        ("STRICT", "STRICT", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}"),
        ("STRICT", "PERMISSIVE", TLS_BUT % ("DISABLE", 80, "tls: {mode: ISTIO_MUTUAL}")),
        ("STRICT", "PERMISSIVE", TLS_BUT % ("DISABLE", 80, "connectionPool: {tcp: {maxConnections: 1}}")),
    ],
)
def test_what_works_is_not(mode, other, rule):
    assert found(mode, other, rule) == []


NARROWER = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: narrower}
spec: {host: "%s"}
"""


@pytest.mark.parametrize(
    ("host", "narrower", "told"),
    [
        ("*.local", "", True),
        ("*", "", True),
        ("*.default.svc.cluster.local", "*.svc.cluster.local", True),
        ("*.elsewhere.svc.cluster.local", "", False),
        ("*.local", "echo", False),
        ("*.local", "*.default.svc.cluster.local", False),
    ],
)
def test_a_rule_for_many_hosts_is_told_of_those_that_are_its_own(host, narrower, told):
    more = NARROWER % narrower if narrower else ""
    wanted = [("mtls-conflict", "spec.trafficPolicy.tls.mode")] if told else []
    assert found("STRICT", "STRICT", TLS % "DISABLE", host, more) == wanted


@pytest.mark.parametrize(
    ("mode", "other", "rule", "fields"),
    [
        ("STRICT", "STRICT", "trafficPolicy: {}", ["spec.mtls.mode", "spec.portLevelMtls.8081.mode"]),
        ("PERMISSIVE", "STRICT", "trafficPolicy: {}", ["spec.portLevelMtls.8081.mode"]),
        ("STRICT", "PERMISSIVE", PORT % (81, "ISTIO_MUTUAL"), ["spec.mtls.mode"]),
        ("STRICT", "STRICT", TLS % "ISTIO_MUTUAL", []),
        ("STRICT", "PERMISSIVE", PORT % (80, "ISTIO_MUTUAL"), []),
        ("PERMISSIVE", "PERMISSIVE", "trafficPolicy: {}", []),
    ],
)
def test_servers_that_nobody_speaks_mesh_tls_to_are_told(mode, other, rule, fields):
    assert found(mode, other, rule, auto_mtls=False) == [("mtls-conflict", field) for field in fields]
    assert found(mode, other, rule) == []
