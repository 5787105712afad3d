"""DestinationRule and its traffic policies."""

from __future__ import annotations

from lateen.resources.checks import (
    Report,
    check_duration,
    check_export_to,
    check_labels,
    check_percentage,
    check_port,
    check_selector,
)
from lateen.resources.destination_rule import (
    ClientTlsSettings,
    ConnectionPoolSettings,
    ConsistentHash,
    DestinationRuleSpec,
    LoadBalancerSettings,
    LocalityFailover,
    LocalityLbSetting,
    OutlierDetection,
    PortTrafficPolicy,
    TcpKeepalive,
    TrafficPolicy,
)
from lateen.values.network import MAX_HOST, is_host, is_ip, is_label, is_read_header, is_wildcard_host

TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
MAX_PORT_SETTINGS = 4096
MAX_TABLE = 5_000_011
MAX_RING = 8_388_608
MAX_PROBES = 127
MAX_KEEPALIVE_S = 32_767


def check_destination_rule(report: Report) -> None:
    spec: DestinationRuleSpec = report.resource.spec
    if not spec.host:
        report.error("spec.host", "a DestinationRule needs a host", code="missing-field")
    elif not is_wildcard_host(spec.host):
        report.error("spec.host", f"{spec.host!r} is not a host name")
    check_export_to(report, spec.export_to)
    if spec.workload_selector is not None:
        check_selector(report, "spec.workloadSelector.matchLabels", spec.workload_selector.match_labels)
        if any(entry not in (".", report.resource.key.namespace) for entry in spec.export_to):
            report.error("spec.exportTo", "a rule with workloadSelector stays in its namespace", "write exportTo: [.]")
    if spec.traffic_policy is not None:
        check_traffic_policy(report, "spec.trafficPolicy", spec.traffic_policy)
    seen: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        field = f"spec.subsets[{index}]"
        if not is_label(subset.name):
            report.error(f"{field}.name", f"{subset.name!r} is no name of a subset", "use letters, digits and dashes")
        if subset.name in seen:
            report.error(f"{field}.name", f"subset {subset.name} stands twice", "give each its own name")
        seen.add(subset.name)
        check_labels(report, f"{field}.labels", subset.labels)
        if subset.traffic_policy is not None:
            check_traffic_policy(report, f"{field}.trafficPolicy", subset.traffic_policy)


def check_traffic_policy(report: Report, field: str, policy: TrafficPolicy) -> None:
    if policy == TrafficPolicy():
        report.error(field, "the traffic policy is empty", "leave it out, or say something in it")
    _check_blocks(report, field, policy)
    if len(policy.port_level_settings) > MAX_PORT_SETTINGS:
        report.error(f"{field}.portLevelSettings", f"there are more than {MAX_PORT_SETTINGS} ports")
    for index, settings in enumerate(policy.port_level_settings):
        place = f"{field}.portLevelSettings[{index}]"
        if settings.port is None or not settings.port.number:
            report.error(place, "port settings need port.number", code="missing-field")
        else:
            check_port(report, f"{place}.port.number", settings.port.number)
        _check_blocks(report, place, settings)
        if settings == PortTrafficPolicy(port=settings.port):
            report.error(place, "the settings of this port are empty", "leave them out")
    if policy.tunnel is not None:
        if policy.proxy_protocol is not None:
            report.error(f"{field}.tunnel", "tunnel and proxyProtocol exclude each other", "keep one of them")
        if policy.tunnel.protocol not in (None, "", "CONNECT", "POST"):
            report.error(f"{field}.tunnel.protocol", "the protocol is CONNECT or POST")
        if not (is_host(policy.tunnel.target_host) or is_ip(policy.tunnel.target_host)):
            report.error(f"{field}.tunnel.targetHost", "targetHost has to be a full name or an address")
        check_port(report, f"{field}.tunnel.targetPort", policy.tunnel.target_port)
    if policy.retry_budget is not None:
        check_percentage(report, f"{field}.retryBudget.percent", policy.retry_budget.percent)


