"""How one proxy is set up: ``defaultConfig`` of the mesh configuration, and the ProxyConfig resource."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lateen.resources.base import Duration, Int32, Spec, Uint32, WorkloadSelector
from lateen.resources.destination_rule import ClientTlsSettings, TcpKeepalive
from lateen.resources.telemetry import CustomTag
from lateen.resources.workload_group import ReadinessProbe

ForwardedClientCert = Literal[
    "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
]


class ProxyImage(Spec, frozen=True):
    image_type: str = ""


class ProxyConfigSpec(Spec, frozen=True):
    """The resource ProxyConfig, which has only a few of the fields."""

    selector: WorkloadSelector | None = None
    concurrency: Int32 | None = None
    environment_variables: dict[str, str] = {}
    image: ProxyImage | None = None


class CollectorAddress(Spec, frozen=True):
    address: str = ""


class LightstepCollector(Spec, frozen=True):
    address: str = ""
    access_token: str = ""


class ProxyTracing(Spec, frozen=True):
    zipkin: CollectorAddress | None = None
    lightstep: LightstepCollector | None = None
    datadog: CollectorAddress | None = None
    stackdriver: dict[str, Any] | None = None
    open_census_agent: dict[str, Any] | None = None
    sampling: float | None = None
    custom_tags: dict[str, CustomTag] = {}
    max_path_tag_length: Uint32 | None = None
    tls_settings: ClientTlsSettings | None = None
    enable_istio_tags: bool | None = None


class RemoteService(Spec, frozen=True):
    address: str = ""
    tls_settings: ClientTlsSettings | None = None
    tcp_keepalive: TcpKeepalive | None = None


class GatewayTopology(Spec, frozen=True):
    num_trusted_proxies: Uint32 = 0
    forward_client_cert_details: ForwardedClientCert | None = None
    proxy_protocol: dict[str, Any] | None = None


class StatsMatcher(Spec, frozen=True):
    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class KeyProvider(Spec, frozen=True):
    poll_delay: Duration | None = None
    fallback: bool | None = None


class PrivateKeyProvider(Spec, frozen=True):
    cryptomb: KeyProvider | None = None
    qat: KeyProvider | None = None


class Disabled(Spec, frozen=True):
    disabled: bool | None = None


class Enabled(Spec, frozen=True):
    enabled: bool | None = None


class ServerHeader(Spec, frozen=True):
    disabled: bool | None = None
    value: str | None = None


class MetadataExchangeHeaders(Spec, frozen=True):
    mode: Literal["UNDEFINED", "IN_MESH"] | None = None


class CertificateDetails(Spec, frozen=True):
    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ProxyHeaders(Spec, frozen=True):
    forwarded_client_cert: ForwardedClientCert | None = None
    set_current_client_cert_details: CertificateDetails | None = None
    request_id: Disabled | None = None
    server: ServerHeader | None = None
    attempt_count: Disabled | None = None
    envoy_debug_headers: Disabled | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    preserve_http1_header_case: bool | None = None
    x_forwarded_host: Enabled | None = None
    x_forwarded_port: Enabled | None = None


class ConnectionSettings(Spec, frozen=True):
    profile: Literal["SIDECAR", "EDGE"] | None = None
    listener_per_connection_buffer_limit_bytes: Uint32 | None = None
    cluster_per_connection_buffer_limit_bytes: Uint32 | None = None
    http_idle_timeout: Duration | None = None
    http_max_connection_duration: Duration | None = None
    http_drain_timeout: Duration | None = None
    http_request_timeout: Duration | None = None
    http_request_headers_timeout: Duration | None = None
    http_stream_idle_timeout: Duration | None = None
    http_max_stream_duration: Duration | None = None
    http_max_concurrent_streams: Uint32 | None = None
    http2_initial_stream_window_size: Uint32 | None = None
    http2_initial_connection_window_size: Uint32 | None = None
    http_headers_with_underscores_action: (
        Literal[
            "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
            "HEADERS_WITH_UNDERSCORES_ALLOW",
            "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
            "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
        ]
        | None
    ) = None
    http_merge_slashes: bool | None = None
    http_path_with_escaped_slashes_action: (
        Literal[
            "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
            "KEEP_UNCHANGED",
            "REJECT_REQUEST",
            "UNESCAPE_AND_REDIRECT",
            "UNESCAPE_AND_FORWARD",
        ]
        | None
    ) = None
    listener_connection_limit: Uint32 | None = None
    global_downstream_connection_limit: Uint32 | None = None


class DefaultConfig(Spec, frozen=True):
    """``defaultConfig``: every field may be left out, and keeps its default then."""

    config_path: str | None = None
    binary_path: str | None = None
    custom_config_file: str | None = None
    proxy_bootstrap_template_path: str | None = None
    service_cluster: str | None = None
    tracing_service_name: (
        Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"] | None
    ) = None
    drain_duration: Duration | None = None
    termination_drain_duration: Duration | None = None
    discovery_address: str | None = None
    discovery_refresh_delay: Duration | None = None
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS", "INHERIT"] | None = None
    proxy_admin_port: Int32 | None = None
    status_port: Int32 | None = None
    stat_name_length: Int32 | None = None
    concurrency: Int32 | None = None
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] | None = None
    tracing: ProxyTracing | None = None
    zipkin_address: str | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    envoy_metrics_service_address: str | None = None
    statsd_udp_address: str | None = None
    availability_zone: str | None = None
    sds: dict[str, Any] | None = None
    proxy_metadata: dict[str, str] = {}
    runtime_values: dict[str, str] = {}
    extra_stat_tags: tuple[str, ...] = ()
    gateway_topology: GatewayTopology | None = None
    mesh_id: str | None = None
    readiness_probe: ReadinessProbe | None = None
    proxy_stats_matcher: StatsMatcher | None = None
    hold_application_until_proxy_starts: bool | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: PrivateKeyProvider | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: Uint32 | None = msgspec.field(default=None, name="fileFlushMinSizeKb")
    stats_compression: bool | None = None
    connection_settings: ConnectionSettings | None = None
