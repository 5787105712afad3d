"""What DNS answers inside the mesh."""

from __future__ import annotations

from lateen.plan.client_view import name_table
from tests.unit.plan.building import service, snapshot, workload

HEADLESS = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
"""
DB = "db.default.svc.cluster.local"
VIRTUAL = "240.240."


def test_a_service_is_its_virtual_address():
    found = name_table(snapshot(service("db"), workload("db")))
    assert found[DB][0].startswith(VIRTUAL) and len(found[DB]) == 1


def test_a_headless_service_is_its_ready_members():
    members = [workload("db", version=f"v{n}", address=f"240.241.0.{n}", ready=n != 3) for n in (1, 2, 3)]
    assert name_table(snapshot(HEADLESS, *members))[DB] == ("240.241.0.1", "240.241.0.2")


def test_without_addresses_of_its_members_a_headless_service_is_its_virtual_address():
    for members in ([], [workload("db", network="loopback", prefix=7)]):
        (address,) = name_table(snapshot(HEADLESS, *members))[DB]
        assert address.startswith(VIRTUAL)
