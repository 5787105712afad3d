"""How a cluster speaks to its endpoints: HTTP/1.1, HTTP/2, as the client did, or bytes alone.

Comes in: a ``Cluster``. Goes out: the protocol options on Envoy's ``Cluster``.
"""

from __future__ import annotations

from typing import Any

from envoy.config.common.matcher.v3 import matcher_pb2
from envoy.config.core.v3 import extension_pb2, protocol_pb2
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.extensions.upstreams.tcp.v3 import tcp_protocol_options_pb2
from envoy.type.v3 import range_pb2

from lateen.envoy import wire
from lateen.plan.clusters import Cluster, ConnectionPool, Discovery
from lateen.plan.tls import ClientTls

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
PRESERVE_CASE = "envoy.http.stateful_header_formatters.preserve_case"
TCP_OPTIONS = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions"


def add_protocol_options(message: Any, cluster: Cluster) -> None:
    """Write the options into ``message``."""
    if cluster.protocol != "tcp":
        message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(wire.pack(_http_options(cluster)))
    elif cluster.pool.tcp_idle_timeout is not None:
        options = tcp_protocol_options_pb2.TcpProtocolOptions(idle_timeout=wire.duration(cluster.pool.tcp_idle_timeout))
        message.typed_extension_protocol_options[TCP_OPTIONS].CopyFrom(wire.pack(options))


def _http_options(cluster: Cluster) -> Any:
    options = http_protocol_options_pb2.HttpProtocolOptions(common_http_protocol_options=_common(cluster.pool))
    if cluster.protocol == "http1":
        options.explicit_http_config.http_protocol_options.CopyFrom(_http1(cluster))
    elif cluster.protocol == "http2":
        options.explicit_http_config.http2_protocol_options.CopyFrom(_http2(cluster.pool))
    elif cluster.protocol == "client":
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(_http1(cluster))
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(_http2(cluster.pool))
    else:
        raise ValueError(f"cluster {cluster.name!r}: no protocol {cluster.protocol!r}")
    if cluster.discovery is Discovery.DYNAMIC_DNS:
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = True
    elif cluster.tls is not None and cluster.tls.auto_sni:
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = cluster.tls.verify and not cluster.tls.sans
    if cluster.outlier is not None and cluster.outlier.http_error_codes:
        options.outlier_detection.error_matcher.CopyFrom(_error_codes(cluster.outlier.http_error_codes))
    return options


def speaks_mesh_tls(tls: ClientTls | None) -> bool:
    return tls is not None and tls.certificate is not None and tls.certificate.local


def _common(pool: ConnectionPool) -> Any:
    idle = pool.http_idle_timeout if pool.http_idle_timeout is not None else pool.tcp_idle_timeout
    options = protocol_pb2.HttpProtocolOptions()
    if idle is not None:
        options.idle_timeout.CopyFrom(wire.duration(idle))
    if pool.max_connection_duration is not None:
        options.max_connection_duration.CopyFrom(wire.duration(pool.max_connection_duration))
    if pool.max_requests_per_connection:
        options.max_requests_per_connection.value = pool.max_requests_per_connection
    return options


def _http1(cluster: Cluster) -> Any:
    options = protocol_pb2.Http1ProtocolOptions()
    if cluster.keeps_header_case:
        keep_header_case(options)
    return options


def keep_header_case(options: Any) -> None:
    """Names of HTTP/1 headers are passed on as they were written; otherwise they are in lower case."""
    formatter = wire.pack(preserve_case_pb2.PreserveCaseFormatterConfig())
    options.header_key_format.stateful_formatter.CopyFrom(
        extension_pb2.TypedExtensionConfig(name=PRESERVE_CASE, typed_config=formatter)
    )


def _http2(pool: ConnectionPool) -> Any:
    """Upgrades (WebSocket) cross HTTP/2 as extended CONNECT, hence ``allow_connect``."""
    options = protocol_pb2.Http2ProtocolOptions(allow_connect=True)
    if pool.max_concurrent_streams is not None:
        options.max_concurrent_streams.value = pool.max_concurrent_streams
    if pool.http2_keepalive is not None:
        interval, timeout = pool.http2_keepalive
        options.connection_keepalive.interval.CopyFrom(wire.duration(interval))
        options.connection_keepalive.timeout.CopyFrom(wire.duration(timeout))
    return options


def _error_codes(codes: tuple[int, ...]) -> Any:
    """A predicate on the response's status: 5xx, or one of the codes."""
    ranges = [(500, 600), *((code, code + 1) for code in codes)]
    return matcher_pb2.MatchPredicate(
        or_match=matcher_pb2.MatchPredicate.MatchSet(rules=[_status_in(first, end) for first, end in ranges])
    )


def _status_in(first: int, end: int) -> Any:
    match = matcher_pb2.HttpHeadersMatch()
    match.headers.add(name=":status", range_match=range_pb2.Int64Range(start=first, end=end))
    return matcher_pb2.MatchPredicate(http_response_headers_match=match)
