"""Load-balancing pools and their members, as one proxy uses them. Durations are seconds."""

from __future__ import annotations

import enum

import msgspec

from lateen.plan.hashing import HashPolicy
from lateen.plan.proxy import Bind
from lateen.plan.tls import ClientTls
from lateen.values.names import Origin
from lateen.values.told_names import joined


class Discovery(enum.Enum):
    """How a cluster learns its endpoints."""

    EDS = "eds"
    STATIC = "static"
    STRICT_DNS = "strict_dns"
    LOGICAL_DNS = "logical_dns"
    ORIGINAL_DST = "original_dst"
    DYNAMIC_DNS = "dynamic_dns"
    NONE = "none"


class LoadBalancing(enum.Enum):
    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    RANDOM = "random"
    RING_HASH = "ring_hash"
    MAGLEV = "maglev"
    PROVIDED = "provided"


class TcpKeepalive(msgspec.Struct, frozen=True):
    probes: int | None = None
    time: float | None = None
    interval: float | None = None


class ConnectionPool(msgspec.Struct, frozen=True):
    """Limits; None leaves Envoy's default (unlimited for the breakers)."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    max_requests_per_connection: int | None = None
    max_connection_duration: float | None = None
    http_idle_timeout: float | None = None
    tcp_idle_timeout: float | None = None
    max_concurrent_streams: int | None = None
    keepalive: TcpKeepalive | None = None
    http2_keepalive: tuple[float, float] | None = None


class Warmup(msgspec.Struct, frozen=True):
    """How a new endpoint gets its share bit by bit. ``minimum_percent`` is its share at first."""

    duration: float
    minimum_percent: float = 10.0
    aggression: float = 1.0


class RetryBudget(msgspec.Struct, frozen=True):
    """How many retries may run beside active and pending requests, in per cent; ``minimum`` always may."""

    percent: float = 20.0
    minimum: int = 3


class HealthCheck(msgspec.Struct, frozen=True):
    """Active health: ``kind`` is http, grpc or tcp; ``target`` the path or the gRPC service."""

    kind: str
    interval: float
    timeout: float
    jitter_percent: int
    unhealthy_threshold: int
    healthy_threshold: int
    target: str = ""
    host: str = ""
    expected_statuses: tuple[int, ...] = ()


class OutlierDetection(msgspec.Struct, frozen=True):
    """Passive health; None leaves Envoy's default, 0 for a count turns that detector off."""

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    split_local_origin: bool = False
    consecutive_local_origin_failures: int | None = None
    interval: float | None = None
    base_ejection_time: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None
    http_error_codes: tuple[int, ...] = ()


SERVICE_TAGS = ("service", "service_name", "service_namespace")


class Cluster(msgspec.Struct, frozen=True, cache_hash=True):
    """A load-balancing pool. ``protocol`` is ``tcp``, ``http1``, ``http2`` or ``client`` (as the downstream spoke).

    ``hash_policy``: how routes to this cluster tell clients apart, for RING_HASH and MAGLEV. ``weighs_localities``: the
    weights of localities count. ``buffer_limit``: bytes that one connection may hold back. ``keeps_header_case``: names
    of HTTP/1 headers stay as they were written.
    ``tags`` describe the destination service for telemetry (``service``, ``service_name``, ``service_namespace``).
    """

    name: str
    discovery: Discovery
    origin: Origin
    protocol: str = "tcp"
    connect_timeout: float = 10.0
    load_balancing: LoadBalancing = LoadBalancing.LEAST_REQUEST
    minimum_ring_size: int | None = None
    maglev_table_size: int | None = None
    pool: ConnectionPool = ConnectionPool()
    outlier: OutlierDetection | None = None
    tls: ClientTls | None = None
    source: Bind | None = None
    tags: tuple[tuple[str, str], ...] = ()
    dns_refresh: float | None = None
    proxy_protocol: str = ""
    warmup: Warmup | None = None
    retry_budget: RetryBudget | None = None
    health_check: HealthCheck | None = None
    hash_policy: HashPolicy | None = None
    weighs_localities: bool = False
    buffer_limit: int | None = None
    keeps_header_case: bool = False

    @property
    def told_service(self) -> str:
        """The service as one text: HOST/NAME/NAMESPACE."""
        known = dict(self.tags)
        return joined(tuple(known.get(tag, "") for tag in SERVICE_TAGS))


class Endpoint(msgspec.Struct, frozen=True, cache_hash=True):
    """One member of a pool: ``address`` is an IP, a DNS name (DNS clusters) or ``unix:///path`` (port 0)."""

    address: str
    port: int
    weight: int = 1
    healthy: bool = True
    mesh_tls: bool = False
    workload: str = ""
    tags: tuple[tuple[str, str], ...] = ()


class LocalityEndpoints(msgspec.Struct, frozen=True, cache_hash=True):
    """Endpoints of one locality (``region/zone/subzone``, empty if unknown) at one priority (0 first)."""

    locality: str
    endpoints: tuple[Endpoint, ...]
    priority: int = 0
    weight: int | None = None


class EndpointSet(msgspec.Struct, frozen=True, cache_hash=True):
    """The endpoints of the cluster of that name: delivered by EDS, or inside a STATIC or DNS cluster. ``service`` is
    what telemetry calls the service (``Cluster.told_service``)."""

    cluster: str
    localities: tuple[LocalityEndpoints, ...]
    service: str = "//"
