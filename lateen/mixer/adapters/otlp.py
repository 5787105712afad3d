"""Metrics, logs and spans as messages of OTLP.

Comes in: what was counted, and instances of ``logentry`` and ``tracespan``. Goes out: export requests, encoded. Pure.
The messages at hand are of an early version of OTLP, in which scopes are called instrumentation libraries; on the wire
they are the same, and what came later is read from fields by their numbers.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from lateen.mixer.adapters.counted import COUNTER, GAUGE, CountedMetric, Series
from lateen.mixer.adapters.spans import SpanIds, common_tags
from lateen.mixer.adapters.texts import plain, text
from lateen.mixer.templates import LogEntry, TraceSpan, Value

SCOPE = "lateen.mixer"
SERVICE = "service.name"
PARTIAL_SUCCESS, REJECTED = 1, 1
"""The numbers of fields of an answer."""
MOST_POINTS = 2000
"""In one message, so that it is not too long for a collector."""
SEVERITIES: Mapping[str, int] = {
    "TRACE": 1, "DEBUG": 5, "DEFAULT": 9, "INFO": 9, "INFORMATIONAL": 9, "NOTICE": 10, "WARN": 13, "WARNING": 13,
    "ERR": 17, "ERROR": 17, "CRITICAL": 18, "ALERT": 19, "EMERGENCY": 21, "FATAL": 21,
}  # fmt: skip
_SERVER_ERRORS = 500


def nanoseconds(moment: datetime.datetime) -> int:
    """Since 1970."""
    since = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return since // datetime.timedelta(microseconds=1) * 1000


def metric_requests(
    metrics: Iterable[CountedMetric], resource: Mapping[str, str], started: int, now: int
) -> Iterator[bytes]:
    """What was counted since ``started``, in messages of bounded length."""
    for metric in metrics:
        series = list(metric.series.items())
        for first in range(0, len(series), MOST_POINTS):
            message = metrics_service_pb2.ExportMetricsServiceRequest()
            scope = message.resource_metrics.add()
            scope.resource.attributes.extend(_attributes(resource))
            below = scope.instrumentation_library_metrics.add()
            below.instrumentation_library.name = SCOPE
            below.metrics.append(_metric(metric, series[first : first + MOST_POINTS], started, now))
            yield message.SerializeToString()


def _metric(metric: CountedMetric, series: Sequence[tuple[tuple[str, ...], Series]], started: int, now: int) -> Any:
    kind = metric.kind
    message = metrics_pb2.Metric(name=f"{kind.namespace}.{kind.name}", description=kind.description)
    cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    if kind.kind == GAUGE:
        points = message.gauge.data_points
    elif kind.kind == COUNTER:
        message.sum.aggregation_temporality, message.sum.is_monotonic = cumulative, True
        points = message.sum.data_points
    else:
        message.histogram.aggregation_temporality = cumulative
        points = message.histogram.data_points
    for key, one in series:
        point = points.add(time_unix_nano=now, attributes=_attributes(dict(zip(kind.labels, key, strict=True))))
        if kind.kind != GAUGE:
            point.start_time_unix_nano = started
        if kind.kind in (GAUGE, COUNTER):
            if isinstance(one.value, int):
                point.as_int = one.value
            else:
                point.as_double = one.value
        else:
            point.count, point.sum = sum(one.counts), float(one.value)
            point.explicit_bounds.extend(metric.bounds)
            point.bucket_counts.extend(one.counts)
    return message


def log_record(entry: LogEntry, now: int) -> Any:
    """One entry of a log."""
    severity = entry.severity or "INFO"
    return logs_pb2.LogRecord(
        time_unix_nano=nanoseconds(entry.timestamp) if entry.timestamp is not None else now,
        severity_number=SEVERITIES.get(severity.upper(), SEVERITIES["INFO"]),
        severity_text=severity,
        body=common_pb2.AnyValue(string_value=entry.name),
        attributes=_attributes(entry.variables),
    )


def log_request(records: Sequence[Any], resource: Mapping[str, str]) -> bytes:
    """A message of entries."""
    message = logs_service_pb2.ExportLogsServiceRequest()
    found = message.resource_logs.add()
    found.resource.attributes.extend(_attributes(resource))
    scope = found.instrumentation_library_logs.add()
    scope.instrumentation_library.name = SCOPE
    scope.logs.extend(records)
    data: bytes = message.SerializeToString()
    return data


def span(instance: TraceSpan, ids: SpanIds) -> tuple[str, Any]:
    """A span, and the service that it is of."""
    found = trace_pb2.Span(
        trace_id=bytes.fromhex(ids.trace.rjust(32, "0")),
        span_id=bytes.fromhex(ids.own[-16:]),
        parent_span_id=bytes.fromhex(ids.parent[-16:]) if ids.parent else b"",
        name=instance.span_name,
        kind=trace_pb2.Span.SPAN_KIND_CLIENT if instance.client_span else trace_pb2.Span.SPAN_KIND_SERVER,
        attributes=_attributes({**_peer(instance), **common_tags(instance), **instance.span_tags}),
    )
    if instance.start_time is not None:
        found.start_time_unix_nano = nanoseconds(instance.start_time)
        found.end_time_unix_nano = nanoseconds(instance.end_time or instance.start_time)
    if instance.http_status_code:
        found.attributes.extend(_attributes({"http.response.status_code": instance.http_status_code}))
    if instance.http_status_code >= _SERVER_ERRORS:
        found.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    return (instance.source_name if instance.client_span else instance.destination_name), found


def _peer(instance: TraceSpan) -> dict[str, Value]:
    name, address = instance.source_name, instance.source_ip
    if instance.client_span:
        name, address = instance.destination_name, instance.destination_ip
    return {"peer.service": name or None, "network.peer.address": text(address) or None}


def trace_request(spans: Sequence[tuple[str, Any]], resource: Mapping[str, str]) -> bytes:
    """A message of spans, by their services."""
    message = trace_service_pb2.ExportTraceServiceRequest()
    scopes: dict[str, Any] = {}
    for service, one in spans:
        if service not in scopes:
            found = message.resource_spans.add()
            found.resource.attributes.extend(_attributes({**resource, **({SERVICE: service} if service else {})}))
            scopes[service] = found.instrumentation_library_spans.add()
            scopes[service].instrumentation_library.name = SCOPE
        scopes[service].spans.append(one)
    data: bytes = message.SerializeToString()
    return data


def rejected(answer: bytes) -> int:
    """How many of what was sent a collector did not take; 0 for an answer that says nothing of it."""
    try:
        partial = _field(answer, PARTIAL_SUCCESS)
        count = _field(partial, REJECTED) if isinstance(partial, bytes) else 0
    except DecodeError:
        return 0
    return count if isinstance(count, int) else 0


def _field(data: bytes, number: int) -> Any:
    """A field by its number, of whatever message this is."""
    message = logs_service_pb2.ExportLogsServiceResponse.FromString(data)
    fields = UnknownFieldSet(message)
    found = (fields[index] for index in range(len(fields)))
    return next((field.data for field in found if field.field_number == number), None)


METRICS, LOGS, TRACES = "metrics", "logs", "traces"
METHODS: Mapping[str, str] = {
    METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
"""Over gRPC. Over HTTP the path is /v1/SIGNAL."""


def _attributes(values: Mapping[str, Value]) -> Iterator[Any]:
    for name, value in sorted(values.items()):
        if value is not None:
            yield common_pb2.KeyValue(key=name, value=_any(value))


def _any(value: Value) -> Any:
    if isinstance(value, bool):
        return common_pb2.AnyValue(bool_value=value)
    if isinstance(value, int):
        return common_pb2.AnyValue(int_value=value)
    if isinstance(value, float):
        return common_pb2.AnyValue(double_value=value)
    if isinstance(value, Mapping):
        return common_pb2.AnyValue(kvlist_value=common_pb2.KeyValueList(values=_attributes(value)))
    return common_pb2.AnyValue(string_value=str(plain(value)))
