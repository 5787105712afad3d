"""TLS contexts: the server's side for filter chains, the client's for clusters.

Comes in: ``ServerTls`` and ``ClientTls``. Goes out: transport sockets. Certificates and trust bundles are named, not
held: local names come from the workload's agent over SDS, all others over ADS; files are read by Envoy.

Both versions are always written out: a client's maximum is otherwise TLS 1.2.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from lateen.envoy import wire
from lateen.envoy.profile import EnvoyProfile
from lateen.envoy.resources import SECRET
from lateen.plan.tls import ClientTls, SecretRef, ServerTls

SDS_CLUSTER = "sds-grpc"
TLS_SOCKET = "envoy.transport_sockets.tls"
RAW_SOCKET = "envoy.transport_sockets.raw_buffer"
PROXY_SOCKET = "envoy.transport_sockets.upstream_proxy_protocol"

_PROTOCOLS = {
    "": common_pb2.TlsParameters.TLS_AUTO,
    "TLS_AUTO": common_pb2.TlsParameters.TLS_AUTO,
    "TLSV1_0": common_pb2.TlsParameters.TLSv1_0,
    "TLSV1_1": common_pb2.TlsParameters.TLSv1_1,
    "TLSV1_2": common_pb2.TlsParameters.TLSv1_2,
    "TLSV1_3": common_pb2.TlsParameters.TLSv1_3,
}
_SAN = common_pb2.SubjectAltNameMatcher


def is_file(ref: SecretRef) -> bool:
    return bool(ref.certificate_file or ref.ca_file)


def secret_references(*refs: SecretRef | None) -> tuple[tuple[str, str], ...]:
    """Those of the secrets that come over ADS, as references to resources."""
    return tuple((SECRET, ref.name) for ref in refs if ref is not None and not ref.local and not is_file(ref))


def server_secret_references(tls: ServerTls) -> tuple[tuple[str, str], ...]:
    """The same for a server, whose files come over ADS too: a file that is missing must not take the listener down."""
    return tuple((SECRET, ref.name) for ref in tls.secrets if not ref.local)


def server_socket(tls: ServerTls) -> Any:
    """The transport socket of a filter chain that speaks TLS."""
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=_server_common(tls),
        require_client_certificate=wire.boolean(tls.require_client),
    )
    if tls.roots is not None:
        _judge_every_time(context)
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=wire.pack(context))


def _judge_every_time(context: Any) -> None:
    """No session is resumed: Envoy would take the caller by a certificate that may have ended meanwhile."""
    context.disable_stateless_session_resumption = True
    context.disable_stateful_session_resumption = True


def _server_common(tls: ServerTls) -> Any:
    common = tls_pb2.CommonTlsContext(
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=_PROTOCOLS[tls.min_version],
            tls_maximum_protocol_version=_PROTOCOLS[tls.max_version or "TLSV1_3"],
            cipher_suites=tls.cipher_suites,
            ecdh_curves=tls.curves,
        ),
        alpn_protocols=tls.alpn,
    )
    for ref in (tls.certificate, *((tls.alternative,) if tls.alternative else ())):
        common.tls_certificate_sds_secret_configs.append(_by_name(ref))
    if tls.roots is not None:
        common.combined_validation_context.CopyFrom(
            tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
                default_validation_context=_clients(tls), validation_context_sds_secret_config=_by_name(tls.roots)
            )
        )
    return common


def _clients(tls: ServerTls) -> Any:
    """What a client's certificate has to bear, beside being signed by the roots."""
    context = common_pb2.CertificateValidationContext(
        match_typed_subject_alt_names=[
            *(
                _SAN(san_type=_SAN.URI, matcher=string_pb2.StringMatcher(prefix=f"spiffe://{domain}/"))
                for domain in tls.client_trust_domains
            ),
            *(_exact_san(name) for name in tls.client_sans),
        ],
        verify_certificate_spki=tls.client_spki,
        verify_certificate_hash=tls.client_hashes,
    )
    if not tls.verify:
        context.trust_chain_verification = context.ACCEPT_UNTRUSTED
    return context


