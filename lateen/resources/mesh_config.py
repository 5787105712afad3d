"""MeshConfig: options of the whole mesh. Every field may be left out, and keeps its default then."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lateen.resources.base import Duration, Int32, Spec, Uint32
from lateen.resources.destination_rule import (
    ClientTlsSettings,
    ConnectionPoolSettings,
    LocalityLbSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLbSetting,
)
from lateen.resources.gateway import TlsVersion
from lateen.resources.proxy_config import DefaultConfig
from lateen.resources.virtual_service import HttpRetry


class MeshOutboundTrafficPolicy(Spec, frozen=True):
    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] | None = None
    tls: ClientTlsSettings | None = None


class InboundTrafficPolicy(Spec, frozen=True):
    mode: Literal["PASSTHROUGH", "LOCALHOST"] | None = None


class ConfigSource(Spec, frozen=True):
    address: str = ""
    tls_settings: ClientTlsSettings | None = None
    subscribed_resources: tuple[Literal["SERVICE_REGISTRY"], ...] = ()


class CaCertificate(Spec, frozen=True):
    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class DnsCertificate(Spec, frozen=True):
    secret_name: str = ""
    dns_names: tuple[str, ...] = ()


class ClusterLocal(Spec, frozen=True):
    cluster_local: bool | None = None


class ServiceSettings(Spec, frozen=True):
    settings: ClusterLocal | None = None
    hosts: tuple[str, ...] = ()


class LabelRequirement(Spec, frozen=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class KubernetesSelector(Spec, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()


class ServiceScope(Spec, frozen=True):
    namespace_selector: KubernetesSelector | None = None
    services_selector: KubernetesSelector | None = None
    scope: Literal["LOCAL", "GLOBAL"] | None = None


class ExternalCa(Spec, frozen=True):
    address: str = ""
    tls_settings: ClientTlsSettings | None = None
    request_timeout: Duration | None = None
    istiod_side: bool | None = None


class DefaultProviders(Spec, frozen=True):
    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


class PathNormalization(Spec, frozen=True):
    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] | None = None


class TlsConfig(Spec, frozen=True):
    min_protocol_version: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()


CURVES = frozenset({"P-224", "P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"})
"""The curves of ``ecdhCurves`` that the proxy knows."""


def usable_curves(names: tuple[str, ...]) -> tuple[str, ...]:
    """The known ones, each once, in order."""
    return tuple(name for name in dict.fromkeys(names) if name in CURVES)


class DefaultTrafficPolicy(Spec, frozen=True):
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


class RequestBody(Spec, frozen=True):
    max_request_bytes: Uint32 = 0
    allow_partial_message: bool | None = None
    pack_as_bytes: bool | None = None


class RemoteProvider(Spec, frozen=True):
    """What every provider has that is a service of the mesh: ``service`` is a host or namespace/host."""

    service: str = ""
    port: Uint32 = 0


class ExtAuthzGrpc(RemoteProvider, frozen=True):
    timeout: Duration | None = None
    fail_open: bool | None = None
    clear_route_cache: bool | None = None
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


class ExtAuthzHttp(ExtAuthzGrpc, frozen=True):
    path_prefix: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: dict[str, str] = {}
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class ProviderHeader(Spec, frozen=True):
    name: str = ""
    value: str | None = None
    env_name: str | None = None


class TracingProvider(RemoteProvider, frozen=True):
    max_tag_length: Uint32 | None = None


class ZipkinProvider(TracingProvider, frozen=True):
    enable_64bit_trace_id: bool | None = msgspec.field(default=None, name="enable64bitTraceId")
    path: str = ""
    trace_context_option: Literal["USE_B3", "USE_B3_WITH_W3C_PROPAGATION"] | None = None
    timeout: Duration | None = None
    headers: tuple[ProviderHeader, ...] = ()


class LightstepProvider(TracingProvider, frozen=True):
    access_token: str = ""


class SkywalkingProvider(RemoteProvider, frozen=True):
    access_token: str = ""


class OpencensusProvider(TracingProvider, frozen=True):
    context: tuple[Literal["UNSPECIFIED", "W3C_TRACE_CONTEXT", "GRPC_BIN", "CLOUD_TRACE_CONTEXT", "B3"], ...] = ()


class OpentelemetryHttp(Spec, frozen=True):
    path: str = ""
    timeout: Duration | None = None
    headers: tuple[ProviderHeader, ...] = ()


class OpentelemetryGrpc(Spec, frozen=True):
    timeout: Duration | None = None
    initial_metadata: tuple[ProviderHeader, ...] = ()


class OpentelemetryProvider(TracingProvider, frozen=True):
    http: OpentelemetryHttp | None = None
    grpc: OpentelemetryGrpc | None = None
    resource_detectors: dict[str, Any] | None = None
    service_attribute_enrichment: Literal["ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"] | None = None
    dynatrace_sampler: dict[str, Any] | None = None


class LogFormat(Spec, frozen=True):
    text: str | None = None
    labels: dict[str, Any] | None = None


class FileAccessLog(Spec, frozen=True):
    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool | None = None


class TcpAccessLogService(RemoteProvider, frozen=True):
    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()


class HttpAccessLogService(TcpAccessLogService, frozen=True):
    additional_request_headers_to_log: tuple[str, ...] = ()
    additional_response_headers_to_log: tuple[str, ...] = ()
    additional_response_trailers_to_log: tuple[str, ...] = ()


class OtelAccessLogService(RemoteProvider, frozen=True):
    log_name: str = ""
    log_format: LogFormat | None = None


class SdsProvider(RemoteProvider, frozen=True):
    name: str = ""


class ExtensionProviderConfig(Spec, frozen=True):
    """One provider: a name, and exactly one of the other fields."""

    name: str = ""
    envoy_ext_authz_http: ExtAuthzHttp | None = None
    envoy_ext_authz_grpc: ExtAuthzGrpc | None = None
    zipkin: ZipkinProvider | None = None
    lightstep: LightstepProvider | None = None
    datadog: TracingProvider | None = None
    stackdriver: dict[str, Any] | None = None
    opencensus: OpencensusProvider | None = None
    skywalking: SkywalkingProvider | None = None
    opentelemetry: OpentelemetryProvider | None = None
    prometheus: dict[str, Any] | None = None
    envoy_file_access_log: FileAccessLog | None = None
    envoy_http_als: HttpAccessLogService | None = None
    envoy_tcp_als: TcpAccessLogService | None = None
    envoy_otel_als: OtelAccessLogService | None = None
    sds: SdsProvider | None = None


class MeshConfigSpec(Spec, frozen=True):
    proxy_listen_port: Int32 | None = None
    proxy_inbound_listen_port: Int32 | None = None
    proxy_http_port: Int32 | None = None
    connect_timeout: Duration | None = None
    hbone_idle_timeout: Duration | None = None
    protocol_detection_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    ingress_class: str | None = None
    ingress_service: str | None = None
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] | None = None
    ingress_selector: str | None = None
    enable_tracing: bool | None = None
    access_log_file: str | None = None
    access_log_format: str | None = None
    access_log_encoding: Literal["TEXT", "JSON"] | None = None
    enable_envoy_access_log_service: bool | None = None
    disable_envoy_listener_log: bool | None = None
    default_config: DefaultConfig | None = None
    outbound_traffic_policy: MeshOutboundTrafficPolicy | None = None
    inbound_traffic_policy: InboundTrafficPolicy | None = None
    config_sources: tuple[ConfigSource, ...] = ()
    enable_auto_mtls: bool | None = None
    trust_domain: str | None = None
    trust_domain_aliases: tuple[str, ...] = ()
    ca_certificates: tuple[CaCertificate, ...] = ()
    default_service_export_to: tuple[str, ...] = ()
    default_virtual_service_export_to: tuple[str, ...] = ()
    default_destination_rule_export_to: tuple[str, ...] = ()
    root_namespace: str | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    dns_refresh_rate: Duration | None = None
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] | None = None
    inbound_cluster_stat_name: str | None = None
    outbound_cluster_stat_name: str | None = None
    certificates: tuple[DnsCertificate, ...] = ()
    service_settings: tuple[ServiceSettings, ...] = ()
    service_scope_configs: tuple[ServiceScope, ...] = ()
    enable_prometheus_merge: bool | None = None
    verify_certificate_at_client: bool | None = None
    ca: ExternalCa | None = None
    extension_providers: tuple[ExtensionProviderConfig, ...] = ()
    default_providers: DefaultProviders | None = None
    discovery_selectors: tuple[KubernetesSelector, ...] = ()
    path_normalization: PathNormalization | None = None
    default_http_retry_policy: HttpRetry | None = None
    default_inbound_http_retry_policy: HttpRetry | None = None
    mesh_mtls: TlsConfig | None = msgspec.field(default=None, name="meshMTLS")
    tls_defaults: TlsConfig | None = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    service_entry_visibility: dict[str, Any] | None = None
    disable_policy_checks: bool | None = None
    policy_check_fail_open: bool | None = None
    disable_mixer_http_reports: bool | None = None
    enable_client_side_policy_check: bool | None = None
    mixer_check_server: str | None = None
    mixer_report_server: str | None = None
    sidecar_to_telemetry_session_affinity: bool | None = None
    disable_report_batch: bool | None = None
    report_batch_max_entries: int | None = None
    report_batch_max_time: Duration | None = None
    auth_policy: str | None = None
    rds_refresh_delay: Duration | None = None
    sds_uds_path: str | None = None
    enable_sds_token_mount: bool | None = None
    sds_use_k8s_sa_jwt: bool | None = msgspec.field(default=None, name="sdsUseK8sSaJwt")
