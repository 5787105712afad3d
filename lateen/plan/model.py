"""The plan of one proxy: listeners, chains, clusters, endpoints and the names of the secrets that they need.

Comes in: values that ``planner.plan_proxy`` derived from the snapshot. Goes out: a frozen, hashable tree that four
consumers read: translation to Envoy, explanation, comparison and analysis. It holds names of secrets, never keys.
Durations are seconds.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.plan.access import AccessPolicy
from lateen.plan.routes import RouteTable
from lateen.values.names import Origin, ResourceKey

# --- the proxy ---------------------------------------------------------------------------------------------------


class ProxyType(enum.Enum):
    SIDECAR = "sidecar"
    GATEWAY = "gateway"


class NamespacesNetwork(msgspec.Struct, frozen=True, tag="namespaces"):
    """Proxies stand in the machine's namespace and open sockets in these, named by file."""

    workload_netns: str = ""
    mesh_netns: str = ""


class LoopbackNetwork(msgspec.Struct, frozen=True, tag="loopback"):
    """No namespaces: this proxy's view of the mesh is 127.<prefix>.0.0/16."""

    prefix: int


class PodNetwork(msgspec.Struct, frozen=True, tag="pod"):
    """Proxy and application share one network namespace with redirected traffic, as in a Kubernetes pod."""


ProxyNetwork = NamespacesNetwork | LoopbackNetwork | PodNetwork


class Proxy(msgspec.Struct, frozen=True):
    """Who a plan is for: a sidecar beside one workload replica, or one gateway."""

    id: str
    type: ProxyType
    namespace: str
    workload: str
    labels: tuple[tuple[str, str], ...]
    service_account: str
    address: str
    network: ProxyNetwork = PodNetwork()
    services: tuple[str, ...] = ()


# --- TLS ---------------------------------------------------------------------------------------------------------


class SecretRef(msgspec.Struct, frozen=True):
    """A certificate or trust bundle by its SDS name. ``local`` ones come from the workload's own agent
    (``default``, ``ROOTCA``); the others over ADS from the Secret resource ``source``, or from the named files."""

    name: str
    local: bool = False
    source: ResourceKey | None = None
    certificate_file: str = ""
    key_file: str = ""
    ca_file: str = ""


WORKLOAD_CERTIFICATE = SecretRef("default", local=True)
MESH_ROOTS = SecretRef("ROOTCA", local=True)


class ServerTls(msgspec.Struct, frozen=True):
    """TLS as a server. ``roots`` set: client certificates are verified, and required if ``require_client``.

    ``client_trust_domains`` limits mesh clients to SPIFFE ids of these trust domains.
    """

    certificate: SecretRef
    origin: Origin
    roots: SecretRef | None = None
    require_client: bool = False
    client_trust_domains: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    min_version: str = "TLSV1_2"
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()


class ClientTls(msgspec.Struct, frozen=True):
    """TLS as a client. ``sans`` are exact subject names of the server, any one of which must match.

    ``automatic``: only towards endpoints that speak mesh TLS (``Endpoint.mesh_tls``), plain text to the others.
    ``system_roots``: verify against the machine's CA bundle. ``verify`` False: accept any certificate.
    """

    origin: Origin
    certificate: SecretRef | None = None
    roots: SecretRef | None = None
    system_roots: bool = False
    verify: bool = True
    sans: tuple[str, ...] = ()
    sni: str = ""
    auto_sni: bool = False
    alpn: tuple[str, ...] = ()
    automatic: bool = False


# --- telemetry ---------------------------------------------------------------------------------------------------


class Telemetry(msgspec.Struct, frozen=True):
    """What a chain reports, and about whom. ``reporter`` is ``source`` (client side and gateways) or ``destination``.

    ``tags`` are constant labels of this proxy's own side. ``access_log`` is the path of the JSON log, empty for none.
    """

    reporter: str
    tags: tuple[tuple[str, str], ...]
    access_log: str = ""
    access_log_format: str = "json"


# --- listeners ---------------------------------------------------------------------------------------------------


