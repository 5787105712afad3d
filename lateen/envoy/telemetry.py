"""What a chain reports: its metrics and its access log, made in the proxy by Envoy's own access loggers.

Comes in: ``Telemetry`` of a chain, and facts about the chain. Goes out: access loggers. A label that has no value reads
``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2

from lateen.envoy.access_logs import (
    HTTP_FIELDS,
    LISTENER_FIELDS,
    PATH_WITHOUT_QUERY,
    TCP_FIELDS,
    as_received,
    file_logger,
    meeting,
    provider_logger,
    service_logger,
)
from lateen.envoy.mesh_headers import state_key
from lateen.envoy.metrics import (
    UNKNOWN,
    Labels,
    connection_loggers,
    first_of,
    of_type,
    refusal_logger,
    request_loggers,
)
from lateen.plan.model import Telemetry

WORKLOAD_LABELS = (
    ("workload", "workload"),
    ("namespace", "workload_namespace"),
    ("app", "app"),
    ("version", "version"),
)
CANONICAL_LABELS = (("canonical_service", "app"), ("canonical_revision", "version"))
"""Told where they are not the same as another field."""
CLUSTER_LABELS = ("source_cluster", "destination_cluster")
"""There is one mesh and no clusters in it: Istio's labels are there, so that what asks for them finds them."""
SERVICE_LABELS = (
    ("service", "destination_service"),
    ("service_name", "destination_service_name"),
    ("service_namespace", "destination_service_namespace"),
)

_HANDSHAKE_FAILED = "has(connection.transport_failure_reason) && connection.transport_failure_reason != ''"
_AUTHORITY = ("REQ", ":authority")
_UPSTREAM_CLUSTER = ("UPSTREAM_CLUSTER_RAW", "")


class ChainFacts(msgspec.Struct, frozen=True):
    """What a chain reports depends on, beside its ``Telemetry``.

    ``mutual_tls``: every caller has a certificate. ``notes``: what its access rules leave for the log, as pairs of the
    log's field and the key of the metadata. ``token_in_query``: the query may have a token, which no log should hold.
    ``limited``: limits of rates hold. ``at_edge``: strangers call, who may ask for any host. ``grpc``: gRPC may come.
    """

    mutual_tls: bool = False
    notes: tuple[tuple[str, str], ...] = ()
    token_in_query: bool = False
    limited: bool = False
    at_edge: bool = False
    grpc: bool = False


@lru_cache(maxsize=1024)
def http_loggers(telemetry: Telemetry | None, facts: ChainFacts) -> tuple[Any, ...]:
    """The loggers of a chain that speaks HTTP: metrics, twice over (gRPC or not), and the log. Not to be changed."""
    if telemetry is None:
        return ()
    labels = _labels(telemetry, facts, http=True)
    loggers = request_loggers(labels, telemetry.metrics, has_messages=facts.grpc)
    if facts.limited:
        loggers.append(refusal_logger(labels))
    if telemetry.access_log:
        path = PATH_WITHOUT_QUERY if facts.token_in_query else HTTP_FIELDS["path"]
        path = as_received(path) if _at_server(telemetry) else path
        fields = {**HTTP_FIELDS, "path": path, **_notes("envoy.filters.http.rbac", facts)}
        loggers.append(_log(telemetry, fields))
    loggers.extend(_provided(telemetry, None, with_query=not facts.token_in_query))
    for log in telemetry.service_logs:
        if log.kind == "otel" or (log.kind == "http" and not facts.token_in_query):
            wanted, with_query = meeting(log.expression), not facts.token_in_query
            loggers.append(service_logger(log, wanted, at_server=_at_server(telemetry), with_query=with_query))
    return tuple(loggers)


@lru_cache(maxsize=1024)
def tcp_loggers(telemetry: Telemetry | None, facts: ChainFacts) -> tuple[Any, ...]:
    """The loggers of a chain that passes bytes on: connections opened, closed, bytes, and the log at the end. Not to be
    changed."""
    if telemetry is None:
        return ()
    ended = of_type(data_pb2.AccessLogType.TcpConnectionEnd)
    loggers = connection_loggers(
        _labels(telemetry, facts, http=False), telemetry.metrics, in_between=telemetry.byte_interval is not None
    )
    if telemetry.access_log:
        fields = {**TCP_FIELDS, **_notes("envoy.filters.network.rbac", facts)}
        loggers.append(_log(telemetry, fields, ended))
    loggers.extend(_provided(telemetry, ended))
    told = [log for log in telemetry.service_logs if log.kind != "http"]
    at_server = _at_server(telemetry)
    loggers.extend(service_logger(log, meeting(log.expression, ended), at_server=at_server) for log in told)
    return tuple(loggers)


