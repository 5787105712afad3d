"""What a Secret gives to TLS: a certificate with its key, or a trust bundle.

Comes in: the Secrets of the snapshot. Goes out: PEM bytes, or ``CredentialError`` with what is wrong. Rules:

- A certificate stands in ``tls.crt`` and ``tls.key``, or in ``cert`` and ``key``; the latter hold where both are given.
- Trusted roots stand in ``cacert`` or ``ca.crt``, a revocation list beside them in ``ca.crl``.
- The roots that belong to the certificate NAME are those of the Secret ``NAME-cacert`` if there is one, else its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lateen.resources.kubernetes import SecretSpec
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey
from lateen.values.unreadable import UNREADABLE

CA_SUFFIX = "-cacert"
CERTIFICATE_ENTRIES = (("cert", "key"), ("tls.crt", "tls.key"))
ROOT_ENTRIES = ("cacert", "ca.crt")
CRL_ENTRY = "ca.crl"
MIN_RSA_BITS = 2048
CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})

Secrets = Mapping[ResourceKey, Resource]


class CredentialError(ValueError):
    """A Secret that cannot serve. ``code`` is ``missing-secret`` or ``unusable-secret``; the text never shows keys."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


def certificate(secrets: Secrets, key: ResourceKey) -> tuple[bytes, bytes]:
    """The certificate chain and the private key of a Secret, as PEM. Raises CredentialError without a good one."""
    spec = _spec(secrets, key)
    for certificate_entry, key_entry in CERTIFICATE_ENTRIES:
        chain, private = _value(key, spec, certificate_entry), _value(key, spec, key_entry)
        if chain and private:
            problem = certificate_problem(chain, private)
            if problem:
                raise _unusable(key, problem)
            return chain, private
    raise _unusable(key, "it has neither tls.crt with tls.key nor cert with key")


def trust_bundle(secrets: Secrets, key: ResourceKey) -> tuple[bytes, bytes]:
    """The roots and the revocation list (perhaps empty) of a Secret. Raises CredentialError where it has no roots."""
    spec = _spec(secrets, key)
    for entry in ROOT_ENTRIES:
        roots = _value(key, spec, entry)
        if roots:
            crl = _value(key, spec, CRL_ENTRY)
            problem = bundle_problem(roots, crl)
            if problem:
                raise _unusable(key, problem)
            return roots, crl
    raise _unusable(key, "it has neither ca.crt nor cacert", "put the roots that verify clients into ca.crt")


def bundle_key(secrets: Secrets, key: ResourceKey) -> ResourceKey:
    """The Secret that holds the roots that belong to a certificate's Secret."""
    beside = ResourceKey(key.kind, key.namespace, f"{key.name}{CA_SUFFIX}")
    return beside if beside in secrets else key


def certificate_problem(chain: bytes, private: bytes) -> str:
    """What is wrong with a certificate and its key, empty where they serve."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        public = leaf.public_key()
    except UNREADABLE:
        return "its certificate is not PEM that can be read"
    try:
        key = serialization.load_pem_private_key(private, password=None)
    except UNREADABLE:
        return "its key is not PEM that can be read without a password"
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        return f"its RSA key has {public.key_size} bits; the proxy takes {MIN_RSA_BITS} at least"
    on_known_curve = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES
    if not isinstance(public, rsa.RSAPublicKey) and not on_known_curve:
        return "its key is of a kind that the proxy does not take"
    if _public_bytes(key.public_key()) != _public_bytes(public):
        return "its key does not belong to its certificate"
    return ""


def bundle_problem(roots: bytes, crl: bytes) -> str:
    """What is wrong with a trust bundle, empty where it serves."""
    try:
        x509.load_pem_x509_certificates(roots)
    except UNREADABLE:
        return "its roots are not PEM that can be read"
    try:
        if crl:
            x509.load_pem_x509_crl(crl)
    except UNREADABLE:
        return "its ca.crl is not PEM that can be read"
    return ""


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _spec(secrets: Secrets, key: ResourceKey) -> SecretSpec:
    resource = secrets.get(key)
    if resource is None:
        remedy = f"add a Secret {key.name} to namespace {key.namespace}; others are not looked into"
        raise CredentialError("missing-secret", f"{key} does not exist", remedy)
    spec: SecretSpec = resource.spec
    return spec


def _value(key: ResourceKey, spec: SecretSpec, entry: str) -> bytes:
    try:
        return spec.value(entry)
    except ValueError as problem:
        raise _unusable(key, str(problem)) from problem


def _unusable(key: ResourceKey, problem: str, remedy: str = "give tls.crt and tls.key in PEM") -> CredentialError:
    return CredentialError("unusable-secret", f"{key} cannot serve: {problem}", remedy)
