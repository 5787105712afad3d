"""The catalogue of metrics, and what is made of it: the reference page, dashboards for Grafana, alert rules.

Comes in: the metrics that the proxies are told to make. Goes out: texts of files; ``python -m docs.generate`` writes
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from lateen.envoy.metrics import BYTES, CLOSED, MESSAGES, OPENED, REQUESTS

MEANINGS = {
    "REQUEST_COUNT": "requests that ended",
    "REQUEST_DURATION": "time from a request's first byte to the last one of its answer",
    "REQUEST_SIZE": "bytes of a request as they came over the wire, headers too",
    "RESPONSE_SIZE": "bytes of an answer as they went over the wire, headers too",
    "GRPC_REQUEST_MESSAGES": "messages of gRPC from the client to the server",
    "GRPC_RESPONSE_MESSAGES": "messages of gRPC from the server to the client",
    "TCP_OPENED_CONNECTIONS": "connections that reached a server",
    "TCP_CLOSED_CONNECTIONS": "connections that ended",
    "TCP_SENT_BYTES": "bytes from the server to the client",
    "TCP_RECEIVED_BYTES": "bytes from the client to the server",
}
BY_SERVICE = "destination_service"
AT_SERVER = '{reporter="destination"}'
WINDOW = "5m"
LOST_REPORTS = (
    "mixer_reports_lost_total",
    "mixer_reports_failed_total",
    "mixer_handler_lost_total",
    "envoy_access_logs_grpc_access_log_logs_dropped",
)


class Panel(NamedTuple):
    """One chart: ``queries`` maps legends to PromQL."""

    title: str
    unit: str
    queries: dict[str, str]


class Alert(NamedTuple):
    """One rule for one of the golden signals: latency, traffic, errors, saturation."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str


def _legend(by: str) -> str:
    return " to ".join(f"{{{{{label}}}}}" for label in by.split(", "))


def _per_second(metric: str, by: str, selector: str = AT_SERVER) -> str:
    return f"sum by ({by}) (rate({metric}{selector}[{WINDOW}]))"


def _quantile(share: float, metric: str, by: str, selector: str = AT_SERVER) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{selector}[{WINDOW}])))"


def _error_share(by: str, reporter: str = "destination") -> str:
    failed = f'{{reporter="{reporter}", response_code=~"5..|0"}}'
    every = f'{{reporter="{reporter}"}}'
    count = "istio_requests_total"
    return f"{_per_second(count, by, failed)} / {_per_second(count, by, every)}"


def _durations(by: str, selector: str = AT_SERVER) -> dict[str, str]:
    name = "istio_request_duration_milliseconds"
    return {f"p{share * 100:g} {_legend(by)}": _quantile(share, name, by, selector) for share in (0.5, 0.9, 0.99)}


def _overview(by: str, selector: str = AT_SERVER) -> tuple[Panel, ...]:
    legend = _legend(by)
    return (
        Panel("Requests a second", "reqps", {legend: _per_second("istio_requests_total", by, selector)}),
        Panel("Share of errors", "percentunit", {legend: _error_share(by)}),
        Panel("Duration", "ms", _durations(by, selector)),
        Panel("Bytes of requests", "Bps", {legend: _per_second("istio_request_bytes_sum", by, selector)}),
        Panel("Bytes of answers", "Bps", {legend: _per_second("istio_response_bytes_sum", by, selector)}),
        Panel(
            "Answers by code and flags",
            "reqps",
            {
                "{{response_code}} {{response_flags}}": _per_second(
                    "istio_requests_total", "response_code, response_flags", selector
                )
            },
        ),
        Panel(
            "Messages of gRPC",
            "cps",
            {
                f"sent {legend}": _per_second("istio_request_messages_total", by, selector),
                f"received {legend}": _per_second("istio_response_messages_total", by, selector),
            },
        ),
        Panel("Connections opened", "cps", {legend: _per_second("istio_tcp_connections_opened_total", by, selector)}),
        Panel("Connections closed", "cps", {legend: _per_second("istio_tcp_connections_closed_total", by, selector)}),
        Panel(
            "Bytes of connections",
            "Bps",
            {
                f"sent {legend}": _per_second("istio_tcp_sent_bytes_total", by, selector),
                f"received {legend}": _per_second("istio_tcp_received_bytes_total", by, selector),
            },
        ),
    )


DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "services": ("Lateen: services", _overview(BY_SERVICE)),
    "workloads": ("Lateen: workloads", _overview("destination_workload")),
    "callers": ("Lateen: who calls", _overview("source_workload, destination_workload")),
}
ALERTS = (
    Alert(
        "ServiceErrors",
        f"{_error_share(BY_SERVICE)} > 0.05",
        "5m",
        "critical",
        "{{ $labels.destination_service }} fails more than 5 % of its requests",
    ),
    Alert(
        "ServiceSlow",
        f"{_quantile(0.99, 'istio_request_duration_milliseconds', BY_SERVICE)} > 1000",
        "10m",
        "warning",
        "1 % of the requests to {{ $labels.destination_service }} take longer than a second",
    ),
    Alert(
        "ServiceWithoutTraffic",
        f"{_per_second('istio_requests_total', BY_SERVICE)} == 0 "
        f"and sum by ({BY_SERVICE}) (rate(istio_requests_total{AT_SERVER}[{WINDOW}] offset 1h)) > 0",
        "10m",
        "warning",
        "nobody calls {{ $labels.destination_service }} any more, as somebody did an hour ago",
    ),
    Alert(
        "ServiceOverloaded",
        _per_second("istio_requests_total", BY_SERVICE, '{reporter="source", response_flags=~".*(UO|UH|URX).*"}')
        + " > 0",
        "5m",
        "critical",
        "proxies turn requests to {{ $labels.destination_service }} away: its pool is full or has no member",
    ),
    Alert(
        "ReportsLost",
        " + ".join(f"(sum(rate({metric}[{WINDOW}])) or vector(0))" for metric in LOST_REPORTS) + " > 0",
        "5m",
        "warning",
        "reports to rules of Mixer, or entries of access logs, do not arrive",
    ),
    Alert(
        "AuthorityEnds",
        'min({__name__=~"citadel_server_(root_cert|cert_chain)_expiry_timestamp"}) - time() < 14 * 86400',
        "1h",
        "critical",
        "a certificate of the authority ends within two weeks: exchange it, or nothing is signed any more",
    ),
    Alert(
        "CertificateNotRenewed",
        "min by (pod, namespace) (istio_agent_cert_expiry_seconds) < 300",
        "2m",
        "critical",
        "the certificate of a workload ends within minutes and is not renewed",
    ),
    Alert(
        "CollectorNotReached",
        f"sum(rate(lateen_metric_exports_failed_total[{WINDOW}])) > 0",
        "10m",
        "warning",
        "a collector of metrics is not reached by OTLP",
    ),
    Alert(
        "MeshNotScraped",
        'up{job="lateen"} == 0',
        "2m",
        "critical",
        "the metrics of the mesh cannot be read",
    ),
)
PAGE = """# Metrics

This page is generated from the catalogue (`python -m docs.generate`). The proxies make these by themselves;
`lateen metrics` prints them, and `lateen up --metrics HOST:PORT` serves them to Prometheus. A `Telemetry` changes them
([how to](../how-to/telemetry.md)); its name of each is in the first column.

| In a Telemetry | Metric | Type | What is counted |
|---|---|---|---|
%s| | `lateen_rate_limited_total` | counter | requests that limits refused, by `rate_limit` |
| | `istio_agent_cert_expiry_seconds` | gauge | for how long a workload's certificate still holds |
| | `citadel_server_root_cert_expiry_timestamp` | gauge | when the authority's root ends (Unix seconds) |
| | `citadel_server_cert_chain_expiry_timestamp` | gauge | when the first certificate of the authority's chain ends |
| | `citadel_server_csr_count` | counter | requests for certificates that came with a proof of who asks |
| | `citadel_server_success_cert_issuance_count` | counter | certificates that were signed |
| | `citadel_server_csr_sign_err_count` | counter | requests that were refused |
| | `istio_build` | gauge | 1, with the version of Lateen in `tag` |

## Dashboards and alerts

In `docs/monitoring`, made from the same catalogue: dashboards for Grafana (%s), and `alerts.yaml` for Prometheus:

| Alert | When | Severity |
|---|---|---|
%s"""


def page() -> str:
    """The page ``docs/reference/metrics.md``."""
    rows = "".join(
        f"| `{metric.kind}` | `istio_{metric.name}` | {'histogram' if metric.unit else 'counter'} | "
        f"{MEANINGS[metric.kind]} |\n"
        for metric in (*REQUESTS, *MESSAGES, *OPENED, *CLOSED, *BYTES)
    )
    names = ", ".join(f"`{name}.json`" for name in DASHBOARDS)
    alerts = "".join(f"| {alert.name} | {alert.summary} | {alert.severity} |\n" for alert in ALERTS)
    return PAGE % (rows, names, alerts.replace("{{ $labels.destination_service }}", "a service"))


def monitoring() -> dict[str, str]:
    """The files of ``docs/monitoring`` by name."""
    files = {
        f"{name}.json": json.dumps(_dashboard(name, title, panels), indent=1) + "\n"
        for name, (title, panels) in DASHBOARDS.items()
    }
    return {**files, "alerts.yaml": _alerts()}


def _dashboard(name: str, title: str, panels: Iterable[Panel]) -> dict[str, Any]:
    return {
        "uid": f"lateen-{name}",
        "title": title,
        "tags": ["lateen"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [_panel(place, panel) for place, panel in enumerate(panels)],
    }


def _panel(place: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": place + 1,
        "title": panel.title,
        "type": "timeseries",
        "datasource": source,
        "gridPos": {"h": 8, "w": 8, "x": place % 3 * 8, "y": place // 3 * 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _alerts() -> str:
    """YAML, of which JSON texts are a part."""
    lines = ["groups:", "- name: lateen", "  rules:"]
    for alert in ALERTS:
        lines += [
            f"  - alert: {alert.name}",
            f"    expr: {json.dumps(alert.expression)}",
            f"    for: {alert.lasts}",
            f"    labels: {{severity: {alert.severity}}}",
            f"    annotations: {{summary: {json.dumps(alert.summary)}}}",
        ]
    return "\n".join(lines) + "\n"
