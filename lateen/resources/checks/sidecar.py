"""Sidecar: what a workload can be reached by, and what it can reach."""

from __future__ import annotations

from lateen.resources.checks import UNIX_PATH, Report, check_port, is_protocol, is_unix_path
from lateen.resources.checks.destination import check_destination
from lateen.resources.checks.gateway import check_server_tls
from lateen.resources.checks.selection import check_label_selector
from lateen.resources.checks.traffic_policy import check_connection_pool
from lateen.resources.gateway import ServerTlsSettings
from lateen.resources.sidecar import EgressListener, IngressListener, OutboundTrafficPolicy, SidecarPort, SidecarSpec
from lateen.values.network import (
    is_host,
    is_ip,
    is_label,
    is_partial_wildcard,
    is_wildcard_host,
    split_host_port,
)

UNIX = "unix://"
OWN_ADDRESSES = frozenset({"", "127.0.0.1", "0.0.0.0", "::1", "::"})  # noqa: S104
HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})


def check_sidecar(report: Report) -> None:
    spec: SidecarSpec = report.resource.spec
    check_label_selector(report, "spec.workloadSelector", spec.workload_selector)
    policy, pool = spec.outbound_traffic_policy, spec.inbound_connection_pool
    if not spec.ingress and not spec.egress and policy is None and pool is None:
        report.error("spec", "the Sidecar says nothing", "give egress, ingress or outboundTrafficPolicy")
    ports: set[int] = set()
    for index, listener in enumerate(spec.ingress):
        _check_ingress(report, f"spec.ingress[{index}]", listener, ports)
    if pool is not None:
        check_connection_pool(report, "spec.inboundConnectionPool", pool)
    _check_egress_listeners(report, spec)
    if policy is not None:
        _check_policy(report, "spec.outboundTrafficPolicy", policy)


def _check_ingress(report: Report, field: str, listener: IngressListener, ports: set[int]) -> None:
    port = listener.port
    if port is None:
        report.error(field, "an ingress listener needs a port", code="missing-field")
        return
    _check_sidecar_port(report, f"{field}.port", port)
    check_port(report, f"{field}.port.number", port.number)
    if listener.bind and not is_ip(listener.bind):
        report.error(f"{field}.bind", f"{listener.bind!r} is no address")
    if port.number in ports:
        report.error(f"{field}.port.number", f"port {port.number} stands twice")
    ports.add(port.number)
    if listener.default_endpoint:
        _check_endpoint(report, f"{field}.defaultEndpoint", listener.default_endpoint)
    if listener.tls is not None:
        _check_ingress_tls(report, f"{field}.tls", listener.tls)
    if listener.connection_pool is not None:
        check_connection_pool(report, f"{field}.connectionPool", listener.connection_pool)
        if listener.connection_pool.http is not None and port.protocol.upper() not in HTTP:
            message = f"port {port.number} does not speak HTTP, so its http settings have no effect"
            report.warn(f"{field}.connectionPool.http", message, "set the port's protocol to HTTP")


def _check_sidecar_port(report: Report, field: str, port: SidecarPort) -> None:
    if port.name and not is_label(port.name):
        report.error(f"{field}.name", f"{port.name!r} is no name of a port")
    if port.protocol and not is_protocol(port.protocol):
        report.error(f"{field}.protocol", f"{port.protocol!r} is no protocol", "such as HTTP or TCP")
    if port.target_port:
        report.error(f"{field}.targetPort", "targetPort has no effect in a Sidecar", "leave it out")


def _check_endpoint(report: Report, field: str, endpoint: str) -> None:
    if endpoint.startswith(UNIX):
        if not is_unix_path(endpoint.removeprefix(UNIX)):
            report.error(field, UNIX_PATH, "such as unix:///run/app.sock")
        return
    parts = split_host_port(endpoint)
    if parts is None or parts[0] not in OWN_ADDRESSES:
        report.error(field, f"{endpoint!r} is not the workload itself", "such as 127.0.0.1:8080")
    else:
        check_port(report, field, parts[1])


def _check_ingress_tls(report: Report, field: str, tls: ServerTlsSettings) -> None:
    for name, value in (
        ("subjectAltNames", tls.subject_alt_names),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
        ("tlsCertificates", tls.tls_certificates),
    ):
        if value:
            report.error(f"{field}.{name}", f"{name} does not go with a Sidecar's ingress", "leave it out")
    if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        report.error(f"{field}.mode", f"{tls.mode} does not go with a Sidecar's ingress", "use SIMPLE or MUTUAL")
    check_server_tls(report, field, tls)


