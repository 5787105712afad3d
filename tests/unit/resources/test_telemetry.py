"""Telemetry: what Envoy takes and that yet has no effect is told, with what is near."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lateen.resources.judge import judge


def warnings(spec: Any) -> list[tuple[str, str]]:
    document = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "a"}, "spec": spec}
    (verdict,) = judge(yaml.safe_dump(document, sort_keys=False).encode(), "file.yaml")
    assert not any(finding.is_error for finding in verdict.findings)
    return [(finding.origin.field, finding.remedy) for finding in verdict.findings]


def override(value: str) -> dict[str, Any]:
    return {"metrics": [{"overrides": [{"tagOverrides": {"m": {"value": value}}}]}]}


@pytest.mark.parametrize(
    ("spec", "field", "remedy"),
    [
        (
            {"accessLogging": [{"filter": {"expression": "response.cod >= 400"}}]},
            "spec.accessLogging[0].filter.expression",
            "did you mean response.code?",
        ),
        (
            override("request.methd"),
            "spec.metrics[0].overrides[0].tagOverrides.m.value",
            "did you mean request.method?",
        ),
        (
            override("source.workload"),
            "spec.metrics[0].overrides[0].tagOverrides.m.value",
            "there are source.address, source.port",
        ),
        (
            {"tracing": [{"customTags": {"a": {}}}]},
            "spec.tracing[0].customTags.a",
            "give literal, environment, header or formatter",
        ),
    ],
)
def test_what_has_no_effect_is_told(spec: dict[str, Any], field: str, remedy: str) -> None:
    assert warnings(spec) == [(field, remedy)]


def test_what_has_one_is_not() -> None:
    assert warnings(override("request.method")) == []
    assert warnings({"accessLogging": [{"filter": {"expression": "response.code >= 400"}}]}) == []
