"""Access logs: one JSON object a line, with Istio's keys and a few more; and those of providers, files and servers.

Comes in: fields and their formats. Goes out: access loggers. A field without a value is null: to leave it
out would cost half as much again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import config_source_pb2, substitution_format_string_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from google.protobuf import struct_pb2
from xds.type.v3 import typed_struct_pb2

from lateen.envoy import wire
from lateen.envoy.check_cache import NOTES, REFUSED_BY
from lateen.plan.model import FileLog, ServiceLog

FILE_LOGGER = "envoy.access_loggers.file"
HTTP_LOGGER = "envoy.access_loggers.http_grpc"
TCP_LOGGER = "envoy.access_loggers.tcp_grpc"
OTEL_LOGGER = "envoy.access_loggers.open_telemetry"
OTEL_TYPE = "type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"
CEL_FILTER = "envoy.access_loggers.extension_filters.cel"

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
CHECKED_TCP_FIELDS: Mapping[str, str] = {
    "mixer_refused_by": f"%DYNAMIC_METADATA(envoy.filters.network.ext_authz:{REFUSED_BY})%",
}
LISTENER_FIELDS: Mapping[str, str] = {
    **_CONNECTION_FIELDS,
    "downstream_transport_failure_reason": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""Of a connection that did not get into any chain."""
_ORIGINAL = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
PATH_WITHOUT_QUERY = "%PATH(NQ:ORIG_OR_PATH)%"
HTTP_FIELDS: Mapping[str, str] = {
    **_CONNECTION_FIELDS,
    "method": "%REQ(:METHOD)%",
    "path": _ORIGINAL,
    "protocol": "%PROTOCOL%",
    "authority": "%REQ(:AUTHORITY)%",
    "route_name": "%ROUTE_NAME%",
    "response_code": "%RESPONSE_CODE%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%REQ(X-B3-TRACEID?TRACEPARENT)%",
}
LIMITED_FIELDS: Mapping[str, str] = {
    "rate_limit": "%RESP(X-LATEEN-RATE-LIMIT)%",
    "rate_limit_dry_run": "%DYNAMIC_METADATA(envoy.filters.http.ratelimit:dry_run)%",
}
CHECKED_FIELDS: Mapping[str, str] = {"mixer_refused_by": f"%DYNAMIC_METADATA({NOTES}:{REFUSED_BY})%"}

_PATHS = re.compile(r"%(?:REQ\((?:X-ENVOY-ORIGINAL-PATH\?)?:PATH\)|PATH\([^)]*\)|PATH)(?::[0-9]+)?%", re.IGNORECASE)
DEFAULT_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"
)
"""The format of Istio's log in text."""


def file_logger(path: str, fields: Mapping[str, str], wanted: Any = None) -> Any:
    """Writes one JSON object a line; a field without a value is null."""
    values = {name: struct_pb2.Value(string_value=value) for name, value in fields.items()}
    formatted = substitution_format_string_pb2.SubstitutionFormatString(json_format=struct_pb2.Struct(fields=values))
    return accesslog_pb2.AccessLog(
        name=FILE_LOGGER,
        filter=wanted,
        typed_config=wire.pack(file_pb2.FileAccessLog(path=path, log_format=formatted)),
    )


def as_received(text: str) -> str:
    """A format of a server's log: callers, and proxies before this one, do not say what path was asked for here."""
    return text.replace(_ORIGINAL, "%REQ(:PATH)%").replace(PATH_WITHOUT_QUERY, "%PATH(NQ:PATH)%")


def provider_logger(log: FileLog, wanted: Any, *, at_server: bool, with_query: bool = True) -> Any:
    """The log of a provider. ``with_query``: paths may be written whole, as no token stands in them."""
    form = substitution_format_string_pb2.SubstitutionFormatString(omit_empty_values=log.omits_empty)
    labels = log.labels
    if log.is_json and not log.labels:
        usual = json.dumps(dict(HTTP_FIELDS))
        labels = as_received(usual) if at_server else usual
    if labels:
        form.json_format.update(json.loads(labels if with_query else _without_query(labels)))
    else:
        text = log.text or (as_received(DEFAULT_TEXT) if at_server else DEFAULT_TEXT)
        whole = text if text.endswith("\n") else f"{text}\n"
        form.text_format_source.inline_string = whole if with_query else _without_query(whole)
    config = wire.pack(file_pb2.FileAccessLog(path=log.path, log_format=form))
    return accesslog_pb2.AccessLog(name=FILE_LOGGER, filter=wanted, typed_config=config)


def service_logger(log: ServiceLog, wanted: Any, *, at_server: bool, with_query: bool = True) -> Any:
    """The log of a provider that is a server. Envoy's gRPC log has paths with their query whatever is asked for."""
    if log.kind == "otel":
        return accesslog_pb2.AccessLog(
            name=OTEL_LOGGER, filter=wanted, typed_config=wire.pack(_otlp(log, at_server, with_query))
        )
    common = _common(log)
    if log.kind == "tcp":
        config = als_pb2.TcpGrpcAccessLogConfig(common_config=common)
        return accesslog_pb2.AccessLog(name=TCP_LOGGER, filter=wanted, typed_config=wire.pack(config))
    config = als_pb2.HttpGrpcAccessLogConfig(
        common_config=common,
        additional_request_headers_to_log=log.request_headers,
        additional_response_headers_to_log=log.response_headers,
        additional_response_trailers_to_log=log.response_trailers,
    )
    return accesslog_pb2.AccessLog(name=HTTP_LOGGER, filter=wanted, typed_config=wire.pack(config))


def _common(log: ServiceLog) -> Any:
    common = als_pb2.CommonGrpcAccessLogConfig(
        log_name=log.name, transport_api_version=config_source_pb2.V3, filter_state_objects_to_log=log.state
    )
    common.grpc_service.envoy_grpc.cluster_name = log.cluster
    common.grpc_service.envoy_grpc.authority = log.host
    return common


def _otlp(log: ServiceLog, at_server: bool, with_query: bool) -> Any:
    """The message's own class knows only where Envoy used to look for the server."""
    text, labels = log.text or (as_received(DEFAULT_TEXT) if at_server else DEFAULT_TEXT), log.labels or "{}"
    if not with_query:
        text, labels = _without_query(text), _without_query(labels)
    settings = struct_pb2.Struct()
    attributes = [{"key": name, "value": {"string_value": value}} for name, value in sorted(json.loads(labels).items())]
    settings.update(
        {
            "grpc_service": {"envoy_grpc": {"cluster_name": log.cluster, "authority": log.host}},
            "log_name": log.name,
            "body": {"string_value": text},
            "attributes": {"values": attributes},
        }
    )
    return typed_struct_pb2.TypedStruct(type_url=OTEL_TYPE, value=settings)


def _without_query(text: str) -> str:
    return _PATHS.sub(PATH_WITHOUT_QUERY, text)


def meeting(expression: str, wanted: Any = None) -> Any:
    """A filter of entries that meet a CEL expression (empty: all do), and ``wanted`` before it, where that is given."""
    if not expression:
        return wanted
    extension = accesslog_pb2.ExtensionFilter(
        name=CEL_FILTER, typed_config=wire.pack(cel_pb2.ExpressionFilter(expression=expression))
    )
    met = accesslog_pb2.AccessLogFilter(extension_filter=extension)
    if wanted is None:
        return met
    return accesslog_pb2.AccessLogFilter(and_filter=accesslog_pb2.AndFilter(filters=[wanted, met]))
