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
    CHECKED_FIELDS,
    CHECKED_TCP_FIELDS,
    HTTP_FIELDS,
    LIMITED_FIELDS,
    LISTENER_FIELDS,
    PATH_WITHOUT_QUERY,
    TCP_FIELDS,
    as_received,
    file_logger,
    meeting,
    provider_logger,
    service_logger,
)
from lateen.envoy.metrics import (
    Group,
    LabelSet,
    connection_loggers,
    first_of,
    of_type,
    refusal_logger,
    request_loggers,
)
from lateen.envoy.peer import CALLER_STATE, state_key
from lateen.envoy.wire import TOLD
from lateen.plan.model import Telemetry
from lateen.values.packed_labels import SERVICE_LABELS, UNKNOWN
from lateen.values.told_names import FIELDS as NAMES, joined

WORKLOAD_LABELS = (
    ("workload", "workload"),
    ("namespace", "workload_namespace"),
    ("app", "app"),
    ("version", "version"),
)
CANONICAL_LABELS = (("canonical_service", "app"), ("canonical_revision", "version"))
"""Told where they are not the same as another field."""
_CLUSTERS = Group((("clusters", ""),), (("source_cluster", UNKNOWN), ("destination_cluster", UNKNOWN)))
"""There is one mesh and no clusters in it: Istio's labels are there, so that what asks for them finds them."""

_HANDSHAKE_FAILED = "has(connection.transport_failure_reason) && connection.transport_failure_reason != ''"
_AUTHORITY = ("REQ", ":authority")
_UPSTREAM_CLUSTER = ("UPSTREAM_CLUSTER_RAW", "")


class ChainFacts(msgspec.Struct, frozen=True):
    """What a chain reports depends on, beside its ``Telemetry``.

    ``mutual_tls``: every caller has a certificate. ``notes``: what its access rules leave for the log, as pairs of the
    log's field and the key of the metadata. ``token_in_query``: the query may have a token, which no log should hold.
    ``limited``: limits of rates hold. ``checked``: Mixer is asked. ``at_edge``: strangers call, who may ask for any
    host. ``grpc``: gRPC may come.
    """

    mutual_tls: bool = False
    notes: tuple[tuple[str, str], ...] = ()
    token_in_query: bool = False
    limited: bool = False
    checked: bool = False
    at_edge: bool = False
    grpc: bool = False


@lru_cache(maxsize=1024)
def http_loggers(telemetry: Telemetry | None, facts: ChainFacts) -> tuple[Any, ...]:
    """The loggers of a chain that speaks HTTP: metrics and the log. Not to be changed."""
    if telemetry is None:
        return ()
    labels = _labels(telemetry, facts, http=True)
    loggers = request_loggers(labels, telemetry.metrics, has_messages=facts.grpc)
    if facts.limited:
        loggers.append(refusal_logger(labels))
    if telemetry.access_log:
        path = PATH_WITHOUT_QUERY if facts.token_in_query else HTTP_FIELDS["path"]
        path = as_received(path) if _at_server(telemetry) else path
        limits, checks = LIMITED_FIELDS if facts.limited else {}, CHECKED_FIELDS if facts.checked else {}
        fields = {**HTTP_FIELDS, **limits, **checks, "path": path, **_notes("envoy.filters.http.rbac", facts)}
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
        checks = CHECKED_TCP_FIELDS if facts.checked else {}
        fields = {**TCP_FIELDS, **checks, **_notes("envoy.filters.network.rbac", facts)}
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


def _labels(telemetry: Telemetry, facts: ChainFacts, *, http: bool) -> LabelSet:
    """The labels that all metrics have: who called, who answered, for which service, how secured."""
    own = dict(telemetry.tags)
    if telemetry.reporter == "source":
        security, here = UNKNOWN, _here("source", own)
        groups = (here, *_called(by_host=http and not facts.at_edge))
    else:
        security = "mutual_tls" if facts.mutual_tls else "none"
        groups = (_here("destination", own), _served(own), _caller())
    same = (("connection_security_policy", security), ("reporter", telemetry.reporter))
    return LabelSet(same, groups=(_CLUSTERS, *groups))


