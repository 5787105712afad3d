"""WorkloadGroup and its probe, and the ProxyConfig resource."""

from __future__ import annotations

from lateen.resources.checks import Report, check_labels, check_port, is_header
from lateen.resources.checks.selection import check_match_labels
from lateen.resources.proxy_config import ProxyConfigSpec
from lateen.resources.workload_group import HttpGetProbe, ReadinessProbe, WorkloadGroupSpec
from lateen.values.network import is_label

MAX_LABELS = 256
MAX_VARIABLE = 2048


def check_workload_group(report: Report) -> None:
    spec: WorkloadGroupSpec = report.resource.spec
    if spec.metadata is not None:
        check_labels(report, "spec.metadata.labels", spec.metadata.labels)
        if max(len(spec.metadata.labels), len(spec.metadata.annotations)) > MAX_LABELS:
            report.error("spec.metadata", f"there are more than {MAX_LABELS} labels or annotations")
    if spec.template is None:
        report.error("spec", "a WorkloadGroup needs a template", "give template", "missing-field")
    else:
        check_labels(report, "spec.template.labels", spec.template.labels)
        for name, number in spec.template.ports.items():
            if not is_label(name):
                report.error(f"spec.template.ports.{name}", f"{name!r} is no name of a port")
            check_port(report, f"spec.template.ports.{name}", number)
    if spec.probe is not None:
        check_probe(report, "spec.probe", spec.probe)


def check_probe(report: Report, field: str, probe: ReadinessProbe) -> None:
    """How readiness is asked for: exactly one way, and no negative numbers."""
    for name, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if value < 0:
            report.error(f"{field}.{name}", f"{value} is negative")
    methods = (probe.http_get, probe.tcp_socket, probe.exec, probe.grpc)
    if sum(method is not None for method in methods) != 1:
        report.error(field, "a probe needs exactly one of httpGet, tcpSocket, exec and grpc")
    if probe.http_get is not None:
        _check_http_get(report, f"{field}.httpGet", probe.http_get)
    if probe.tcp_socket is not None:
        check_port(report, f"{field}.tcpSocket.port", probe.tcp_socket.port)
    if probe.grpc is not None:
        check_port(report, f"{field}.grpc.port", probe.grpc.port)
    if probe.exec is not None and not all((probe.exec.command, *probe.exec.command)):
        report.error(f"{field}.exec", "exec needs a command without empty words", code="missing-field")


def _check_http_get(report: Report, field: str, probe: HttpGetProbe) -> None:
    check_port(report, f"{field}.port", probe.port)
    if probe.scheme not in ("", "HTTP", "HTTPS"):
        report.error(f"{field}.scheme", f"{probe.scheme!r} is neither HTTP nor HTTPS")
    for index, header in enumerate(probe.http_headers):
        if not is_header(header.name):
            report.error(f"{field}.httpHeaders[{index}].name", f"{header.name!r} is not a header name")


def check_proxy_config(report: Report) -> None:
    spec: ProxyConfigSpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    if spec.concurrency is not None and spec.concurrency < 0:
        report.error("spec.concurrency", f"{spec.concurrency} is negative", "0 means one thread a core")
    for name, value in spec.environment_variables.items():
        if len(value) > MAX_VARIABLE:
            report.error(f"spec.environmentVariables.{name}", f"the value is longer than {MAX_VARIABLE} characters")
