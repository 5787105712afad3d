"""Metrics and access logs, made in the proxy by Envoy's own access loggers.

Comes in: ``Telemetry`` of a chain. Goes out: access loggers. The stats logger counts requests and connections under
Istio's names and labels; the file logger writes one JSON object a line with Istio's keys and a few more.

A label that has no value reads ``unknown``. Labels are names of things that the mesh knows, never paths or ids: each
new combination is a time series.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import substitution_format_string_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import struct_pb2

from lateen.envoy import wire
from lateen.envoy.mesh_headers import state_key
from lateen.plan.model import Telemetry

STATS_LOGGER = "envoy.access_loggers.stats"
FILE_LOGGER = "envoy.access_loggers.file"
METRIC_PREFIX = "istio"
OWN_PREFIX = "lateen"
REFUSAL_LABELS = frozenset({"reporter", "source_principal", "destination_service", "destination_workload"})
UNKNOWN = "unknown"
WORKLOAD_LABELS = (
    ("workload", "workload"),
    ("namespace", "workload_namespace"),
    ("app", "app"),
    ("version", "version"),
)
SERVICE_LABELS = (
    ("service", "destination_service"),
    ("service_name", "destination_service_name"),
    ("service_namespace", "destination_service_namespace"),
)

Labels = tuple[tuple[str, str], ...]

_AUTHORITY = ("REQ", ":authority")
_UPSTREAM_CLUSTER = ("UPSTREAM_CLUSTER_RAW", "")
_LogType = data_pb2.AccessLogType


class ChainFacts(msgspec.Struct, frozen=True):
    """What a chain reports depends on, beside its ``Telemetry``.

    ``mutual_tls``: every caller has a certificate. ``notes``: what its access rules leave for the log, as pairs of the
    log's field and the key of the metadata. ``token_in_query``: the query may have a token, which no log should hold.
    ``limited``: limits of rates hold.
    """

    mutual_tls: bool = False
    notes: tuple[tuple[str, str], ...] = ()
    token_in_query: bool = False
    limited: bool = False


@lru_cache(maxsize=1024)
def http_loggers(telemetry: Telemetry | None, facts: ChainFacts) -> tuple[Any, ...]:
    """The loggers of a chain that speaks HTTP: metrics, twice over (gRPC or not), and the log. Not to be changed."""
    if telemetry is None:
        return ()
    labels = _labels(telemetry, facts, http=True)
    answered: Labels = (("response_code", "%RESPONSE_CODE%"), ("response_flags", "%RESPONSE_FLAGS%"))
    plain: Labels = (("request_protocol", "http"),)
    grpc: Labels = (("request_protocol", "grpc"), ("grpc_response_status", "%GRPC_STATUS_NUMBER%"))
    loggers = [
        _stats_logger(_request_metrics((*labels, *own, *answered)), _is_grpc(wanted))
        for own, wanted in ((plain, False), (grpc, True))
    ]
    if facts.limited:
        loggers.append(_refusals(labels))
    if telemetry.access_log:
        path = {"path": PATH_WITHOUT_QUERY} if facts.token_in_query else {}
        loggers.append(_log(telemetry, {**HTTP_FIELDS, **path, **_notes("envoy.filters.http.rbac", facts)}))
    return tuple(loggers)


@lru_cache(maxsize=1024)
def tcp_loggers(telemetry: Telemetry | None, facts: ChainFacts) -> tuple[Any, ...]:
    """The loggers of a chain that passes bytes on: connections opened, closed, bytes, and the log at the end. Not to be
    changed."""
    if telemetry is None:
        return ()
    labels = (
        *_labels(telemetry, facts, http=False),
        ("request_protocol", "tcp"),
        ("response_flags", "%RESPONSE_FLAGS%"),
    )
    opened = stats_pb2.Config(
        stat_prefix=METRIC_PREFIX, counters=[_counter("tcp_connections_opened_total", labels, fixed=1)]
    )
    closed = stats_pb2.Config(
        stat_prefix=METRIC_PREFIX,
        counters=[
            _counter("tcp_connections_closed_total", labels, fixed=1),
            _counter("tcp_sent_bytes_total", labels, value="%BYTES_SENT%"),
            _counter("tcp_received_bytes_total", labels, value="%BYTES_RECEIVED%"),
        ],
    )
    loggers = [
        _stats_logger(opened, _of_type(_LogType.TcpUpstreamConnected)),
        _stats_logger(closed, _of_type(_LogType.TcpConnectionEnd)),
    ]
    if telemetry.access_log:
        fields = {**TCP_FIELDS, **_notes("envoy.filters.network.rbac", facts)}
        loggers.append(_log(telemetry, fields, _of_type(_LogType.TcpConnectionEnd)))
    return tuple(loggers)


# --- labels ----------------------------------------------------------------------------------------------------------


def _labels(telemetry: Telemetry, facts: ChainFacts, *, http: bool) -> Labels:
    """The labels that all metrics have: who called, who answered, for which service, how secured."""
    at_source = telemetry.reporter == "source"
    own = dict(telemetry.tags)
    here, there = ("source", "destination") if at_source else ("destination", "source")
    labels: dict[str, str] = {"reporter": telemetry.reporter}
    for field, label in WORKLOAD_LABELS:
        labels[f"{here}_{label}"] = own.get(f"{here}_{label}") or own.get(field) or UNKNOWN
        told = ("UPSTREAM_METADATA", f"lateen:{field}") if at_source else ("FILTER_STATE", f"{state_key(field)}:PLAIN")
        labels[f"{there}_{label}"] = first_of(told)
    own_side, peer_side = ("UPSTREAM_LOCAL", "UPSTREAM_PEER") if at_source else ("DOWNSTREAM_LOCAL", "DOWNSTREAM_PEER")
    labels[f"{here}_principal"] = first_of((f"{own_side}_URI_SAN", ""))
    labels[f"{there}_principal"] = first_of((f"{peer_side}_URI_SAN", ""))
    for field, label in SERVICE_LABELS:
        labels[label] = own.get(label) or own.get(field) or (_service(field, http=http) if at_source else UNKNOWN)
    if at_source:
        labels["connection_security_policy"] = UNKNOWN
    else:
        labels["connection_security_policy"] = "mutual_tls" if facts.mutual_tls else "none"
    return tuple(sorted(labels.items()))


def _service(field: str, *, http: bool) -> str:
    """What the chosen cluster says of its service; for traffic to nowhere known the host and the cluster's name."""
    told = ("CLUSTER_METADATA", f"lateen:{field}")
    if field == "service" and http:
        return first_of(told, _AUTHORITY)
    if field == "service_name":
        return first_of(told, _UPSTREAM_CLUSTER)
    return first_of(told)


