"""Clusters: pools of endpoints with their limits, balancing and protocol.

Comes in: a ``Cluster`` and, where its endpoints are part of it, an ``EndpointSet``. Goes out: Envoy's ``Cluster``.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.extensions.clusters.common.dns.v3 import dns_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2

from lateen.envoy import tls, wire
from lateen.envoy.balancing import add_balancing, balancing_policy, common_balancing
from lateen.envoy.dynamic_dns import dynamic_dns_type
from lateen.envoy.endpoints import load_assignment
from lateen.envoy.health_checks import health_check_message
from lateen.envoy.profile import EnvoyProfile
from lateen.envoy.upstream_protocol import add_protocol_options
from lateen.plan.clusters import (
    Cluster,
    Discovery,
    EndpointSet,
    OutlierDetection,
    TcpKeepalive,
)

DNS_REFRESH = 60.0
DNS_JITTER = 0.1

_Message = cluster_pb2.Cluster
_DISCOVERY = {
    Discovery.EDS: _Message.EDS,
    Discovery.STATIC: _Message.STATIC,
    Discovery.NONE: _Message.STATIC,
    Discovery.ORIGINAL_DST: _Message.ORIGINAL_DST,
}
EMBEDDED = (Discovery.STATIC, Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)
"""How clusters learn endpoints that are written into the cluster itself."""


def cluster_message(cluster: Cluster, embedded: EndpointSet | None, weighted: bool, profile: EnvoyProfile) -> Any:
    """The message of one cluster.

    ``embedded`` are the endpoints of a STATIC or DNS cluster; ``weighted`` says that its localities carry weights.
    """
    message = cluster_pb2.Cluster(
        name=cluster.name,
        connect_timeout=wire.duration(cluster.connect_timeout),
        circuit_breakers=_breakers(cluster),
        lb_policy=balancing_policy(cluster),
        load_assignment=load_assignment(embedded) if embedded is not None else None,
        metadata=_metadata(cluster),
        common_lb_config=common_balancing(cluster, weighted),
    )
    _add_discovery(message, cluster, embedded)
    add_balancing(message, cluster)
    if cluster.health_check is not None:
        message.health_checks.append(health_check_message(cluster.health_check, cluster))
    if cluster.outlier is not None:
        message.outlier_detection.CopyFrom(_outlier_detection(cluster.outlier))
    if cluster.pool.keepalive is not None:
        message.upstream_connection_options.tcp_keepalive.CopyFrom(_keepalive(cluster.pool.keepalive))
    if cluster.source is not None:
        message.upstream_bind_config.CopyFrom(wire.source_binding(cluster.source))
    if cluster.buffer_limit is not None:
        message.per_connection_buffer_limit_bytes.value = cluster.buffer_limit
    add_protocol_options(message, cluster)
    _add_transport(message, cluster, profile)
    return message


def _add_discovery(message: Any, cluster: Cluster, embedded: EndpointSet | None) -> None:
    if cluster.discovery is Discovery.DYNAMIC_DNS:
        message.cluster_type.CopyFrom(dynamic_dns_type())
        return
    if cluster.discovery in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS):
        message.cluster_type.name = "envoy.clusters.dns"
        message.cluster_type.typed_config.CopyFrom(wire.pack(_names(cluster, embedded)))
        return
    message.type = _DISCOVERY[cluster.discovery]
    if cluster.discovery is Discovery.EDS:
        message.eds_cluster_config.eds_config.CopyFrom(wire.over_ads())


def _names(cluster: Cluster, embedded: EndpointSet | None) -> Any:
    """Names are looked up again when their answers expire; ``dns_refresh`` rules where a server gives no time.

    LOGICAL_DNS is of one name: with none, or with several that a selector found, all addresses are members.
    """
    count = sum(len(group.endpoints) for group in embedded.localities) if embedded is not None else 0
    return dns_cluster_pb2.DnsCluster(
        dns_refresh_rate=wire.duration(DNS_REFRESH if cluster.dns_refresh is None else cluster.dns_refresh),
        dns_jitter=wire.duration(DNS_JITTER),
        respect_dns_ttl=True,
        dns_lookup_family=dns_pb2.V4_PREFERRED,
        all_addresses_in_single_endpoint=cluster.discovery is Discovery.LOGICAL_DNS and count == 1,
    )


def _breakers(cluster: Cluster) -> Any:
    """All four limits are written out: Envoy's own defaults (1024 and, for retries, 3) are no policy of anyone.

    A budget takes the place of the fixed limit of retries.
    """
    pool = cluster.pool

    def limit(value: int | None) -> Any:
        return wire.uint32(wire.UNLIMITED if value is None else value)

    thresholds = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=limit(pool.max_connections),
        max_pending_requests=limit(pool.max_pending_requests),
        max_requests=limit(pool.max_requests),
        max_retries=limit(pool.max_retries),
        track_remaining=True,
    )
    budget = cluster.retry_budget
    if budget is not None:
        thresholds.ClearField("max_retries")
        thresholds.retry_budget.budget_percent.value = budget.percent
        thresholds.retry_budget.min_retry_concurrency.value = budget.minimum
    return circuit_breaker_pb2.CircuitBreakers(thresholds=[thresholds])


def _keepalive(keepalive: TcpKeepalive) -> Any:
    """A socket takes whole seconds, and nothing that is 0."""
    return address_pb2.TcpKeepalive(
        keepalive_probes=wire.uint32(keepalive.probes) if keepalive.probes else None,
        keepalive_time=wire.uint32(max(1, round(keepalive.time))) if keepalive.time else None,
        keepalive_interval=wire.uint32(max(1, round(keepalive.interval))) if keepalive.interval else None,
    )


def _outlier_detection(outlier: OutlierDetection) -> Any:
    """Only counts of consecutive failures eject; success rates stay off, as nobody set their thresholds."""
    message = outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=outlier.split_local_origin,
        interval=wire.duration(outlier.interval) if outlier.interval is not None else None,
        base_ejection_time=(
            wire.duration(outlier.base_ejection_time) if outlier.base_ejection_time is not None else None
        ),
        max_ejection_percent=_optional(outlier.max_ejection_percent),
        enforcing_success_rate=wire.uint32(0),
    )
    _add_detector(message, "consecutive_5xx", outlier.consecutive_5xx)
    _add_detector(message, "consecutive_gateway_failure", outlier.consecutive_gateway_errors)
    if outlier.split_local_origin:
        _add_detector(message, "consecutive_local_origin_failure", outlier.consecutive_local_origin_failures)
        message.enforcing_local_origin_success_rate.value = 0
    return message


def _add_detector(message: Any, detector: str, count: int | None) -> None:
    """Count 0 turns a detector off, any other one on, whatever Envoy's default; None leaves it as Envoy has it."""
    if count is None:
        return
    if count:
        getattr(message, detector).value = count
    getattr(message, f"enforcing_{detector}").value = 100 if count else 0


