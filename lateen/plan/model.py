"""The plan of one proxy: listeners, chains, clusters, endpoints and the names of the secrets that they need.

Comes in: values that ``planner.plan_proxy`` derived from the snapshot. Goes out: a frozen, hashable tree that four
consumers read: translation to Envoy, explanation, comparison and analysis. It holds names of secrets, never keys.
Durations are seconds.
"""

from __future__ import annotations

import msgspec

from lateen.plan.access.model import AccessPolicy
from lateen.plan.access.tokens import TokenProvider
from lateen.plan.clusters import Cluster, EndpointSet
from lateen.plan.limits.model import LimitRule
from lateen.plan.mixer.model import MixerCheck, MixerDenial, MixerReport
from lateen.plan.patch_values import Patch
from lateen.plan.proxy import Bind, Proxy
from lateen.plan.routes import RouteTable
from lateen.plan.tls import SecretRef, ServerTls
from lateen.plan.tracing import Tracing
from lateen.values.names import Origin

# --- telemetry ---------------------------------------------------------------------------------------------------


class MetricRule(msgspec.Struct, frozen=True, cache_hash=True):
    """What is different about one metric, which bears the name of Istio's enumeration (``REQUEST_COUNT``).

    ``labels`` maps labels to CEL expressions, or to None where one is left out.
    """

    metric: str
    disabled: bool = False
    labels: tuple[tuple[str, str | None], ...] = ()


class FileLog(msgspec.Struct, frozen=True, cache_hash=True):
    """An access log in a file: ``text`` is the format of an entry, or ``labels`` a JSON object of formats.

    Both empty: Istio's format, as JSON where ``is_json``. ``expression`` is in CEL: what entries meet, empty for all.
    """

    path: str
    text: str = ""
    labels: str = ""
    omits_empty: bool = False
    is_json: bool = False
    expression: str = ""


class ServiceLog(msgspec.Struct, frozen=True, cache_hash=True):
    """An access log of a provider that is a server. ``kind``: http or tcp (Envoy's gRPC log), or otel (OTLP over gRPC).

    ``text`` (of otel) is the body of an entry, ``labels`` a JSON object of formats. ``expression``: as of a file.
    """

    kind: str
    cluster: str
    host: str
    name: str
    text: str = ""
    labels: str = ""
    state: tuple[str, ...] = ()
    request_headers: tuple[str, ...] = ()
    response_headers: tuple[str, ...] = ()
    response_trailers: tuple[str, ...] = ()
    expression: str = ""


class Telemetry(msgspec.Struct, frozen=True, cache_hash=True):
    """What a chain reports, and about whom. ``reporter`` is ``source`` (client side and gateways) or ``destination``.

    ``tags`` are constant labels of this proxy's own side. ``access_log`` is the path of the JSON log, empty for none;
    ``log_expression`` is the CEL expression that its entries meet, empty for all. ``more_logs`` and ``service_logs``
    are those of providers. ``metrics`` are those that differ. ``tracing`` None: nothing is traced.
    ``byte_interval``: how often the agent is told of bytes of connections; None: they are counted in the proxy, at the
    end.
    """

    reporter: str
    tags: tuple[tuple[str, str], ...]
    access_log: str = ""
    access_log_format: str = "json"
    metrics: tuple[MetricRule, ...] = ()
    log_expression: str = ""
    more_logs: tuple[FileLog, ...] = ()
    service_logs: tuple[ServiceLog, ...] = ()
    tracing: Tracing | None = None
    byte_interval: float | None = None


# --- listeners ---------------------------------------------------------------------------------------------------


class HttpOptions(msgspec.Struct, frozen=True, cache_hash=True):
    """How HTTP is spoken, as far as it is said for all proxies; None and empty: Lateen's own default.

    ``trusted_proxies``: how many proxies before this one wrote into X-Forwarded-For. ``certificate_details``: what of
    the client's certificate goes into X-Forwarded-Client-Cert. ``counts_answers``: Envoy counts answers of clusters and
    routes by status and time. ``underscores`` and ``escaped_slashes`` are Envoy's words.
    """

    trusted_proxies: int = 0
    certificate_details: tuple[str, ...] | None = None
    request_id: bool = True
    debug_headers: bool = True
    counts_answers: bool = False
    keeps_header_case: bool = False
    forwarded_port: bool = False
    idle_timeout: float | None = None
    max_connection_duration: float | None = None
    drain_timeout: float | None = None
    request_timeout: float | None = None
    request_headers_timeout: float | None = None
    stream_idle_timeout: float = 0.0
    max_stream_duration: float | None = None
    max_concurrent_streams: int | None = None
    stream_window: int | None = None
    connection_window: int | None = None
    underscores: str = ""
    merge_slashes: bool | None = None
    escaped_slashes: str = ""


class Guards(msgspec.Struct, frozen=True, cache_hash=True):
    """What requests have to pass, by rules that ride in the route table: access, limits of rates, Mixer's checks."""

    access: AccessPolicy = AccessPolicy()
    limits: tuple[LimitRule, ...] = ()
    mixer: MixerCheck | None = None
    denials: tuple[MixerDenial, ...] = ()


OPEN = Guards()