def first_of(*operators: tuple[str, str]) -> str:
    """A format that yields the first of the values that there is, and ``unknown`` where there is none.

    The literal at the end is a start time whose format has no fields: the formatter has no constants of its own.
    """
    commands = [{"command": name, "param": param} if param else {"command": name} for name, param in operators]
    commands.append({"command": "START_TIME", "param": UNKNOWN})
    return f"%COALESCE({msgspec.json.encode({'operators': commands}).decode()})%"


# --- metrics ---------------------------------------------------------------------------------------------------------


def _request_metrics(labels: Labels) -> Any:
    histogram, unit = stats_pb2.Config.Histogram, stats_pb2.Config.Histogram.Unit
    return stats_pb2.Config(
        stat_prefix=METRIC_PREFIX,
        counters=[_counter("requests_total", labels, fixed=1)],
        histograms=[
            histogram(stat=_stat(name, labels), unit=unit.Value(measure), value_format=value)
            for name, measure, value in (
                ("request_duration_milliseconds", "Milliseconds", "%DURATION%"),
                ("request_bytes", "Bytes", "%BYTES_RECEIVED%"),
                ("response_bytes", "Bytes", "%BYTES_SENT%"),
            )
        ],
    )


def _refusals(labels: Labels) -> Any:
    """Counts what limits refuse, by their names."""
    told = tuple(pair for pair in labels if pair[0] in REFUSAL_LABELS)
    named = (*told, ("rate_limit", first_of(("RESP", "X-LATEEN-RATE-LIMIT"))))
    config = stats_pb2.Config(stat_prefix=OWN_PREFIX, counters=[_counter("rate_limited_total", named, fixed=1)])
    refused = accesslog_pb2.ResponseFlagFilter(flags=["RL"])
    return _stats_logger(config, accesslog_pb2.AccessLogFilter(response_flag_filter=refused))