def _here(side: str, own: Mapping[str, str]) -> Group:
    """This proxy's own workload."""
    names = {label: own.get(f"{side}_{label}") or own.get(field, "") for field, label in WORKLOAD_LABELS}
    for label, usual in CANONICAL_LABELS:
        names[label] = own.get(label) or own.get(usual, "")
    text = joined(tuple(names[label] for label in ("workload_namespace", *NAMES)))
    return Group(((side, text),), tuple((f"{side}_{label}", _fixed(name)) for label, name in names.items()))


def _served(own: Mapping[str, str]) -> Group:
    """The service that this proxy answers for."""
    names = tuple(own.get(label) or own.get(label.removeprefix("destination_"), "") for label in SERVICE_LABELS)
    return Group((("service", joined(names)),), tuple(zip(SERVICE_LABELS, map(_fixed, names), strict=True)))


def _fixed(text: str) -> str:
    """A format that yields just this."""
    return text.replace("%", "%%") or UNKNOWN


def _caller() -> Group:
    """Who calls, as a server keeps it once a connection."""
    labels = [(f"source_{label}", first_of(_state(field))) for field, label in WORKLOAD_LABELS]
    labels += [(f"source_{label}", first_of(_state(label), _state(usual))) for label, usual in CANONICAL_LABELS]
    escaped = tuple(f"source_{name}" for name in NAMES)
    labels.append(("source_principal", first_of(("DOWNSTREAM_PEER_URI_SAN", ""))))
    labels.append(("destination_principal", first_of(("DOWNSTREAM_LOCAL_URI_SAN", ""))))
    return Group((("caller", f"%FILTER_STATE({CALLER_STATE}:PLAIN)%"),), tuple(labels), escaped)


def _called(*, by_host: bool) -> tuple[Group, ...]:
    """Who is called, as a client knows it: by the chosen cluster, by the member that it chose, and by its certificate.

    For traffic to nowhere known the service is the host that is asked for (``by_host``), and the cluster's name.
    """
    host = (_AUTHORITY,) if by_host else ()
    service = first_of(_of_cluster("service"), *host)
    name = first_of(_of_cluster("service_name"), _UPSTREAM_CLUSTER)
    own, peer = first_of(("UPSTREAM_LOCAL_URI_SAN", "")), first_of(("UPSTREAM_PEER_URI_SAN", ""))
    member = [(f"destination_{label}", first_of(_of_member(field))) for field, label in WORKLOAD_LABELS]
    member += [
        (f"destination_{label}", first_of(_of_member(label), _of_member(usual))) for label, usual in CANONICAL_LABELS
    ]
    namespace = first_of(_of_cluster("service_namespace"))
    known = tuple(zip(SERVICE_LABELS, (service, name, namespace), strict=True))
    called = first_of(_of_member(TOLD), _of_cluster(TOLD), *host)
    return (
        Group((("called", called), ("cluster", "%UPSTREAM_CLUSTER_RAW%")), (*known, *member)),
        Group((("own", "%UPSTREAM_LOCAL_URI_SAN%"),), (("source_principal", own),)),
        Group((("server", "%UPSTREAM_PEER_URI_SAN%"),), (("destination_principal", peer),)),
    )


def _state(field: str) -> tuple[str, str]:
    return ("FILTER_STATE", f"{state_key(field)}:PLAIN")


def _of_cluster(key: str) -> tuple[str, str]:
    return ("CLUSTER_METADATA", f"lateen:{key}")


def _of_member(key: str) -> tuple[str, str]:
    return ("UPSTREAM_METADATA", f"lateen:{key}")


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
    told = {name: form for name, form in fields.items() if name != "upstream_peer" or not _at_server(telemetry)}
    return file_logger(telemetry.access_log, told, meeting(telemetry.log_expression, wanted))
