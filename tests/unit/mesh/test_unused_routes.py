"""TLS and TCP routes of hosts that speak HTTP alone are told."""

from __future__ import annotations

import pytest

from tests.unit.plan.building import service, snapshot

ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [%s]
  gateways: [%s]
  tls: [{match: [{sniHosts: [shop.example]}], route: [{destination: {host: shop}}]}]
  tcp: [{route: [{destination: {host: shop}}]}]
---
"""


@pytest.mark.parametrize(
    ("hosts", "gateways", "fields"),
    [
        ("shop", "mesh", ["spec.tls", "spec.tcp"]),
        ("shop", "mesh, edge", []),
        ("shop", "edge", []),
        ("'shop', 'nobody'", "mesh", []),
    ],
)
def test_routes_that_no_port_can_use_are_told(hosts: str, gateways: str, fields: list[str]) -> None:
    found = snapshot(service("shop") + ROUTES % (hosts, gateways)).findings
    assert [finding.origin.field for finding in found if finding.code == "unused-route"] == fields
