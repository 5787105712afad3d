"""Policies whose labels no workload has are told, with the labels that are near."""

from __future__ import annotations

import pytest

from lateen.mesh.selected import nobody_selected
from tests.unit.plan.building import snapshot, workload

SELECTING = """
apiVersion: %s
kind: %s
metadata: {name: some, namespace: %s}
spec: {selector: {matchLabels: {app: %s}}%s}
---
"""
KINDS = [
    ("security.istio.io/v1", "AuthorizationPolicy", ""),
    ("security.istio.io/v1", "PeerAuthentication", ""),
    ("security.istio.io/v1", "RequestAuthentication", ""),
    ("telemetry.istio.io/v1", "Telemetry", ""),
    ("lateen.io/v1alpha1", "RateLimit", ", rules: [{limit: {requests: 1, per: 1s}}]"),
]


def told(text: str, *running: object) -> list[tuple[str, str]]:
    return [(finding.code, finding.remedy) for finding in nobody_selected(snapshot(text, *running))]


@pytest.mark.parametrize(("version", "kind", "more"), KINDS)
def test_a_selector_that_means_nobody_is_told(version: str, kind: str, more: str) -> None:
    there = workload("ratings")
    assert told(SELECTING % (version, kind, "default", "ratings", more), there) == []
    assert told(SELECTING % (version, kind, "istio-system", "ratings", more), there) == []
    wrong = SELECTING % (version, kind, "default", "rating", more)
    assert told(wrong, there) == [("selects-nobody", "did you mean app: ratings?")]
    assert told(wrong) == [], "offline there are no workloads"
    elsewhere = SELECTING % (version, kind, "other", "ratings", more)
    remedy = "correct the labels, or the namespace, which is other"
    assert told(elsewhere, there) == [("selects-nobody", remedy)]