def _check_egress_listeners(report: Report, spec: SidecarSpec) -> None:
    ports: set[int] = set()
    sockets: set[str] = set()
    for index, listener in enumerate(spec.egress):
        field = f"spec.egress[{index}]"
        port = listener.port
        if port is None:
            if index != len(spec.egress) - 1:
                report.error(field, "only the last egress listener may have no port", "put it last")
            if listener.bind:
                report.error(f"{field}.bind", "bind needs a port", "give port")
        else:
            _check_sidecar_port(report, f"{field}.port", port)
            _check_egress_bind(report, field, listener, port)
            taken = listener.bind in sockets if port.number == 0 else port.number in ports
            if taken:
                report.error(field, "two egress listeners stand on the same port or socket")
            if port.number == 0:
                sockets.add(listener.bind)
            else:
                ports.add(port.number)
        _check_hosts(report, field, listener.hosts)


def _check_egress_bind(report: Report, field: str, listener: EgressListener, port: SidecarPort) -> None:
    if port.number:
        check_port(report, f"{field}.port.number", port.number)
        if listener.bind and not is_ip(listener.bind):
            report.error(f"{field}.bind", f"{listener.bind!r} is no address")
        return
    if not listener.bind.startswith(UNIX):
        report.error(f"{field}.bind", "port number 0 needs a Unix socket to bind to", "such as unix:///run/out.sock")
    elif not is_unix_path(listener.bind.removeprefix(UNIX)):
        report.error(f"{field}.bind", UNIX_PATH, "such as unix:///run/out.sock")
    if listener.capture_mode == "IPTABLES":
        report.error(f"{field}.captureMode", "traffic to a Unix socket cannot be captured", "use DEFAULT or NONE")


def _check_hosts(report: Report, field: str, hosts: tuple[str, ...]) -> None:
    """``namespace/host``; a leading ``~`` takes such hosts out again."""
    if not hosts:
        report.error(f"{field}.hosts", "an egress listener needs hosts", 'such as "./*"', "missing-field")
    own = report.resource.key.namespace
    named: dict[str, set[str]] = {}
    for index, text in enumerate(hosts):
        place = f"{field}.hosts[{index}]"
        excludes = text.startswith("~") and not text.startswith("~/")
        namespace, slash, host = text.removeprefix("~" if excludes else "").partition("/")
        if not slash:
            report.error(place, f"{text!r} is not namespace/host", 'such as "./*"')
            continue
        if namespace not in ("*", ".", "~") and not is_label(namespace):
            report.error(place, f"{namespace!r} is no namespace")
        if is_partial_wildcard(host):
            report.error(place, "a wildcard has to be the whole first label", "such as *.example.com")
        elif not is_wildcard_host(host):
            report.error(place, f"{host!r} is not a host name")
        elif "." not in host and host != "*":
            report.error(place, "a short name means nothing here", "write the full name", "short-name")
        if not excludes:
            seen = named.setdefault(own if namespace == "." else namespace, set())
            if host in seen or "*" in seen or (host == "*" and seen):
                report.warn(place, f"{text} is already in another host of this listener", "remove one")
            seen.add(host)
    if "*" in named.get("*", ()) and len(named) > 1:
        report.warn(f"{field}.hosts", "*/* takes all hosts, so the others have no effect", "remove the others")


def _check_policy(report: Report, field: str, policy: OutboundTrafficPolicy) -> None:
    if policy.mode == "ALLOW_ANY_DYNAMIC_DNS":
        report.error(f"{field}.mode", f"{policy.mode} does not go with a Sidecar", "use ALLOW_ANY")
    proxy = policy.egress_proxy
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        report.error(f"{field}.egressProxy", "egressProxy goes with ALLOW_ANY alone", "write mode: ALLOW_ANY")
    if proxy.port is None:
        report.error(f"{field}.egressProxy", "egressProxy needs a port", code="missing-field")
    if not is_host(proxy.host):
        report.error(f"{field}.egressProxy.host", f"{proxy.host!r} is not a host name")
    else:
        check_destination(report, f"{field}.egressProxy", proxy)
