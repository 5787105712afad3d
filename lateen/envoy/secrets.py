"""Secrets over SDS: certificates of gateways, and the agent's own two.

Comes in: PEM bytes, or the names of files. Goes out: ``Secret`` resources. The bytes are private: whoever holds the
result hands it only to the proxy that it is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_spiffe_validator_config_pb2

from lateen.envoy import wire
from lateen.envoy.resources import EnvoyResource
from lateen.plan.tls import SecretRef
from lateen.values.names import Origin
from lateen.values.secret import SecretBytes

SPIFFE_VALIDATOR = "envoy.tls.cert_validator.spiffe"


def translate_secret(
    ref: SecretRef, cert_pem: bytes, key_pem: bytes, ca_pem: bytes, crl_pem: bytes = b""
) -> EnvoyResource:
    """The secret that ``ref`` names: a certificate where there is one, or else a trust bundle.

    Raises ValueError where there is neither.
    """
    if cert_pem and key_pem:
        secret = _certificate(
            ref, base_pb2.DataSource(inline_bytes=cert_pem), base_pb2.DataSource(inline_bytes=key_pem)
        )
    elif ca_pem:
        crl = base_pb2.DataSource(inline_bytes=crl_pem) if crl_pem else None
        secret = _bundle(ref, base_pb2.DataSource(inline_bytes=ca_pem), crl)
    else:
        raise ValueError(f"secret {ref.name!r} holds neither a certificate with its key nor a trust bundle")
    return _resource(ref, secret)


def trust_by_domain(ref: SecretRef, domains: Iterable[tuple[str, bytes]]) -> EnvoyResource:
    """A trust bundle in which each trust domain has roots of its own (PEM): none can vouch for another's identities."""
    config = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig()
    for name, roots in domains:
        config.trust_domains.add(name=name, trust_bundle=base_pb2.DataSource(inline_bytes=roots))
    validator = extension_pb2.TypedExtensionConfig(name=SPIFFE_VALIDATOR, typed_config=wire.pack(config))
    context = common_pb2.CertificateValidationContext(custom_validator_config=validator)
    return _resource(ref, secret_pb2.Secret(name=ref.name, validation_context=context))


def translate_file_secret(ref: SecretRef) -> EnvoyResource:
    """The secret of files that Envoy reads: at once, and again whenever others are moved into their place."""
    if ref.certificate_file:
        chain = base_pb2.DataSource(filename=ref.certificate_file)
        return _resource(ref, _certificate(ref, chain, base_pb2.DataSource(filename=ref.key_file)))
    crl = base_pb2.DataSource(filename=ref.crl_file) if ref.crl_file else None
    return _resource(ref, _bundle(ref, base_pb2.DataSource(filename=ref.ca_file), crl))


def _certificate(ref: SecretRef, chain: Any, key: Any) -> Any:
    certificate = common_pb2.TlsCertificate(certificate_chain=chain, private_key=key)
    return secret_pb2.Secret(name=ref.name, tls_certificate=certificate)


def _bundle(ref: SecretRef, roots: Any, crl: Any) -> Any:
    context = common_pb2.CertificateValidationContext(trusted_ca=roots, crl=crl)
    return secret_pb2.Secret(name=ref.name, validation_context=context)


def _resource(ref: SecretRef, secret: Any) -> EnvoyResource:
    source = ref.source
    origin = Origin(source.kind, source.namespace, source.name) if source else None
    made = wire.resource(ref.name, secret, origin)
    return msgspec.structs.replace(made, body=SecretBytes(made.body))
