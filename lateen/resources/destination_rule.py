"""DestinationRule (networking.istio.io), and the traffic policy blocks that other kinds use too."""

from __future__ import annotations

from typing import Literal

import msgspec

from lateen.resources.base import Duration, Int32, Spec, Uint32, Uint64, WorkloadSelector
from lateen.resources.virtual_service import PortSelector

Simple = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]


class CookieAttribute(Spec, frozen=True):
    name: str = ""
    value: str = ""


class HttpCookie(Spec, frozen=True):
    name: str = ""
    path: str | None = None
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Spec, frozen=True):
    minimum_ring_size: Uint64 | None = None


class MagLev(Spec, frozen=True):
    table_size: Uint64 | None = None


class ConsistentHash(Spec, frozen=True):
    http_header_name: str | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: Uint64 | None = None


class LocalityDistribute(Spec, frozen=True):
    from_: str = msgspec.field(default="", name="from")
    to: dict[str, Uint32] = {}


class LocalityFailover(Spec, frozen=True):
    from_: str = msgspec.field(default="", name="from")
    to: str = ""


class LocalityLbSetting(Spec, frozen=True):
    enabled: bool | None = None
    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()


class ZoneAwareLbSetting(Spec, frozen=True):
    enabled: bool | None = None
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Uint64 | None = None


class Warmup(Spec, frozen=True):
    duration: Duration | None = None
    minimum_percent: float | None = None
    aggression: float | None = None


class LoadBalancerSettings(Spec, frozen=True):
    simple: Simple | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: Warmup | None = None


class TcpKeepalive(Spec, frozen=True):
    probes: Uint32 | None = None
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Spec, frozen=True):
    max_connections: Int32 | None = None
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Spec, frozen=True):
    interval: Duration | None = None
    timeout: Duration | None = None


class HttpSettings(Spec, frozen=True):
    http1_max_pending_requests: Int32 | None = None
    http2_max_requests: Int32 | None = None
    max_requests_per_connection: Int32 | None = None
    max_retries: Int32 | None = None
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] | None = None
    use_client_protocol: bool | None = None
    max_concurrent_streams: Int32 | None = None
    http2_keep_alive: Http2KeepAlive | None = None


class ConnectionPoolSettings(Spec, frozen=True):
    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


class OutlierDetection(Spec, frozen=True):
    consecutive_5xx_errors: Uint32 | None = msgspec.field(default=None, name="consecutive5xxErrors")
    consecutive_gateway_errors: Uint32 | None = None
    consecutive_errors: Int32 | None = None
    split_external_local_origin_errors: bool | None = None
    consecutive_local_origin_failures: Uint32 | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 | None = None
    min_health_percent: Int32 | None = None
    outlier_detection_http_error_codes: tuple[Uint32, ...] = ()


class ClientTlsSettings(Spec, frozen=True):
    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] | None = None
    client_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    credential_name: str | None = None
    subject_alt_names: tuple[str, ...] = ()
    sni: str | None = None
    insecure_skip_verify: bool | None = None


class PortTrafficPolicy(Spec, frozen=True):
    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None


class Tunnel(Spec, frozen=True):
    protocol: str | None = None
    target_host: str = ""
    target_port: Uint32 = 0


class ProxyProtocol(Spec, frozen=True):
    version: Literal["V1", "V2"] | None = None


class RetryBudget(Spec, frozen=True):
    percent: float | None = None
    min_retry_concurrency: Uint32 | None = None
    budget_interval: Duration | None = None


class TrafficPolicy(Spec, frozen=True):
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: Tunnel | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Spec, frozen=True):
    name: str = ""
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Spec, frozen=True):
    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None