def listener_logger(path: str) -> Any:
    """Logs connections that no chain took and handshakes that failed, which otherwise leave no trace."""
    unmatched = accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=["NR"]))
    either = accesslog_pb2.OrFilter(filters=[unmatched, meeting(_HANDSHAKE_FAILED)])
    return file_logger(path, LISTENER_FIELDS, accesslog_pb2.AccessLogFilter(or_filter=either))


def _labels(telemetry: Telemetry, facts: ChainFacts, *, http: bool) -> Labels:
    """The labels that all metrics have: who called, who answered, for which service, how secured."""
    at_source = telemetry.reporter == "source"
    own = dict(telemetry.tags)
    here, there = ("source", "destination") if at_source else ("destination", "source")
    labels: dict[str, str] = {"reporter": telemetry.reporter, **dict.fromkeys(CLUSTER_LABELS, UNKNOWN)}
    for field, label in WORKLOAD_LABELS:
        labels[f"{here}_{label}"] = own.get(f"{here}_{label}") or own.get(field) or UNKNOWN
        labels[f"{there}_{label}"] = first_of(_told(field, at_source))
    for label, usual in CANONICAL_LABELS:
        labels[f"{here}_{label}"] = own.get(label) or own.get(usual) or UNKNOWN
        labels[f"{there}_{label}"] = first_of(_told(label, at_source), _told(usual, at_source))
    own_side, peer_side = ("UPSTREAM_LOCAL", "UPSTREAM_PEER") if at_source else ("DOWNSTREAM_LOCAL", "DOWNSTREAM_PEER")
    labels[f"{here}_principal"] = first_of((f"{own_side}_URI_SAN", ""))
    labels[f"{there}_principal"] = first_of((f"{peer_side}_URI_SAN", ""))
    for field, label in SERVICE_LABELS:
        labels[label] = (
            own.get(label)
            or own.get(field)
            or (_service(field, by_host=http and not facts.at_edge) if at_source else UNKNOWN)
        )
    if at_source:
        labels["connection_security_policy"] = UNKNOWN
    else:
        labels["connection_security_policy"] = "mutual_tls" if facts.mutual_tls else "none"
    return tuple(sorted(labels.items()))


def _told(field: str, at_source: bool) -> tuple[str, str]:
    """Where the name of the other side stands."""
    return ("UPSTREAM_METADATA", f"lateen:{field}") if at_source else ("FILTER_STATE", f"{state_key(field)}:PLAIN")


def _service(field: str, *, by_host: bool) -> str:
    """What the chosen cluster says of its service; for traffic to nowhere known the host and the cluster's name."""
    told = ("CLUSTER_METADATA", f"lateen:{field}")
    if field == "service" and by_host:
        return first_of(told, _AUTHORITY)
    if field == "service_name":
        return first_of(told, _UPSTREAM_CLUSTER)
    return first_of(told)


def _notes(namespace: str, facts: ChainFacts) -> dict[str, str]:
    return {field: f"%DYNAMIC_METADATA({namespace}:{key})%" for field, key in facts.notes}


def _provided(telemetry: Telemetry, wanted: Any, *, with_query: bool = True) -> list[Any]:
    at_server = _at_server(telemetry)
    return [
        provider_logger(log, meeting(log.expression, wanted), at_server=at_server, with_query=with_query)
        for log in telemetry.more_logs
    ]


def _at_server(telemetry: Telemetry) -> bool:
    return telemetry.reporter == "destination"


def _log(telemetry: Telemetry, fields: Mapping[str, str], wanted: Any = None) -> Any:
    if telemetry.access_log_format != "json":
        raise ValueError(f"no access log in the format {telemetry.access_log_format!r}")
    return file_logger(telemetry.access_log, fields, meeting(telemetry.log_expression, wanted))
