"""Members that nobody could call are left out, and told where they were meant."""

from __future__ import annotations

import pytest

from tests.unit.plan.building import snapshot

ENTRIES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: %s
  workloadSelector: {labels: {app: shop}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: named}
spec: {address: db.example, labels: {app: shop}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: numbered}
spec: {address: 10.1.0.1, labels: {app: shop}}
---
"""


@pytest.mark.parametrize(
    ("resolution", "members", "codes"),
    [
        ("STATIC", ["10.1.0.1"], ["name-not-looked-up"]),
        ("DNS", ["10.1.0.1", "db.example"], []),
        ("NONE", [], []),
    ],
)
def test_a_name_is_a_member_where_names_are_looked_up(resolution: str, members: list[str], codes: list[str]) -> None:
    found = snapshot(ENTRIES % resolution)
    assert sorted(one.address for one in found.members["shop.example"]) == members
    assert [finding.code for finding in found.findings] == codes
