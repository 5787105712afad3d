"""Ports at which a sidecar takes redirected traffic: nothing else listens there, and what wanted to is told."""

import pytest

from lateen.plan.planner import Planner, proxy_of
from tests.unit.plan.building import service, snapshot, workload

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [db.example]
  resolution: DNS
  ports: [{number: 15001, name: http, protocol: HTTP}, {number: 15006, name: any}, {number: 80, name: web}]
"""
SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a}
spec:
  ingress: [{port: {number: 15006, name: tcp, protocol: TCP}, defaultEndpoint: "127.0.0.1:9000"}]
  egress:
  - {hosts: ["*/*"], port: {number: 15001, name: http, protocol: HTTP}, bind: 0.0.0.0}
  - {hosts: ["*/*"]}
"""
PLAIN = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a}
spec: {selector: {matchLabels: {app: a}}, mtls: {mode: DISABLE}, portLevelMtls: {15006: {mode: DISABLE}}}
"""
AT_THE_PROXYS = service("a", ports="[{name: tcp, port: 82, targetPort: 15006}, {name: http, port: 80}]")


@pytest.mark.parametrize(
    ("text", "told"), [(ENTRY, [15001, 15006]), (AT_THE_PROXYS, [15006]), (service("a") + SIDECAR, [15001, 15006])]
)
def test_nothing_else_listens_at_the_proxys_own_ports(text, told):
    who = workload("a")
    planned = Planner(snapshot(f"{text}\n---{PLAIN}", who)).plan(proxy_of(who))
    found = [finding.message for finding in planned.findings if finding.code == "reserved-port"]
    assert [int(message.split()[1]) for message in sorted(found)] == told
    binds = [(one.bind.address, one.bind.port) for one in planned.plan.listeners]
    assert len(binds) == len(set(binds))
    matches = [chain.match for one in planned.plan.listeners for chain in one.chains if one.name == "virtualInbound"]
    assert len(matches) == len(set(matches))