def _optional(value: int | None) -> Any:
    return None if value is None else wire.uint32(value)


def _metadata(cluster: Cluster) -> Any:
    if not cluster.tags:
        return None
    known = (*cluster.tags, (wire.TOLD, cluster.told_service))
    return base_pb2.Metadata(filter_metadata={wire.METADATA_NAMESPACE: wire.text_struct(known)})


def _add_transport(message: Any, cluster: Cluster, profile: EnvoyProfile) -> None:
    """Plain, TLS, or (automatic) TLS towards just those endpoints that are marked as speaking it."""

    def wrapped(socket: Any) -> Any:
        return tls.proxy_protocol_socket(cluster.proxy_protocol, socket) if cluster.proxy_protocol else socket

    client = cluster.tls
    if client is None:
        if cluster.proxy_protocol:
            message.transport_socket.CopyFrom(wrapped(tls.raw_socket()))
    elif client.automatic:
        match = _Message.TransportSocketMatch
        message.transport_socket_matches.extend(
            (
                match(
                    name="tlsMode-istio",
                    match=wire.text_struct([("tlsMode", "istio")]),
                    transport_socket=wrapped(tls.client_socket(client, profile)),
                ),
                match(name="tlsMode-disabled", match=wire.text_struct([]), transport_socket=wrapped(tls.raw_socket())),
            )
        )
    else:
        message.transport_socket.CopyFrom(wrapped(tls.client_socket(client, profile)))
