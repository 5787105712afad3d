"""Bindings of quotas and APIs to services that the mesh does not have."""

from __future__ import annotations

import pytest

from tests.unit.plan.building import service, snapshot

BINDING = """
apiVersion: config.istio.io/v1alpha2
kind: %s
metadata: {name: bound, namespace: shop}
spec: {services: [{name: %s}, {name: cart}, {service: "*"}, {service: cart.shop.svc.cluster.local}], %s: [{name: x}]}
---
"""


@pytest.mark.parametrize(("kind", "field"), [("QuotaSpecBinding", "quotaSpecs"), ("HTTPAPISpecBinding", "apiSpecs")])
@pytest.mark.parametrize(("name", "fields"), [("cart", []), ("crat", ["spec.services[0]"])])
def test_a_binding_to_a_service_that_is_not_there_is_told(kind: str, field: str, name: str, fields: list[str]) -> None:
    found = snapshot(service("cart", "shop") + BINDING % (kind, name, field)).findings
    told = [finding for finding in found if finding.code == "unknown-service"]
    assert [finding.origin.field for finding in told] == fields
    assert all("crat.shop.svc.cluster.local" in finding.message for finding in told)


def test_a_host_that_is_no_whole_one_is_told_with_what_to_write() -> None:
    found = snapshot(
        BINDING.replace("{name: %s}", "{service: %s}") % ("QuotaSpecBinding", "cart", "quotaSpecs")
    ).findings
    remedies = [finding.remedy for finding in found if finding.code == "unknown-service"]
    assert remedies[0] == "write the whole host, such as cart.shop.svc.cluster.local"