def _counter(name: str, labels: Labels, *, fixed: int = 0, value: str = "") -> Any:
    counter = stats_pb2.Config.Counter(stat=_stat(name, labels), value_format=value)
    if fixed:
        counter.value_fixed.value = fixed
    return counter


def _stat(name: str, labels: Labels) -> Any:
    tags = [stats_pb2.Config.Tag(name=label, value_format=value) for label, value in labels]
    return stats_pb2.Config.Stat(name=name, tags=tags)


def _stats_logger(config: Any, wanted: Any) -> Any:
    return accesslog_pb2.AccessLog(name=STATS_LOGGER, filter=wanted, typed_config=wire.pack(config))


def _is_grpc(wanted: bool) -> Any:
    matcher = route_components_pb2.HeaderMatcher(
        name="content-type",
        string_match=string_pb2.StringMatcher(prefix="application/grpc"),
        invert_match=not wanted,
        treat_missing_header_as_empty=True,
    )
    return accesslog_pb2.AccessLogFilter(header_filter=accesslog_pb2.HeaderFilter(header=matcher))


def _of_type(kind: Any) -> Any:
    return accesslog_pb2.AccessLogFilter(log_type_filter=accesslog_pb2.LogTypeFilter(types=[kind]))


# --- the log ---------------------------------------------------------------------------------------------------------

_CONNECTION_FIELDS = {
    "start_time": "%START_TIME%",
    "duration": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "downstream_peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "upstream_peer": "%UPSTREAM_PEER_URI_SAN%",
}
TCP_FIELDS: Mapping[str, str] = _CONNECTION_FIELDS
PATH_WITHOUT_QUERY = "%PATH(NQ:ORIG_OR_PATH)%"
HTTP_FIELDS: Mapping[str, str] = {
    **_CONNECTION_FIELDS,
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "authority": "%REQ(:AUTHORITY)%",
    "route_name": "%ROUTE_NAME%",
    "response_code": "%RESPONSE_CODE%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%REQ(X-B3-TRACEID?TRACEPARENT)%",
    "rate_limit": "%RESP(X-LATEEN-RATE-LIMIT)%",
    "rate_limit_dry_run": "%DYNAMIC_METADATA(envoy.filters.http.ratelimit:dry_run)%",
}


def _notes(namespace: str, facts: ChainFacts) -> dict[str, str]:
    return {field: f"%DYNAMIC_METADATA({namespace}:{key})%" for field, key in facts.notes}


def _log(telemetry: Telemetry, fields: Mapping[str, str], wanted: Any = None) -> Any:
    if telemetry.access_log_format != "json":
        raise ValueError(f"no access log in the format {telemetry.access_log_format!r}")
    return file_logger(telemetry.access_log, fields, wanted)


def file_logger(path: str, fields: Mapping[str, str], wanted: Any = None) -> Any:
    """Writes one JSON object a line; a field without a value is null."""
    values = {name: struct_pb2.Value(string_value=value) for name, value in fields.items()}
    formatted = substitution_format_string_pb2.SubstitutionFormatString(json_format=struct_pb2.Struct(fields=values))
    return accesslog_pb2.AccessLog(
        name=FILE_LOGGER,
        filter=wanted,
        typed_config=wire.pack(file_pb2.FileAccessLog(path=path, log_format=formatted)),
    )


def listener_logger(path: str) -> Any:
    """Logs connections that no chain took, which otherwise leave no trace."""
    unmatched = accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=["NR"]))
    return file_logger(path, TCP_FIELDS, unmatched)
