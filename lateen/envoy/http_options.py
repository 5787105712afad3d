"""Options of a connection manager that a mesh sets for all proxies, or a chain for itself.

Comes in: ``HttpOptions`` of a chain. Goes out: the same on Envoy's ``HttpConnectionManager``, over what is there.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from lateen.envoy import wire
from lateen.envoy.upstream_protocol import keep_header_case
from lateen.plan.model import HttpChain, HttpOptions

_Manager = http_connection_manager_pb2.HttpConnectionManager
_Underscores = protocol_pb2.HttpProtocolOptions.HeadersWithUnderscoresAction
_UNDERSCORES = {
    "ALLOW": _Underscores.ALLOW,
    "REJECT_REQUEST": _Underscores.REJECT_REQUEST,
    "DROP_HEADER": _Underscores.DROP_HEADER,
}


def add_options(manager: Any, chain: HttpChain) -> None:
    """Write the options into ``manager``; a chain's own idle timeout is stronger."""
    options, common = chain.options or HttpOptions(), manager.common_http_protocol_options
    for field, seconds in (
        (common.idle_timeout, chain.idle_timeout if chain.idle_timeout is not None else options.idle_timeout),
        (common.max_connection_duration, options.max_connection_duration),
        (common.max_stream_duration, options.max_stream_duration),
        (manager.stream_idle_timeout, options.stream_idle_timeout),
        (manager.drain_timeout, options.drain_timeout),
        (manager.request_timeout, options.request_timeout),
        (manager.request_headers_timeout, options.request_headers_timeout),
    ):
        if seconds is not None:
            field.CopyFrom(wire.duration(seconds))
    if options.underscores:
        common.headers_with_underscores_action = _UNDERSCORES[options.underscores]
    http2 = manager.http2_protocol_options
    for field, value in (
        (http2.max_concurrent_streams, options.max_concurrent_streams),
        (http2.initial_stream_window_size, options.stream_window),
        (http2.initial_connection_window_size, options.connection_window),
    ):
        if value is not None:
            field.value = value
    manager.xff_num_trusted_hops = options.trusted_proxies
    manager.append_x_forwarded_port = options.forwarded_port
    if not options.request_id:
        manager.generate_request_id.value = False
    if options.keeps_header_case:
        keep_header_case(manager.http_protocol_options)
    if options.merge_slashes is not None:
        manager.merge_slashes = options.merge_slashes
    if options.escaped_slashes:
        action = _Manager.PathWithEscapedSlashesAction.Value(options.escaped_slashes)
        manager.path_with_escaped_slashes_action = action
