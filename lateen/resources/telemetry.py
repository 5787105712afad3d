"""Telemetry (telemetry.istio.io)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from lateen.resources.base import Duration, PolicyTargetReference, Spec, WorkloadSelector

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Metric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]

METRICS: tuple[str, ...] = tuple(name for name in get_args(Metric) if name != "ALL_METRICS")
METRIC_NAMES: Mapping[str, str] = {
    "REQUEST_COUNT": "requests_total",
    "REQUEST_DURATION": "request_duration_milliseconds",
    "REQUEST_SIZE": "request_bytes",
    "RESPONSE_SIZE": "response_bytes",
    "TCP_OPENED_CONNECTIONS": "tcp_connections_opened_total",
    "TCP_CLOSED_CONNECTIONS": "tcp_connections_closed_total",
    "TCP_SENT_BYTES": "tcp_sent_bytes_total",
    "TCP_RECEIVED_BYTES": "tcp_received_bytes_total",
    "GRPC_REQUEST_MESSAGES": "request_messages_total",
    "GRPC_RESPONSE_MESSAGES": "response_messages_total",
}
"""What they are called where they are read, after ``istio_``."""
_KINDS = {name: kind for kind, name in METRIC_NAMES.items()}


def metric_called(name: str) -> str | None:
    """The metric of a name, with or without ``istio_`` before it; None if there is none."""
    return _KINDS.get(name.removeprefix("istio_"))


class ProviderRef(Spec, frozen=True):
    name: str = ""


class ModeMatch(Spec, frozen=True):
    mode: Mode | None = None


class LiteralTag(Spec, frozen=True):
    value: str = ""


class EnvironmentTag(Spec, frozen=True):
    name: str = ""
    default_value: str = ""


class HeaderTag(Spec, frozen=True):
    name: str = ""
    default_value: str = ""


class FormatterTag(Spec, frozen=True):
    value: str = ""


class CustomTag(Spec, frozen=True):
    literal: LiteralTag | None = None
    environment: EnvironmentTag | None = None
    header: HeaderTag | None = None
    formatter: FormatterTag | None = None


class Tracing(Spec, frozen=True):
    match: ModeMatch | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: float | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class MetricSelector(Spec, frozen=True):
    metric: Metric | None = None
    custom_metric: str | None = None
    mode: Mode | None = None


class TagOverride(Spec, frozen=True):
    operation: Literal["UPSERT", "REMOVE"] | None = None
    value: str = ""


class MetricsOverride(Spec, frozen=True):
    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class Metrics(Spec, frozen=True):
    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()
    reporting_interval: Duration | None = None


class AccessLogFilter(Spec, frozen=True):
    expression: str = ""


class AccessLogging(Spec, frozen=True):
    match: ModeMatch | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: AccessLogFilter | None = None


class TelemetrySpec(Spec, frozen=True):
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