def _check_blocks(report: Report, field: str, policy: TrafficPolicy | PortTrafficPolicy) -> None:
    if policy.load_balancer is not None:
        _check_balancer(report, f"{field}.loadBalancer", policy.load_balancer, policy.outlier_detection)
    if policy.connection_pool is not None:
        check_connection_pool(report, f"{field}.connectionPool", policy.connection_pool)
    if policy.outlier_detection is not None:
        check_outlier(report, f"{field}.outlierDetection", policy.outlier_detection)
    if policy.tls is not None:
        check_client_tls(report, f"{field}.tls", policy.tls)


def _check_balancer(
    report: Report, field: str, settings: LoadBalancerSettings, outlier: OutlierDetection | None
) -> None:
    if settings.simple is not None and settings.consistent_hash is not None:
        report.error(field, "simple and consistentHash exclude each other", "keep one of them")
    if settings.consistent_hash is not None:
        _check_hash(report, f"{field}.consistentHash", settings.consistent_hash)
    if settings.locality_lb_setting is not None:
        check_locality(report, f"{field}.localityLbSetting", settings.locality_lb_setting, outlier)
        if settings.zone_aware_lb_setting is not None:
            report.error(field, "localityLbSetting and zoneAwareLbSetting exclude each other", "keep one of them")
    zone = settings.zone_aware_lb_setting
    if zone is not None:
        _check_failover(report, f"{field}.zoneAwareLbSetting", zone.failover)
        if zone.min_cluster_size == 0:
            report.error(f"{field}.zoneAwareLbSetting.minClusterSize", "minClusterSize has to be 1 or more")
        if any(label in TOPOLOGY for label in zone.failover_priority):
            report.error(f"{field}.zoneAwareLbSetting.failoverPriority", "the topology's own labels cannot stand here")
    check_duration(report, f"{field}.warmupDurationSecs", settings.warmup_duration_secs)
    warmup = settings.warmup
    if warmup is not None:
        if settings.warmup_duration_secs is not None:
            report.error(field, "warmup and warmupDurationSecs exclude each other", "keep warmup")
        if warmup.duration is None:
            report.error(f"{field}.warmup", "warmup needs a duration", code="missing-field")
        check_duration(report, f"{field}.warmup.duration", warmup.duration)
        if warmup.minimum_percent is not None and not 0 <= warmup.minimum_percent <= 100:
            report.error(f"{field}.warmup.minimumPercent", "minimumPercent is not between 0 and 100")
        if warmup.aggression is not None and warmup.aggression < 1:
            report.error(f"{field}.warmup.aggression", "aggression has to be 1 or more")


def _check_hash(report: Report, field: str, settings: ConsistentHash) -> None:
    keys = (
        settings.http_header_name,
        settings.http_cookie,
        settings.use_source_ip or None,
        settings.http_query_parameter_name,
    )
    if sum(key is not None for key in keys) > 1:
        report.error(field, "a consistent hash has one key", "keep one of them")
    if sum(key is not None for key in keys) == 0:
        report.warn(field, "a consistent hash without a key chooses at random", "such as httpHeaderName")
    if settings.http_header_name is not None and not is_read_header(settings.http_header_name):
        message = f"{settings.http_header_name!r} is no name of a header"
        report.error(f"{field}.httpHeaderName", message, "such as x-user")
    if settings.http_query_parameter_name == "":
        report.error(f"{field}.httpQueryParameterName", "the parameter has no name", "such as user", "missing-field")
    cookie = settings.http_cookie
    if cookie is not None:
        if not cookie.name:
            report.error(f"{field}.httpCookie", "the cookie needs a name", code="missing-field")
        if cookie.ttl is not None and cookie.ttl < 0:
            report.error(f"{field}.httpCookie.ttl", "the cookie's time to live is negative")
        names = [attribute.name for attribute in cookie.attributes]
        if "" in names or len(set(names)) != len(names):
            report.error(f"{field}.httpCookie.attributes", "each attribute needs a name of its own")
    if settings.ring_hash is not None and settings.maglev is not None:
        report.error(field, "ringHash and maglev exclude each other", "keep one of them")
    if settings.minimum_ring_size is not None:
        if settings.ring_hash is not None or settings.maglev is not None:
            report.error(f"{field}.minimumRingSize", "minimumRingSize does not go with ringHash or maglev")
        report.warn(f"{field}.minimumRingSize", "minimumRingSize is deprecated", "write ringHash.minimumRingSize")
    ring = settings.ring_hash.minimum_ring_size if settings.ring_hash is not None else None
    for name, size in (("minimumRingSize", settings.minimum_ring_size), ("ringHash.minimumRingSize", ring)):
        if (size or 0) > MAX_RING:
            report.error(f"{field}.{name}", f"a ring has {MAX_RING} places at most", "such as 1024")
    size = (settings.maglev.table_size or 0) if settings.maglev else None
    if size is not None and (size >= MAX_TABLE or not _is_prime(size)):
        report.error(
            f"{field}.maglev.tableSize", f"the table size has to be a prime below {MAX_TABLE}", "such as 65537"
        )