class HttpChain(msgspec.Struct, frozen=True, tag=True):
    """Speak HTTP. Routes come by RDS under ``route_table``, or are ``inline``.

    ``forwarded_client_cert``: sanitize, append_forward, sanitize_set. ``trust_edge``: this is where outside clients
    arrive (their address is the peer's, mesh-internal headers are dropped).
    ``mesh_headers``: ``add`` (client side of a mesh hop), ``take`` (read after mTLS, then remove) or ``drop``.
    """

    stat_prefix: str
    route_table: str = ""
    inline: RouteTable | None = None
    access: AccessPolicy = AccessPolicy()
    telemetry: Telemetry | None = None
    forwarded_client_cert: str = "sanitize"
    trust_edge: bool = False
    mesh_headers: str = "drop"
    server_name: str = ""
    has_fault: bool = False
    has_cors: bool = False
    idle_timeout: float | None = None
    websocket: bool = True


class TcpTarget(msgspec.Struct, frozen=True):
    cluster: str
    weight: int = 1


class TcpChain(msgspec.Struct, frozen=True, tag=True):
    """Pass bytes on to one of the weighted clusters."""

    stat_prefix: str
    targets: tuple[TcpTarget, ...]
    access: AccessPolicy = AccessPolicy()
    telemetry: Telemetry | None = None
    idle_timeout: float | None = None


class ChainMatch(msgspec.Struct, frozen=True):
    """Which connections a chain takes; empty fields match all. ``transport_protocol`` is ``tls`` or ``raw_buffer``."""

    destination_port: int | None = None
    prefix_ranges: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()


class Chain(msgspec.Struct, frozen=True):
    """A match, optional TLS, and what to do with the bytes."""

    name: str
    match: ChainMatch
    action: HttpChain | TcpChain
    origin: Origin
    tls: ServerTls | None = None


class Bind(msgspec.Struct, frozen=True):
    """Where a socket stands: address (empty: any), port (0: any), network namespace file (empty: the proxy's own)."""

    address: str
    port: int = 0
    netns: str = ""


class Listener(msgspec.Struct, frozen=True):
    """One listening socket, or (``bind_to_port`` False) a virtual one reached by ``use_original_dst`` of another.

    ``original_dst``: restore the destination before the redirect. ``inspect_tls``/``inspect_http``: sniff first bytes.
    ``direction`` is ``inbound`` or ``outbound``.
    """

    name: str
    bind: Bind
    direction: str
    chains: tuple[Chain, ...]
    origin: Origin
    default_chain: Chain | None = None
    bind_to_port: bool = True
    use_original_dst: bool = False
    original_dst: bool = False
    inspect_tls: bool = False
    inspect_http: bool = False
    access_log: str = ""


# --- clusters ----------------------------------------------------------------------------------------------------


class Discovery(enum.Enum):
    """How a cluster learns its endpoints."""

    EDS = "eds"
    STATIC = "static"
    STRICT_DNS = "strict_dns"
    LOGICAL_DNS = "logical_dns"
    ORIGINAL_DST = "original_dst"
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


class Cluster(msgspec.Struct, frozen=True):
    """A load-balancing pool. ``protocol`` is ``tcp``, ``http1``, ``http2`` or ``client`` (as the downstream spoke).

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


class Endpoint(msgspec.Struct, frozen=True):
    """One member of a pool: ``address`` is an IP, a DNS name (DNS clusters) or ``unix:///path`` (port 0)."""

    address: str
    port: int
    weight: int = 1
    healthy: bool = True
    mesh_tls: bool = False
    workload: str = ""
    tags: tuple[tuple[str, str], ...] = ()


class LocalityEndpoints(msgspec.Struct, frozen=True):
    """Endpoints of one locality (``region/zone/subzone``, empty if unknown) at one priority (0 first)."""

    locality: str
    endpoints: tuple[Endpoint, ...]
    priority: int = 0
    weight: int | None = None


class EndpointSet(msgspec.Struct, frozen=True):
    """The endpoints of the cluster of that name: delivered by EDS, or inside a STATIC or DNS cluster."""

    cluster: str
    localities: tuple[LocalityEndpoints, ...]


# --- the whole ---------------------------------------------------------------------------------------------------


class ProxyPlan(msgspec.Struct, frozen=True):
    """Everything that one proxy does."""

    proxy: Proxy
    listeners: tuple[Listener, ...]
    route_tables: tuple[RouteTable, ...]
    clusters: tuple[Cluster, ...]
    endpoints: tuple[EndpointSet, ...]
    secrets: tuple[SecretRef, ...] = ()
