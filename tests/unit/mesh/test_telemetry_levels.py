"""What Telemetry resources of several levels come to, for the logs, metrics and traces of one workload."""

from __future__ import annotations

import pytest

from lateen.mesh.telemetry_policy import CLIENT, SERVER, log_policies, metric_changes, metric_providers
from lateen.resources.support import check_support
from tests.unit.plan.building import resources, service, snapshot

MESH = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
defaultProviders: {accessLogging: [usual]}
extensionProviders:
- {name: usual, envoyFileAccessLog: {path: /dev/null}}
- {name: other, envoyFileAccessLog: {path: /dev/null}}
"""
HEAD = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
ALL, ERRORS = "", "response.code >= 400"


def level(entries: str, name: str = "namespace") -> str:
    """A Telemetry of one level, which logs so."""
    metadata = {
        "mesh": "{name: mesh, namespace: istio-system}",
        "namespace": "{name: namespace}",
        "workload": "{name: workload}",
    }[name]
    selector = "selector: {matchLabels: {app: a}}, " if name == "workload" else ""
    return f"{HEAD}metadata: {metadata}\nspec: {{{selector}accessLogging: [{entries}]}}\n"


FILTER = f'filter: {{expression: "{ERRORS}"}}'
USUAL, OTHER = "providers: [{name: usual}]", "providers: [{name: other}]"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ("", {"usual": ALL}),
        (level(""), {"usual": ALL}),
        (level("{disabled: true}"), {}),
        (level("{disabled: true}", "mesh") + level("{}"), {"usual": ALL}),
        (level("{disabled: true}", "mesh") + level("{}", "workload"), {"usual": ALL}),
        (level(f"{{{FILTER}}}"), {"usual": ERRORS}),
        (level(f"{{{OTHER}}}"), {"other": ALL}),
        (level(f"{{{USUAL}, {FILTER}}}, {{{OTHER}}}"), {"usual": ERRORS, "other": ALL}),
        (level(f"{{{USUAL}, {FILTER}}}", "mesh") + level("{disabled: false}"), {"usual": ERRORS}),
        (level(f"{{{USUAL}, {FILTER}}}", "mesh") + level(f"{{{USUAL}}}"), {"usual": ALL}),
        (level(f"{{{USUAL}}}, {{{OTHER}}}", "mesh") + level(f"{{{OTHER}, disabled: true}}"), {}),
        (level(f"{{{USUAL}}}, {{{OTHER}}}", "mesh") + level(f"{{{FILTER}}}"), {"usual": ERRORS, "other": ERRORS}),
        (level(f"{{{OTHER}}}", "mesh") + level("{disabled: true}") + level("{}", "workload"), {"other": ALL}),
        (level(f"{{{USUAL}}}, {{{OTHER}, match: {{mode: SERVER}}}}"), {"usual": ALL}),
        (level(f"{{{OTHER}, match: {{mode: SERVER}}}}"), {"usual": ALL}),
        (level(f"{{{OTHER}}}, {{disabled: true, match: {{mode: CLIENT}}}}"), {}),
    ],
)
def test_logs_of_a_client(levels: str, expected: dict[str, str]) -> None:
    assert _logs(levels, CLIENT) == expected


def test_sides_are_told_apart() -> None:
    levels = level(f"{{{OTHER}, match: {{mode: SERVER}}}}, {{disabled: true, match: {{mode: CLIENT}}}}")
    assert (_logs(levels, CLIENT), _logs(levels, SERVER)) == ({}, {"other": ALL})


def test_what_selects_in_the_root_namespace_holds_where_nothing_nearer_selects() -> None:
    chosen = level(f"{{{OTHER}}}", "workload")
    wide = chosen.replace("{name: workload}", "{name: wide, namespace: istio-system}")
    assert _logs(wide + level("{disabled: true}"), CLIENT) == {"other": ALL}
    assert _logs(wide.replace("app: a", "app: b"), CLIENT) == {"usual": ALL}
    assert _logs(wide + level(f"{{{FILTER}}}", "workload"), CLIENT) == {"usual": ERRORS}


def test_the_oldest_of_a_level_holds() -> None:
    older = level(f"{{{OTHER}}}").replace("name: namespace", 'name: z, creationTimestamp: "2020-01-01T00:00:00Z"')
    newer = level("{disabled: true}").replace("name: namespace", 'name: a, creationTimestamp: "2021-01-01T00:00:00Z"')
    assert _logs(newer + older, CLIENT) == {"other": ALL}


def _logs(levels: str, mode: str) -> dict[str, str]:
    known = snapshot(MESH + levels)
    return {log.provider: log.expression for log in log_policies(known, "default", (("app", "a"),), mode)}


METRICS = HEAD + "metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{metrics: [{entries}]}}\n"
SMALL = "overrides: [{match: {metric: REQUEST_SIZE}, disabled: true}]"
OTEL = service("otel", ports="[{name: grpc, port: 80}]")
OTLP = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
extensionProviders: [{name: otlp, opentelemetry: {service: otel.default.svc.cluster.local, port: 80}}]
"""


def _metrics(entries: str, namespace: str = "default") -> str:
    return METRICS.format(name=namespace, namespace=namespace, entries=entries)


@pytest.mark.parametrize(
    ("levels", "told", "smaller"),
    [
        ("", ("prometheus",), False),
        (_metrics(f"{{{SMALL}}}"), ("prometheus",), True),
        (_metrics("{providers: [{name: otlp}, {name: prometheus}]}"), ("otlp", "prometheus"), False),
        (
            _metrics(f"{{providers: [{{name: prometheus}}], {SMALL}}}", "istio-system")
            + _metrics("{providers: [{name: otlp}]}"),
            ("otlp",),
            False,
        ),
        (_metrics("{providers: [{name: otlp}]}", "istio-system") + _metrics(f"{{{SMALL}}}"), ("otlp",), True),
    ],
)
def test_who_is_told_of_metrics(levels: str, told: tuple[str, ...], smaller: bool) -> None:
    known = snapshot(OTEL + OTLP + levels)
    assert metric_providers(known, "default", ()) == told
    assert bool(metric_changes(known, "default", (), CLIENT)) is smaller
    assert not known.findings


def test_overrides_that_are_meant_for_one_provider_hold_for_all_and_that_is_told() -> None:
    levels = _metrics(f"{{providers: [{{name: prometheus}}], {SMALL}}}, {{providers: [{{name: otlp}}]}}")
    (finding,) = snapshot(OTEL + OTLP + levels).findings
    assert (finding.code, finding.origin.field) == ("overrides-for-all", "spec.metrics[0].overrides")


@pytest.mark.parametrize("name", ["request_bytes", "istio_request_bytes"])
def test_a_metric_may_be_called_by_its_name(name: str) -> None:
    known = snapshot(_metrics(f"{{overrides: [{{match: {{customMetric: {name}}}, disabled: true}}]}}"))
    (change,) = metric_changes(known, "default", (), CLIENT)
    assert (change.metric, change.disabled) == ("REQUEST_SIZE", True)


def test_a_metric_of_another_name_is_refused() -> None:
    (resource,) = resources(_metrics("{overrides: [{match: {customMetric: orders_total}}]}"))
    (finding,) = check_support(resource)
    assert finding.origin.field == "spec.metrics[0].overrides[0].match.customMetric"
    assert "requests_total" in finding.remedy
