"""Telemetry: what Envoy takes and that yet has no effect is told, with what is near."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lateen.resources.judge import judge


def errors(spec: Any) -> list[tuple[str, str]]:
    document = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "a"}, "spec": spec}
    (verdict,) = judge(yaml.safe_dump(document, sort_keys=False).encode(), "file.yaml")
    return [(finding.origin.field, finding.remedy) for finding in verdict.findings if finding.is_error]


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


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("bad name", "write another name, such as bad_name"),
        ("1a", "write another name, such as _1a"),
        ("", "write another name"),
        ("__name__", "write another name"),
        ("pod", "write another name"),
        ("le", "write another name"),
    ],
)
def test_labels_that_would_have_the_whole_page_refused_are_refused(name: str, remedy: str) -> None:
    field = f"spec.metrics[0].overrides[0].tagOverrides.{name}"
    said = {"metrics": [{"overrides": [{"tagOverrides": {name: {"value": "request.method"}}}]}]}
    assert errors(said) == [(field, remedy)]
    assert errors({"metrics": [{"overrides": [{"tagOverrides": {name: {"operation": "REMOVE"}}}]}]}) == []


@pytest.mark.parametrize("name", ["x\n", "x y", "", ":"])
def test_a_tag_of_a_header_that_there_cannot_be_is_refused(name: str) -> None:
    said = {"x": {"header": {"name": name}}}
    field = "customTags.x.header" if not name else "customTags.x.header.name"
    ((place, _),) = errors({"tracing": [{"customTags": said}]})
    assert place == f"spec.tracing[0].{field}"
    text = yaml.safe_dump({"kind": "MeshConfig", "defaultConfig": {"tracing": {"customTags": said}}})
    (verdict,) = judge(text.encode(), "file.yaml")
    assert [finding.origin.field for finding in verdict.findings] == [f"defaultConfig.tracing.{field}"]


def test_a_header_that_is_never_logged_is_told() -> None:
    log = {"service": "a.example", "port": 80, "additionalResponseHeadersToLog": ["x-a", "x y"]}
    document = {"kind": "MeshConfig", "extensionProviders": [{"name": "a", "envoyHttpAls": log}]}
    (verdict,) = judge(yaml.safe_dump(document).encode(), "file.yaml")
    (finding,) = verdict.findings
    assert not finding.is_error
    assert finding.origin.field == "extensionProviders[0].envoyHttpAls.additionalResponseHeadersToLog[1]"
