"""Gateway."""

from __future__ import annotations

from lateen.resources.checks import Report, check_port, is_ip, is_label, is_wildcard_host
from lateen.resources.gateway import GatewaySpec, Server, ServerTlsSettings

PROTOCOLS = frozenset({"HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS", "REDIS", "MYSQL"})
HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
OLD_VERSIONS = ("TLSV1_0", "TLSV1_1")


def check_gateway(report: Report) -> None:
    spec: GatewaySpec = report.resource.spec
    for name, value in spec.selector.items():
        if not name:
            report.error("spec.selector", "the selector has an empty label name")
        elif "*" in name or "*" in value:
            report.error(f"spec.selector.{name}", "a selector cannot have wildcards", "name the label's value in full")
    if not spec.servers:
        report.error("spec.servers", "a Gateway needs at least one server", code="missing-field")
    names: set[str] = set()
    ports: set[str] = set()
    for index, server in enumerate(spec.servers):
        field = f"spec.servers[{index}]"
        _check_server(report, field, server)
        if server.name:
            if server.name in names:
                report.error(f"{field}.name", f"server {server.name} stands twice")
            names.add(server.name)
        if server.port.name and server.port.name in ports:
            report.error(f"{field}.port.name", f"port name {server.port.name} stands twice", "give each its own name")
        ports.add(server.port.name)


def _check_server(report: Report, field: str, server: Server) -> None:
    port = server.port
    protocol = port.protocol.upper()
    in_socket = (server.bind or "").startswith("unix://")
    if not port.name:
        report.error(f"{field}.port", "the port needs a name", code="missing-field")
    elif not is_label(port.name.lower()):
        report.error(f"{field}.port.name", f"{port.name!r} is no name of a port")
    if protocol not in PROTOCOLS:
        report.error(f"{field}.port.protocol", f"{port.protocol!r} is no protocol", "such as HTTP or HTTPS")
    if in_socket and port.number:
        report.error(f"{field}.port.number", "a Unix socket has no port", "write number: 0")
    if not in_socket:
        check_port(report, f"{field}.port.number", port.number)
    if port.target_port is not None:
        report.error(f"{field}.port.targetPort", "targetPort cannot be set", "leave it out")
    if server.bind and not in_socket and not is_ip(server.bind):
        report.error(f"{field}.bind", f"{server.bind!r} is no address")
    if not server.hosts:
        report.error(f"{field}.hosts", "a server needs hosts", 'write hosts: ["*"] for all', "missing-field")
    for index, host in enumerate(server.hosts):
        _check_host(report, f"{field}.hosts[{index}]", host)
    tls = server.tls
    if protocol in ("HTTPS", "TLS") and (tls is None or (tls == ServerTlsSettings() and protocol == "HTTPS")):
        if tls is None:
            report.error(field, f"a server of protocol {protocol} needs tls", "add tls.mode", "missing-field")
    elif tls is not None:
        if protocol in HTTP and tls != ServerTlsSettings(https_redirect=tls.https_redirect):
            report.error(f"{field}.tls", f"a server of protocol {protocol} takes httpsRedirect alone", "use HTTPS")
        if protocol not in ("HTTPS", "TLS", *HTTP):
            report.error(f"{field}.tls", f"a server of protocol {protocol} takes no tls", "use TLS")
    if tls is not None:
        if tls.https_redirect and protocol not in HTTP:
            report.warn(f"{field}.tls.httpsRedirect", "httpsRedirect means something on plain HTTP alone")
        check_server_tls(report, f"{field}.tls", tls)


def _check_host(report: Report, field: str, text: str) -> None:
    namespace, slash, host = text.rpartition("/")
    if slash and namespace not in ("*", ".") and not is_label(namespace):
        report.error(field, f"{namespace!r} is no namespace")
    if not is_wildcard_host(host):
        report.error(field, f"{host!r} is not a host name")
    elif "." not in host and host != "*":
        report.error(field, "a short name means nothing at a gateway", "write the full name", "short-name")


def check_server_tls(report: Report, field: str, tls: ServerTlsSettings) -> None:
    mode = tls.mode or ("PASSTHROUGH" if not tls.https_redirect else "")
    files = bool(tls.server_certificate or tls.private_key or tls.ca_certificates)
    named = bool(tls.credential_name or tls.credential_names)
    ways = sum((files, bool(tls.credential_name), bool(tls.credential_names), bool(tls.tls_certificates)))
    if len(tls.credential_names) > 2 or len(tls.tls_certificates) > 2:
        report.error(field, "there can be at most two certificates")
    if mode == "ISTIO_MUTUAL":
        if ways or tls.ca_cert_credential_name:
            report.error(field, "ISTIO_MUTUAL uses the mesh's own certificates", "leave the others out")
        return
    if mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        if ways:
            report.warn(
                field, f"{mode} does not end TLS, so certificates mean nothing", "use SIMPLE, or leave them out"
            )
    elif ways > 1:
        report.error(
            field, "give the certificate in one way: credentialName, credentialNames, files or tlsCertificates"
        )
    elif mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL") and not named:
        _check_files(report, field, tls, mode)
    if tls.ca_crl and (named or mode == "SIMPLE"):
        report.error(f"{field}.caCrl", "caCrl goes with MUTUAL and files alone")
    for name, value in (("min", tls.min_protocol_version), ("max", tls.max_protocol_version)):
        if value in OLD_VERSIONS and name == "min":
            report.warn(f"{field}.{name}ProtocolVersion", f"{value} is broken", "use TLSV1_2 or TLSV1_3")
    _check_ciphers(report, field, tls)


def _check_files(report: Report, field: str, tls: ServerTlsSettings, mode: str) -> None:
    if tls.tls_certificates:
        for index, pair in enumerate(tls.tls_certificates):
            if not (pair.server_certificate and pair.private_key):
                report.error(f"{field}.tlsCertificates[{index}]", "serverCertificate and privateKey are both needed")
    elif not (tls.server_certificate and tls.private_key):
        message = f"{mode} needs credentialName, or serverCertificate and privateKey"
        report.error(field, message, code="missing-field")
    if mode != "SIMPLE" and not (tls.ca_certificates or tls.ca_cert_credential_name or tls.tls_certificates):
        report.error(field, f"{mode} needs caCertificates to verify clients", code="missing-field")


CIPHERS = frozenset(
    {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    }
)


def _check_ciphers(report: Report, field: str, tls: ServerTlsSettings) -> None:
    seen: set[str] = set()
    for index, cipher in enumerate(tls.cipher_suites):
        place = f"{field}.cipherSuites[{index}]"
        if cipher not in CIPHERS:
            report.warn(place, f"{cipher} is no cipher that the proxy knows; it is left out")
        elif cipher in seen:
            report.warn(place, f"{cipher} stands twice")
        seen.add(cipher)