def _is_prime(number: int) -> bool:
    return number >= 2 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def check_locality(report: Report, field: str, settings: LocalityLbSetting, outlier: OutlierDetection | None) -> None:
    if settings.distribute and settings.failover:
        report.error(field, "distribute excludes failover", "keep one of them")
    sources: list[str] = []
    for index, entry in enumerate(settings.distribute):
        place = f"{field}.distribute[{index}]"
        _check_place(report, f"{place}.from", entry.from_)
        if any(_overlap(entry.from_, other) for other in sources):
            report.error(f"{place}.from", f"{entry.from_} overlaps with another from")
        sources.append(entry.from_)
        targets: list[str] = []
        for target, weight in entry.to.items():
            _check_place(report, f"{place}.to.{target}", target)
            if any(_overlap(target, other) for other in targets):
                report.error(f"{place}.to.{target}", f"{target} overlaps with another target")
            targets.append(target)
            if not 1 <= weight <= 100:
                report.error(f"{place}.to.{target}", "a weight is between 1 and 100")
        if sum(entry.to.values()) != 100:
            report.error(f"{place}.to", f"the weights add up to {sum(entry.to.values())}, not to 100")
    _check_failover(report, field, settings.failover)
    if settings.failover and any(label in TOPOLOGY for label in settings.failover_priority):
        report.error(f"{field}.failoverPriority", "with failover, the topology's own labels cannot stand here")
    if (settings.failover or settings.failover_priority) and outlier is None:
        report.warn(field, "failover needs outlierDetection to see failures", "add outlierDetection")


def _check_failover(report: Report, field: str, rules: tuple[LocalityFailover, ...]) -> None:
    for index, rule in enumerate(rules):
        place = f"{field}.failover[{index}]"
        if rule.from_ == rule.to:
            report.error(place, "a region cannot fail over to itself")
        for name, region in (("from", rule.from_), ("to", rule.to)):
            if not region or "/" in region or "*" in region:
                report.error(f"{place}.{name}", "failover is between regions: no zones, no wildcards")


def _check_place(report: Report, field: str, place: str) -> None:
    parts = place.split("/")
    if not place or any(not part for part in parts) or len(parts) > 3:
        report.error(field, f"{place!r} is not region/zone/subzone")
    elif any("*" in part for part in parts[:-1]) or ("*" in parts[-1] and parts[-1] != "*"):
        report.error(field, "a wildcard can only be the whole last part")


def _overlap(one: str, other: str) -> bool:
    first, second = one.split("/"), other.split("/")
    for left, right in zip(first, second, strict=False):
        if "*" in (left, right):
            return True
        if left != right:
            return False
    return True


def check_keepalive(report: Report, field: str, alive: TcpKeepalive) -> None:
    """No more than the kernel takes: connections whose socket refuses an option are not made."""
    if (alive.probes or 0) > MAX_PROBES:
        report.error(f"{field}.probes", f"{alive.probes} probes are more than the {MAX_PROBES} that there can be")
    for name, value in (("time", alive.time), ("interval", alive.interval)):
        check_duration(report, f"{field}.{name}", value)
        if (value or 0) > MAX_KEEPALIVE_S:
            message = f"{value:g} s are longer than the {MAX_KEEPALIVE_S} s that a kernel takes"
            report.error(f"{field}.{name}", message, "write some hours at most, such as 2h")