def client_socket(tls: ClientTls, profile: EnvoyProfile) -> Any:
    """The transport socket of a cluster that speaks TLS. Raises ValueError where it verifies against nothing."""
    context = tls_pb2.UpstreamTlsContext(
        common_tls_context=_client_common(tls, profile),
        sni=tls.sni,
        auto_sni_san_validation=verifies_by_sni(tls),
    )
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=wire.pack(context))


def verifies_by_sni(tls: ClientTls) -> bool:
    """Outside servers whose names nobody listed have to bear the name that is asked for.

    Without this any certificate of a public authority would do. Mesh TLS is exempt: its SNI is no host name.
    """
    in_mesh = tls.roots is not None and tls.roots.local
    return tls.verify and bool(tls.sni) and not tls.sans and not in_mesh


def _client_common(tls: ClientTls, profile: EnvoyProfile) -> Any:
    common = tls_pb2.CommonTlsContext(
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=_PROTOCOLS[tls.min_version],
            tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
            cipher_suites=tls.cipher_suites,
            ecdh_curves=tls.curves,
        ),
        alpn_protocols=tls.alpn,
    )
    if tls.certificate is not None:
        _add_certificate(common, tls.certificate)
    if tls.verify:
        names = [_exact_san(name) for name in tls.sans]
        if tls.roots is not None:
            _add_roots(common, tls.roots, names, tls.crl_file)
        elif tls.system_roots:
            _add_roots(common, SecretRef("system", ca_file=profile.system_roots), names, tls.crl_file)
        else:
            raise ValueError(f"{tls.origin}: a server is to be verified, but against no roots")
    return common


def _exact_san(name: str) -> Any:
    matcher = string_pb2.StringMatcher(exact=name)
    if "://" in name:
        return _SAN(san_type=_SAN.URI, matcher=matcher)
    if "@" in name:
        return _SAN(san_type=_SAN.EMAIL, matcher=matcher)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _SAN(san_type=_SAN.DNS, matcher=matcher)
    return _SAN(san_type=_SAN.IP_ADDRESS, matcher=matcher)


def _add_certificate(common: Any, ref: SecretRef) -> None:
    if is_file(ref):
        common.tls_certificates.add(
            certificate_chain=base_pb2.DataSource(filename=ref.certificate_file),
            private_key=base_pb2.DataSource(filename=ref.key_file),
        )
    else:
        common.tls_certificate_sds_secret_configs.append(_by_name(ref))


def _add_roots(common: Any, ref: SecretRef, names: list[Any], crl_file: str = "") -> None:
    context = common_pb2.CertificateValidationContext(match_typed_subject_alt_names=names)
    if crl_file:
        context.crl.filename = crl_file
    if ref.ca_file:
        context.trusted_ca.filename = ref.ca_file
        common.validation_context.CopyFrom(context)
        return
    common.combined_validation_context.CopyFrom(
        tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=context, validation_context_sds_secret_config=_by_name(ref)
        )
    )


def _by_name(ref: SecretRef) -> Any:
    source = wire.over_agent(SDS_CLUSTER) if ref.local else wire.over_ads()
    return secret_pb2.SdsSecretConfig(name=ref.name, sds_config=source)


def raw_socket() -> Any:
    return base_pb2.TransportSocket(name=RAW_SOCKET, typed_config=wire.pack(raw_buffer_pb2.RawBuffer()))


def proxy_protocol_socket(version: str, inner: Any) -> Any:
    """Sends the PROXY protocol header (``V1`` or ``V2``) before ``inner`` begins."""
    config = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(transport_socket=inner)
    config.config.version = config.config.V2 if version == "V2" else config.config.V1
    return base_pb2.TransportSocket(name=PROXY_SOCKET, typed_config=wire.pack(config))
