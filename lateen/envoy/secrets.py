"""Secrets over SDS: certificates of gateways, and the agent's own two.

Comes in: PEM bytes. Goes out: ``Secret`` resources. The bytes are private: whoever holds the result hands it only to
the proxy that it is for.
"""

from __future__ import annotations

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2

from lateen.envoy import wire
from lateen.envoy.resources import EnvoyResource
from lateen.plan.tls import SecretRef
from lateen.values.names import Origin
from lateen.values.secret import SecretBytes


def translate_secret(ref: SecretRef, cert_pem: bytes, key_pem: bytes, ca_pem: bytes) -> EnvoyResource:
    """The secret that ``ref`` names: a certificate where there is one, or else a trust bundle.

    Raises ValueError where there is neither.
    """
    if cert_pem and key_pem:
        secret = secret_pb2.Secret(
            name=ref.name,
            tls_certificate=common_pb2.TlsCertificate(
                certificate_chain=base_pb2.DataSource(inline_bytes=cert_pem),
                private_key=base_pb2.DataSource(inline_bytes=key_pem),
            ),
        )
    elif ca_pem:
        secret = secret_pb2.Secret(
            name=ref.name,
            validation_context=common_pb2.CertificateValidationContext(
                trusted_ca=base_pb2.DataSource(inline_bytes=ca_pem)
            ),
        )
    else:
        raise ValueError(f"secret {ref.name!r} holds neither a certificate with its key nor a trust bundle")
    source = ref.source
    origin = Origin(source.kind, source.namespace, source.name) if source else None
    made = wire.resource(ref.name, secret, origin)
    return msgspec.structs.replace(made, body=SecretBytes(made.body))