def check_connection_pool(report: Report, field: str, pool: ConnectionPoolSettings) -> None:
    if pool.tcp is None and pool.http is None:
        report.error(field, "the connection pool is empty", "leave it out, or say something in it")
    if pool.tcp is not None:
        _not_negative(report, f"{field}.tcp.maxConnections", pool.tcp.max_connections)
        check_duration(report, f"{field}.tcp.connectTimeout", pool.tcp.connect_timeout)
        check_duration(report, f"{field}.tcp.maxConnectionDuration", pool.tcp.max_connection_duration)
        check_duration(report, f"{field}.tcp.idleTimeout", pool.tcp.idle_timeout, zero_allowed=True)
        if pool.tcp.tcp_keepalive is not None:
            check_keepalive(report, f"{field}.tcp.tcpKeepalive", pool.tcp.tcp_keepalive)
    http = pool.http
    if http is None:
        return
    for name, value in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ):
        _not_negative(report, f"{field}.http.{name}", value)
    check_duration(report, f"{field}.http.idleTimeout", http.idle_timeout, zero_allowed=True)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        report.error(f"{field}.http", "h2UpgradePolicy UPGRADE and useClientProtocol exclude each other")
    alive = http.http2_keep_alive
    if alive is not None:
        if alive.interval is None or alive.timeout is None:
            report.error(f"{field}.http.http2KeepAlive", "http2KeepAlive needs interval and timeout")
        check_duration(report, f"{field}.http.http2KeepAlive.interval", alive.interval)
        check_duration(report, f"{field}.http.http2KeepAlive.timeout", alive.timeout)


def _not_negative(report: Report, field: str, value: int | None) -> None:
    if value is not None and value < 0:
        report.error(field, f"{value} is negative")


def check_outlier(report: Report, field: str, settings: OutlierDetection) -> None:
    """When endpoints that fail are left out for a while."""
    check_duration(report, f"{field}.interval", settings.interval)
    check_duration(report, f"{field}.baseEjectionTime", settings.base_ejection_time)
    check_percentage(report, f"{field}.maxEjectionPercent", settings.max_ejection_percent)
    check_percentage(report, f"{field}.minHealthPercent", settings.min_health_percent)
    if settings.consecutive_errors:
        report.warn(f"{field}.consecutiveErrors", "consecutiveErrors is deprecated", "write consecutiveGatewayErrors")
    if settings.consecutive_local_origin_failures and not settings.split_external_local_origin_errors:
        message = "consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors: true"
        report.error(f"{field}.consecutiveLocalOriginFailures", message)
    for index, code in enumerate(settings.outlier_detection_http_error_codes):
        if not 100 <= code <= 599:
            report.error(f"{field}.outlierDetectionHttpErrorCodes[{index}]", f"{code} is no HTTP status")


def check_client_tls(report: Report, field: str, tls: ClientTlsSettings) -> None:
    """How TLS to a server begins; a mode that uses the mesh's certificates takes no others."""
    files = (tls.client_certificate, tls.private_key, tls.ca_certificates)
    originates = tls.mode in ("SIMPLE", "MUTUAL")
    if originates and tls.credential_name and (any(files) or tls.ca_crl):
        report.error(field, "credentialName and files exclude each other", "keep one of them")
    trusts = tls.ca_certificates or tls.subject_alt_names or (tls.credential_name and tls.mode == "SIMPLE")
    if originates and tls.insecure_skip_verify and trusts:
        report.error(f"{field}.insecureSkipVerify", "insecureSkipVerify goes with no CA and no names to verify")
    if tls.mode == "MUTUAL" and not tls.credential_name and not (tls.client_certificate and tls.private_key):
        report.error(field, "MUTUAL needs clientCertificate and privateKey, or credentialName", code="missing-field")
    if len((tls.sni or "").encode()) > MAX_HOST:
        message = f"a server name has at most {MAX_HOST} bytes"
        report.error(f"{field}.sni", message, "name the host that the server's certificate names")
    if tls.mode == "ISTIO_MUTUAL" and (any(files) or tls.credential_name):
        report.warn(field, "ISTIO_MUTUAL uses the mesh's own certificates", "leave the others out")
