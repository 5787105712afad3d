"""Metrics and quotas of Mixer that cannot be counted, or never are, are told."""

from __future__ import annotations

import pytest

from tests.unit.mixer_resources import counted
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
    params = {
        "prometheus": "metrics: [{kind: COUNTER, name: calls, instanceName: calls}]",
        "statsd": 'address: "127.0.0.1:1"',
    }
    found = snapshot(METRIC % (adapter, params.get(adapter, ""), value)).findings
    assert [finding.message for finding in found if finding.code == "not-a-number"] == told


@pytest.mark.parametrize(
    ("adapter", "params", "told"),
    [
        (
            "prometheus",
            "metrics: [{kind: COUNTER, name: a, instanceName: calls.metric.default, labelNames: [caller]}]",
            [],
        ),
        (
            "prometheus",
            "metrics: [{kind: COUNTER, name: a, instanceName: calls}, {kind: GAUGE, name: b, instanceName: call}]",
            ["metrics[1]"],
        ),
        ("prometheus", "metrics: [{kind: COUNTER, name: a, instanceName: calls.other}]", ["metrics", "metrics[0]"]),
        ("prometheus", "metrics: []", ["metrics"]),
        (
            "opentelemetry",
            "metrics: [{kind: COUNTER, name: a, instanceName: calls, labelNames: [caller, path]}]",
            ["metrics[0].labelNames[1]"],
        ),
        ("statsd", "metrics: {calls.instance.default: {}, calls.other: {}}", ["metrics.calls.other"]),
        ("dogstatsd", "metrics: {}", ["metrics"]),
        ("stdio", "", []),
    ],
)
def test_metrics_that_nothing_is_counted_for_are_told(adapter: str, params: str, told: list[str]) -> None:
    found = snapshot(METRIC % (adapter, params, "1")).findings
    codes = ("uncounted", "unknown-dimension")
    assert sorted(one.origin.field for one in found if one.code in codes) == [f"spec.params.{field}" for field in told]


def test_a_name_that_two_metrics_have_is_told() -> None:
    metrics = "metrics: [{kind: COUNTER, name: a, instanceName: calls}, {kind: GAUGE, name: a, instanceName: calls}]"
    found = snapshot(METRIC % ("prometheus", metrics, "1")).findings
    assert [one.origin.field for one in found if one.code == "duplicate-metric"] == ["spec.params.metrics[1].name"]
    assert "duplicate-metric" not in {one.code for one in snapshot(METRIC % ("opentelemetry", metrics, "1")).findings}


@pytest.mark.parametrize(
    ("dimension", "more", "charge", "told"),
    [
        ("caller", "", 9, []),
        ("path", "", 1, [("unknown-dimension", "spec.quotas[0].overrides[0].dimensions.path")]),
        ("caller", ", {name: call, maxAmount: 1}", 1, [("uncounted", "spec.quotas[1]")]),
        ("caller", ", {name: calls.quota.default, maxAmount: 1}", 1, [("duplicate-limit", "spec.quotas[1]")]),
        ("caller", "", 10, [("never-granted", "spec.rules[0].quotas[0].quota")]),
    ],
)
def test_limits_that_do_not_hold_are_told(dimension: str, more: str, charge: int, told: list[tuple[str, str]]) -> None:
    override = f"{{dimensions: {{{dimension}: a}}, maxAmount: 9}}"
    limit = f"{{name: calls, maxAmount: 5, validDuration: 1s, overrides: [{override}]}}"
    charged = f"{{quotas: [{{quota: calls, charge: {charge}}}]}}"
    found = snapshot(counted(f"{limit}{more}", "{caller: source.user}", charged)).findings
    assert [(one.code, one.origin.field) for one in found] == told
