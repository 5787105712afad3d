"""Active health checks of the members of a cluster.

Comes in: a ``HealthCheck``. Goes out: Envoy's. A pool that nobody calls is checked as often as one that is called: a
member that is found dead before the first request costs none.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import health_check_pb2
from envoy.type.v3 import http_pb2, range_pb2

from lateen.envoy import wire
from lateen.plan.clusters import Cluster, HealthCheck

SUCCESS = ((200, 400),)


def health_check_message(check: HealthCheck, cluster: Cluster) -> Any:
    """The message of one check; HTTP goes in the version that the cluster speaks."""
    message = health_check_pb2.HealthCheck(
        timeout=wire.duration(check.timeout),
        interval=wire.duration(check.interval),
        interval_jitter_percent=check.jitter_percent,
        unhealthy_threshold=wire.uint32(check.unhealthy_threshold),
        healthy_threshold=wire.uint32(check.healthy_threshold),
        no_traffic_interval=wire.duration(check.interval),
    )
    if check.kind == "http":
        http = message.http_health_check
        http.path = check.target
        http.host = check.host or _host(cluster)
        http.codec_client_type = http_pb2.HTTP2 if cluster.protocol == "http2" else http_pb2.HTTP1
        ranges = [(status, status + 1) for status in check.expected_statuses] or SUCCESS
        http.expected_statuses.extend(range_pb2.Int64Range(start=first, end=end) for first, end in ranges)
    elif check.kind == "grpc":
        message.grpc_health_check.service_name = check.target
        message.grpc_health_check.authority = _host(cluster)
    else:
        message.tcp_health_check.SetInParent()
    return message


def _host(cluster: Cluster) -> str:
    """The service's host name, which the cluster's name ends with."""
    return cluster.name.rpartition("|")[2]
