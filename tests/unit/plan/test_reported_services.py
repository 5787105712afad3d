"""For which service a workload reports what arrives at one of its ports."""

from __future__ import annotations

from lateen.mesh.model import WorkloadPort
from lateen.values.protocol import Protocol
from tests.unit.plan.building import plan, service, workload

SERVICES = service("shop", ports="[{name: http, port: 80, targetPort: 8080}]") + service(
    "shop", ports="[{name: tcp, port: 9000}]"
).replace("metadata: {name: shop", "metadata: {name: admin")


def test_each_port_is_reported_for_its_own_service() -> None:
    own = workload("shop", ports=(WorkloadPort("other", 70, 7070, Protocol.TCP),))
    planned = plan(SERVICES, own)
    found = {
        (chain.match.destination_port, dict(chain.action.telemetry.tags).get("service_name"))
        for listener in planned.listeners
        if listener.direction == "inbound"
        for chain in listener.chains
        if chain.action.telemetry is not None
    }
    assert found == {(8080, "shop"), (9000, "admin"), (7070, None), (None, "InboundPassthroughCluster")}
