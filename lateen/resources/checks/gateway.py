"""Gateway."""

from __future__ import annotations

import base64

from lateen.resources.checks import UNIX_PATH, Report, check_port, is_protocol, is_unix_path
from lateen.resources.gateway import GatewaySpec, Server, ServerTlsSettings, named_ciphers
from lateen.values.network import is_ip, is_label, is_partial_wildcard, is_wildcard_host

HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
PASSING = frozenset({None, "PASSTHROUGH", "AUTO_PASSTHROUGH"})
OLD_VERSIONS = ("TLSV1_0", "TLSV1_1")
VERSIONS = ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
DIGEST_BYTES = 32


def check_gateway(report: Report) -> None:
    spec: GatewaySpec = report.resource.spec
    if not is_label(report.resource.key.name):
        report.error("metadata.name", "a Gateway's name cannot have dots", "use letters, digits and dashes")
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
                report.warn(f"{field}.name", f"server {server.name} stands twice", "give each its own name")
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
    if not is_protocol(protocol):
        report.error(f"{field}.port.protocol", f"{port.protocol!r} is no protocol", "such as HTTP or HTTPS")
    if in_socket and port.number:
        report.error(f"{field}.port.number", "a Unix socket has no port", "write number: 0")
    if in_socket and not is_unix_path((server.bind or "").removeprefix("unix://")):
        report.error(f"{field}.bind", UNIX_PATH, "such as unix:///run/web.sock")
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
    if tls is None:
        if protocol in ("HTTPS", "TLS"):
            report.error(field, f"a server of protocol {protocol} needs tls", "add tls.mode", "missing-field")
        return
    if protocol in HTTP and (tls.mode not in PASSING or _has_files(tls)):
        report.error(f"{field}.tls", f"a server of protocol {protocol} takes httpsRedirect alone", "use HTTPS")
    if protocol not in ("HTTPS", "TLS", *HTTP):
        report.error(f"{field}.tls", f"a server of protocol {protocol} takes no tls", "use TLS")
    if tls.https_redirect and protocol not in HTTP:
        report.warn(f"{field}.tls.httpsRedirect", "httpsRedirect means something on plain HTTP alone")
    check_server_tls(report, f"{field}.tls", tls)


def _check_host(report: Report, field: str, text: str) -> None:
    namespace, slash, host = text.partition("/") if "/" in text else ("", "", text)
    if slash and namespace not in ("*", ".") and not is_label(namespace):
        report.error(field, f"{namespace!r} is no namespace")
    if is_partial_wildcard(host):
        report.error(field, "a wildcard has to be the whole first label", "such as *.example.com")
    elif not is_wildcard_host(host) and not is_ip(host):
        report.error(field, f"{host!r} is not a host name")
    elif "." not in host and host != "*" and not is_ip(host):
        report.error(field, "a short name means nothing at a gateway", "write the full name", "short-name")


def _has_files(tls: ServerTlsSettings) -> bool:
    return bool(tls.server_certificate or tls.private_key or tls.ca_certificates)