class HttpChain(msgspec.Struct, frozen=True, cache_hash=True, tag=True):
    """Speak HTTP. Routes come by RDS under ``route_table``, or are ``inline``.

    ``forwarded_client_cert``: sanitize, forward_only, append_forward, sanitize_set, always_forward_only.
    ``trust_edge``: this is where outside clients arrive (their address is the peer's, mesh-internal headers are
    dropped).
    ``serves_mesh``: who comes over mutual TLS is a proxy of the mesh, and believed what it says of a request.
    ``grpc``: gRPC may come here, so its messages are counted; not where no more than HTTP/1.1 goes on.
    ``grpc_web``: gRPC-Web is turned into gRPC. ``http10``: HTTP/1.0 is accepted. ``dynamic_dns``: routes may lead to
    clusters that look the request's host up. ``tokens``: JWT are looked at. ``limits`` of rates hold (None: never).
    ``mixer``: whom rules of Mixer ask; ``denials``: what they refuse without asking.
    ``report``: whom they tell.
    """

    stat_prefix: str
    route_table: str = ""
    inline: RouteTable | None = None
    access: AccessPolicy = AccessPolicy()
    telemetry: Telemetry | None = None
    forwarded_client_cert: str = "sanitize"
    trust_edge: bool = False
    serves_mesh: bool = False
    server_name: str = ""
    idle_timeout: float | None = None
    websocket: bool = True
    grpc: bool = True
    grpc_web: bool = False
    http10: bool = False
    dynamic_dns: bool = False
    options: HttpOptions | None = None
    tokens: tuple[TokenProvider, ...] = ()
    limits: tuple[LimitRule, ...] | None = None
    mixer: MixerCheck | None = None
    denials: tuple[MixerDenial, ...] = ()
    report: MixerReport | None = None

    @property
    def guards(self) -> Guards:
        """What rides in its route table."""
        return Guards(self.access, self.limits or (), self.mixer, self.denials)


class TcpTarget(msgspec.Struct, frozen=True):
    cluster: str
    weight: int = 1


class Tunnel(msgspec.Struct, frozen=True):
    """Bytes go through an HTTP proxy: ``method`` CONNECT or POST, ``target`` as host:port."""

    method: str
    target: str


class TcpChain(msgspec.Struct, frozen=True, cache_hash=True, tag=True):
    """Pass bytes on to one of the weighted clusters.

    ``upstream_alpn`` takes the place of what a cluster would offer in its TLS handshake; ``hash_source_ip`` balances
    by the client's address; ``tunnel`` is for all targets. Where ``access`` guards, the server is not called before the
    client's first bytes, with which rules are looked at, unless it is ``server_first``. ``looks_up_port``: where the
    server name that the client says is looked up in DNS, the port to call there.
    """

    stat_prefix: str
    targets: tuple[TcpTarget, ...]
    access: AccessPolicy = AccessPolicy()
    telemetry: Telemetry | None = None
    idle_timeout: float | None = None
    upstream_alpn: tuple[str, ...] = ()
    hash_source_ip: bool = False
    tunnel: Tunnel | None = None
    server_first: bool = False
    looks_up_port: int | None = None
    mixer: MixerCheck | None = None
    report: MixerReport | None = None


class ChainMatch(msgspec.Struct, frozen=True):
    """Which connections a chain takes; empty fields match all. ``transport_protocol`` is ``tls`` or ``raw_buffer``.

    ``prefix_ranges`` are blocks of destination addresses, ``source_ranges`` of the client's.
    """

    destination_port: int | None = None
    prefix_ranges: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()


class Chain(msgspec.Struct, frozen=True, cache_hash=True):
    """A match, optional TLS, and what to do with the bytes."""

    name: str
    match: ChainMatch
    action: HttpChain | TcpChain
    origin: Origin
    tls: ServerTls | None = None


class Listener(msgspec.Struct, frozen=True, cache_hash=True):
    """One listening socket, or (``bind_to_port`` False) a virtual one reached by ``use_original_dst`` of another.

    ``original_dst``: restore the destination before the redirect. ``inspect_tls``/``inspect_http``: sniff first
    bytes, for at most ``sniffing_limit`` seconds (0: without limit), after which the connection counts as opaque.
    ``other_addresses`` are listened on too, at the same port.
    ``tls_uninspected`` and ``http_uninspected`` are destination ports where that sniffing is not needed: a server that
    speaks first is not kept waiting there.
    ``buffer_limit``: bytes that one connection may hold back. ``proxy_protocol``: connections begin with a PROXY
    header.
    ``direction`` is ``inbound`` or ``outbound``. ``at_edge``: strangers connect here, who have to say soon what they
    want.
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
    sniffing_limit: float = 0.0
    tls_uninspected: tuple[int, ...] = ()
    http_uninspected: tuple[int, ...] = ()
    other_addresses: tuple[str, ...] = ()
    access_log: str = ""
    at_edge: bool = False
    buffer_limit: int | None = None
    proxy_protocol: bool = False


# --- the whole ---------------------------------------------------------------------------------------------------


class Destinations(msgspec.Struct, frozen=True, cache_hash=True):
    """Pools and their members that several proxies have in common, as one object, so that they are translated once."""

    clusters: tuple[Cluster, ...] = ()
    endpoints: tuple[EndpointSet, ...] = ()


class ProxyPlan(msgspec.Struct, frozen=True):
    """Everything that one proxy does. ``clusters`` and ``endpoints`` are its own, beside those in ``shared``.

    ``patches`` of EnvoyFilters are applied to what the rest is translated to, in their order.
    """

    proxy: Proxy
    listeners: tuple[Listener, ...]
    route_tables: tuple[RouteTable, ...]
    clusters: tuple[Cluster, ...]
    endpoints: tuple[EndpointSet, ...]
    secrets: tuple[SecretRef, ...] = ()
    shared: Destinations = Destinations()
    patches: tuple[Patch, ...] = ()

    @property
    def all_clusters(self) -> tuple[Cluster, ...]:
        return (*self.shared.clusters, *self.clusters)

    @property
    def all_endpoints(self) -> tuple[EndpointSet, ...]:
        return (*self.shared.endpoints, *self.endpoints)
