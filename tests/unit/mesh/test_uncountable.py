"""Metrics of Mixer whose value is no number are told where they would be counted."""

from __future__ import annotations

import pytest

from tests.unit.plan.building import snapshot

METRIC = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: counter}
spec: {compiledAdapter: %s, params: {%s}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: calls}
spec: {compiledTemplate: metric, params: {value: '%s', dimensions: {caller: source.user}}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: count}
spec: {actions: [{handler: counter, instances: [calls]}]}
---
"""


@pytest.mark.parametrize(
    ("adapter", "value", "told"),
    [
        ("prometheus", '"one"', ["its value is STRING, which prometheus cannot count"]),
        ("statsd", "source.ip", ["its value is IP_ADDRESS, which statsd cannot count"]),
        ("prometheus", "1", []),
        ("prometheus", "response.duration", []),
        ("stdio", '"one"', []),
    ],
)
def test_a_metric_that_cannot_be_counted_is_told(adapter: str, value: str, told: list[str]) -> None:
    params = {"prometheus": "metrics: [{name: calls, instanceName: calls}]", "statsd": 'address: "127.0.0.1:1"'}
    found = snapshot(METRIC % (adapter, params.get(adapter, ""), value)).findings
    assert [finding.message for finding in found if finding.code == "not-a-number"] == told