def check_server_tls(report: Report, field: str, tls: ServerTlsSettings) -> None:
    """How a listener ends TLS: the same block at gateways and at a Sidecar's ingress."""
    mode = tls.mode or "PASSTHROUGH"
    named = bool(tls.credential_name or tls.credential_names)
    if len(tls.credential_names) > 2 or len(tls.tls_certificates) > 2:
        report.error(field, "there can be at most two certificates")
    _check_ciphers(report, field, tls)
    if tls.min_protocol_version in OLD_VERSIONS and not tls.cipher_suites:
        message = f"{tls.min_protocol_version} needs ciphers that are off unless they are named"
        report.warn(f"{field}.minProtocolVersion", message, "use TLSV1_2, or give cipherSuites")
    lowest, highest = tls.min_protocol_version or "TLSV1_2", tls.max_protocol_version
    if lowest in VERSIONS and highest in VERSIONS and VERSIONS.index(lowest) > VERSIONS.index(highest):
        report.error(f"{field}.maxProtocolVersion", f"no version lies between {lowest} and {highest}")
    if mode == "ISTIO_MUTUAL":
        if _has_files(tls) or named or tls.tls_certificates or tls.ca_cert_credential_name:
            report.error(field, "ISTIO_MUTUAL uses the mesh's own certificates", "leave the others out")
        return
    if mode in PASSING:
        if _has_files(tls) or named or tls.tls_certificates or tls.ca_crl:
            message = f"{mode} does not end TLS, so certificates mean nothing"
            report.warn(field, message, "use SIMPLE, or leave them out")
        return
    in_files = bool(tls.server_certificate or tls.private_key) and not tls.credential_name
    if sum((in_files, bool(tls.credential_name), bool(tls.credential_names), bool(tls.tls_certificates))) > 1:
        message = "give the certificate in one way: credentialName, credentialNames, files or tlsCertificates"
        report.error(field, message, "keep one of them")
    elif not named:
        _check_files(report, field, tls, mode)
    if tls.ca_crl and (named or mode == "SIMPLE"):
        report.error(f"{field}.caCrl", "caCrl goes with MUTUAL and files alone")
    _check_clients(report, field, tls, mode)


def _check_clients(report: Report, field: str, tls: ServerTlsSettings, mode: str) -> None:
    """What is asked of clients' certificates: in a form that the proxy takes, and where clients show any."""
    for index, text in enumerate(tls.verify_certificate_spki):
        if not _is_base64_digest(text):
            report.error(f"{field}.verifyCertificateSpki[{index}]", f"{text!r} is no SHA-256 in base64")
    for index, text in enumerate(tls.verify_certificate_hash):
        if not _is_hex_digest(text):
            report.error(f"{field}.verifyCertificateHash[{index}]", f"{text!r} is no SHA-256 in hexadecimal")
    if mode != "SIMPLE":
        return
    for name, value in (
        ("subjectAltNames", tls.subject_alt_names),
        ("verifyCertificateSpki", tls.verify_certificate_spki),
        ("verifyCertificateHash", tls.verify_certificate_hash),
        ("insecureSkipVerify", tls.insecure_skip_verify),
    ):
        if value:
            message = f"{name} is about certificates of clients, which {mode} does not ask for"
            report.warn(f"{field}.{name}", message, "use MUTUAL, or leave it out")


def _is_base64_digest(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == DIGEST_BYTES
    except ValueError:
        return False


def _is_hex_digest(text: str) -> bool:
    digits = text.replace(":", "") if text.count(":") == DIGEST_BYTES - 1 else text
    try:
        return len(digits) == 2 * DIGEST_BYTES and len(bytes.fromhex(digits)) == DIGEST_BYTES
    except ValueError:
        return False


def _check_files(report: Report, field: str, tls: ServerTlsSettings, mode: str) -> None:
    for index, pair in enumerate(tls.tls_certificates):
        if not (pair.server_certificate and pair.private_key):
            report.error(f"{field}.tlsCertificates[{index}]", "serverCertificate and privateKey are both needed")
    if not tls.tls_certificates and not (tls.server_certificate and tls.private_key):
        message = f"{mode} needs credentialName, or serverCertificate and privateKey"
        report.error(field, message, code="missing-field")
    own = bool(tls.tls_certificates) and all(pair.ca_certificates for pair in tls.tls_certificates)
    if mode != "SIMPLE" and not (tls.ca_certificates or tls.ca_cert_credential_name or own):
        report.error(field, f"{mode} needs caCertificates to verify clients", code="missing-field")


def _check_ciphers(report: Report, field: str, tls: ServerTlsSettings) -> None:
    seen: set[str] = set()
    for index, cipher in enumerate(tls.cipher_suites):
        place = f"{field}.cipherSuites[{index}]"
        if not named_ciphers(cipher):
            report.warn(place, f"{cipher} is no cipher that the proxy knows; it is left out")
        elif cipher in seen:
            report.warn(place, f"{cipher} stands twice")
        seen.add(cipher)
