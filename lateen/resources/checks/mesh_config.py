"""MeshConfig: options of the mesh, its providers, and the proxies' defaults. What is left out keeps its default."""

from __future__ import annotations

import msgspec
from cryptography import x509

from lateen.resources.base import Duration
from lateen.resources.checks import Report, check_duration, check_pattern, check_port
from lateen.resources.checks.header_format import check_format, check_log_format
from lateen.resources.checks.http_route import check_retries
from lateen.resources.checks.providers import check_log_path, check_providers
from lateen.resources.checks.telemetry import check_tag
from lateen.resources.checks.traffic_policy import (
    check_client_tls,
    check_connection_pool,
    check_keepalive,
    check_locality,
    check_outlier,
)
from lateen.resources.checks.workload_group import check_probe
from lateen.resources.destination_rule import OutlierDetection
from lateen.resources.mesh_config import CURVES, MeshConfigSpec
from lateen.resources.proxy_config import DefaultConfig, ProxyTracing, StatsMatcher
from lateen.values.network import is_host, is_ip, is_label, is_wildcard_host, split_host_port
from lateen.values.pem import read_certificates
from lateen.values.unreadable import UNREADABLE

MAX_CONNECT_TIMEOUT = 3600.0
MESH_TLS_VERSIONS = frozenset({None, "TLS_AUTO", "TLSV1_2", "TLSV1_3"})


def check_mesh_config(report: Report) -> None:
    spec: MeshConfigSpec = report.resource.spec
    check_port(report, "proxyListenPort", spec.proxy_listen_port)
    check_port(report, "proxyInboundListenPort", spec.proxy_inbound_listen_port)
    check_port(report, "proxyHttpPort", spec.proxy_http_port or None)
    check_duration(report, "connectTimeout", spec.connect_timeout)
    if (spec.connect_timeout or 0) > MAX_CONNECT_TIMEOUT:
        report.error("connectTimeout", "connectTimeout is longer than an hour")
    check_duration(report, "protocolDetectionTimeout", spec.protocol_detection_timeout, zero_allowed=True)
    _check_trust(report, spec)
    for index, settings in enumerate(spec.service_settings):
        for number, host in enumerate(settings.hosts):
            if not is_wildcard_host(host):
                report.error(f"serviceSettings[{index}].hosts[{number}]", f"{host!r} is not a host name")
    if spec.locality_lb_setting is not None:
        check_locality(report, "localityLbSetting", spec.locality_lb_setting, OutlierDetection())
    check_providers(report, spec.extension_providers)
    check_log_path(report, "accessLogFile", spec.access_log_file)
    _check_log_format(report, spec)
    _check_retry_policies(report, spec)
    _check_tls(report, spec)
    if spec.default_traffic_policy is not None:
        if spec.default_traffic_policy.connection_pool is not None:
            pool = spec.default_traffic_policy.connection_pool
            check_connection_pool(report, "defaultTrafficPolicy.connectionPool", pool)
        if spec.default_traffic_policy.outlier_detection is not None:
            detection = spec.default_traffic_policy.outlier_detection
            check_outlier(report, "defaultTrafficPolicy.outlierDetection", detection)
    if spec.tcp_keepalive is not None:
        check_keepalive(report, "tcpKeepalive", spec.tcp_keepalive)
    if spec.default_config is not None:
        _check_default_config(report, spec.default_config)


def _check_trust(report: Report, spec: MeshConfigSpec) -> None:
    domains = [("trustDomain", spec.trust_domain)] if spec.trust_domain is not None else []
    domains += [(f"trustDomainAliases[{index}]", alias) for index, alias in enumerate(spec.trust_domain_aliases)]
    for field, domain in domains:
        if not all(is_label(label) for label in (domain or "").removesuffix(".").split(".")):
            report.error(field, f"{domain!r} is no trust domain", "such as cluster.local")
    for index, entry in enumerate(spec.ca_certificates):
        if entry.pem is not None and not _are_roots(entry.pem):
            report.error(f"caCertificates[{index}].pem", "there is no certificate of an authority in PEM")


def _are_roots(pem: str) -> bool:
    """Whether a text holds certificates, all of them of authorities."""
    try:
        found = read_certificates(pem.encode())
        return all(one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for one in found)
    except UNREADABLE:
        return False


def _check_log_format(report: Report, spec: MeshConfigSpec) -> None:
    if spec.access_log_encoding != "JSON" or not spec.access_log_format:
        check_format(report, "accessLogFormat", spec.access_log_format or "")
        return
    try:
        form = msgspec.json.decode(spec.access_log_format)
    except msgspec.DecodeError:
        form = None
    check_log_format(report, "accessLogFormat", form)
    if not isinstance(form, dict):
        remedy = 'such as {"code": "%RESPONSE_CODE%"}, or leave accessLogEncoding out'
        report.error("accessLogFormat", "with accessLogEncoding JSON the format is a JSON object", remedy)


def _check_retry_policies(report: Report, spec: MeshConfigSpec) -> None:
    outbound, inbound = spec.default_http_retry_policy, spec.default_inbound_http_retry_policy
    if outbound is not None:
        check_retries(report, "defaultHttpRetryPolicy", outbound)
        if outbound.per_try_timeout is not None:
            report.error("defaultHttpRetryPolicy.perTryTimeout", "perTryTimeout cannot be set for the whole mesh")
    if inbound is None:
        return
    check_retries(report, "defaultInboundHttpRetryPolicy", inbound)
    for name, value in (
        ("perTryTimeout", inbound.per_try_timeout),
        ("retryRemoteLocalities", inbound.retry_remote_localities),
        ("retryIgnorePreviousHosts", inbound.retry_ignore_previous_hosts),
    ):
        if value is not None:
            report.warn(f"defaultInboundHttpRetryPolicy.{name}", f"{name} has no effect on inbound requests")


