"""What DNS answers inside the mesh."""

from __future__ import annotations

from lateen.plan.name_table import NameTable, name_table as whole_table
from tests.unit.plan.building import service, snapshot, workload

HEADLESS = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
"""
DB = "db.default.svc.cluster.local"
VIRTUAL = "240.240."
EXTERNAL = """
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {type: ExternalName, externalName: %s}
"""


def name_table(*args):
    return whole_table(*args).names


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


def test_every_member_of_a_headless_service_has_a_name_below_it():
    members = [workload("db", version=f"v{n}", address=f"240.241.0.{n}", ready=n != 3) for n in (1, 2, 3)]
    found = name_table(snapshot(HEADLESS, *members))
    assert [found[f"{member.id}.{DB}"] for member in members[:2]] == [("240.241.0.1",), ("240.241.0.2",)]
    assert f"{members[2].id}.{DB}" not in found


def test_an_external_name_is_another_name_here_or_outside():
    text = "---".join((service("db"), EXTERNAL % ("store", DB), EXTERNAL % ("api", "www.example.com.")))
    found = whole_table(snapshot(text, workload("db")))
    assert found.names["store.default.svc.cluster.local"] == found.names[DB]
    assert found.aliases == {"api.default.svc.cluster.local": "www.example.com"}
    assert whole_table(snapshot("")) == NameTable()
