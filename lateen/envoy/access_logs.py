"""Access logs: one JSON object a line, with Istio's keys and a few more.

Comes in: fields and their formats. Goes out: file loggers. A field without a value is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import substitution_format_string_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from google.protobuf import struct_pb2

from lateen.envoy import wire

FILE_LOGGER = "envoy.access_loggers.file"
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


def file_logger(path: str, fields: Mapping[str, str], wanted: Any = None) -> Any:
    """Writes one JSON object a line; a field without a value is null."""
    values = {name: struct_pb2.Value(string_value=value) for name, value in fields.items()}
    formatted = substitution_format_string_pb2.SubstitutionFormatString(json_format=struct_pb2.Struct(fields=values))
    return accesslog_pb2.AccessLog(
        name=FILE_LOGGER,
        filter=wanted,
        typed_config=wire.pack(file_pb2.FileAccessLog(path=path, log_format=formatted)),
    )


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