def _check_tls(report: Report, spec: MeshConfigSpec) -> None:
    if spec.mesh_mtls is not None:
        if spec.mesh_mtls.ecdh_curves:
            report.error("meshMTLS.ecdhCurves", "ecdhCurves cannot be set for the mesh's own TLS", "use tlsDefaults")
        if spec.mesh_mtls.min_protocol_version not in MESH_TLS_VERSIONS:
            report.error("meshMTLS.minProtocolVersion", "the mesh's own TLS is TLSV1_2 or TLSV1_3")
    seen: set[str] = set()
    for index, curve in enumerate(spec.tls_defaults.ecdh_curves if spec.tls_defaults else ()):
        if curve not in CURVES:
            report.warn(f"tlsDefaults.ecdhCurves[{index}]", f"{curve} is no curve that the proxy knows")
        elif curve in seen:
            report.warn(f"tlsDefaults.ecdhCurves[{index}]", f"{curve} stands twice", "keep one of them")
        seen.add(curve)


def _check_default_config(report: Report, config: DefaultConfig) -> None:
    field = "defaultConfig"
    for name, text in (
        ("configPath", config.config_path),
        ("binaryPath", config.binary_path),
        ("serviceCluster", config.service_cluster),
        ("discoveryAddress", config.discovery_address),
    ):
        if text == "":
            report.error(f"{field}.{name}", f"{name} is empty", "leave it out")
    if config.concurrency is not None and config.concurrency < 0:
        report.error(f"{field}.concurrency", f"{config.concurrency} is negative", "0 means one thread a core")
    check_duration(report, f"{field}.drainDuration", config.drain_duration)
    if config.drain_duration is not None and not float(config.drain_duration).is_integer():
        report.error(f"{field}.drainDuration", "drainDuration has to be whole seconds")
    check_port(report, f"{field}.proxyAdminPort", config.proxy_admin_port)
    check_port(report, f"{field}.statusPort", config.status_port)
    if config.control_plane_auth_policy == "INHERIT":
        report.error(f"{field}.controlPlaneAuthPolicy", "there is nothing to inherit from", "use MUTUAL_TLS")
    metrics, logs = config.envoy_metrics_service, config.envoy_access_log_service
    for name, address in (
        ("discoveryAddress", config.discovery_address),
        ("statsdUdpAddress", config.statsd_udp_address),
        ("envoyMetricsServiceAddress", config.envoy_metrics_service_address),
        ("envoyMetricsService.address", metrics.address if metrics else None),
        ("envoyAccessLogService.address", logs.address if logs else None),
    ):
        if address:
            _check_address(report, f"{field}.{name}", address)
    if config.tracing is not None:
        _check_tracing(report, f"{field}.tracing", config.tracing)
    if config.proxy_stats_matcher is not None:
        _check_statistics(report, f"{field}.proxyStatsMatcher", config.proxy_stats_matcher)
    if config.readiness_probe is not None:
        check_probe(report, f"{field}.readinessProbe", config.readiness_probe)
    provider = config.private_key_provider
    if provider is not None:
        chosen = provider.cryptomb or provider.qat
        if (provider.cryptomb is None) == (provider.qat is None):
            report.error(f"{field}.privateKeyProvider", "there has to be exactly one of cryptomb and qat")
        elif chosen is not None and not (chosen.poll_delay or Duration()):
            report.error(f"{field}.privateKeyProvider", "the provider needs a pollDelay above 0")


def _check_tracing(report: Report, field: str, tracing: ProxyTracing) -> None:
    collectors = (
        tracing.zipkin,
        tracing.lightstep,
        tracing.datadog,
        tracing.stackdriver,
        tracing.open_census_agent,
    )
    if sum(collector is not None for collector in collectors) > 1:
        report.error(field, "there can be one collector", "keep one of them")
    for name, collector in (("zipkin", tracing.zipkin), ("datadog", tracing.datadog), ("lightstep", tracing.lightstep)):
        if collector is not None:
            _check_address(report, f"{field}.{name}.address", collector.address)
    if tracing.lightstep is not None and not tracing.lightstep.access_token:
        report.error(f"{field}.lightstep", "lightstep needs an accessToken", code="missing-field")
    if tracing.sampling is not None and not 0 <= tracing.sampling <= 100:
        report.error(f"{field}.sampling", f"{tracing.sampling} is not between 0 and 100")
    if tracing.tls_settings is not None:
        check_client_tls(report, f"{field}.tlsSettings", tracing.tls_settings)
    for name, tag in tracing.custom_tags.items():
        check_tag(report, f"{field}.customTags.{name}", name, tag)


def _check_statistics(report: Report, field: str, matcher: StatsMatcher) -> None:
    for name, texts in (
        ("inclusionPrefixes", matcher.inclusion_prefixes),
        ("inclusionSuffixes", matcher.inclusion_suffixes),
    ):
        for index, text in enumerate(texts):
            if not text:
                report.error(f"{field}.{name}[{index}]", "the text is empty", "such as cluster.outbound")
    for index, pattern in enumerate(matcher.inclusion_regexps):
        check_pattern(report, f"{field}.inclusionRegexps[{index}]", pattern)


def _check_address(report: Report, field: str, address: str) -> None:
    parts = split_host_port(address.replace("$(HOST_IP)", "127.0.0.1", 1))
    if parts is None or not (is_host(parts[0]) or is_ip(parts[0])):
        report.error(field, f"{address!r} is not host:port")
    else:
        check_port(report, field, parts[1])
