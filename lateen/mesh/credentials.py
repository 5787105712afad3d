"""What a Secret gives to TLS: a certificate with its key, or a trust bundle.

Comes in: the Secrets of the snapshot. Goes out: PEM as proxies read it, or ``CredentialError`` with what is wrong.
Rules:

- A certificate stands in ``tls.crt`` and ``tls.key``, or in ``cert`` and ``key``; the latter hold where both are given.
- Trusted roots stand in ``cacert`` or ``ca.crt``, a revocation list beside them in ``ca.crl``.
- The roots that belong to the certificate NAME are those of the Secret ``NAME-cacert`` if there is one, else its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID

from lateen.resources.kubernetes import SecretSpec
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey
from lateen.values.pem import read_certificates, read_crls, write_pem
from lateen.values.unreadable import UNREADABLE

CA_SUFFIX = "-cacert"
CERTIFICATE_ENTRIES = (("cert", "key"), ("tls.crt", "tls.key"))
ROOT_ENTRIES = ("cacert", "ca.crt")
CRL_ENTRY = "ca.crl"
MIN_RSA_BITS = 2048
CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
MAX_EXPONENT_BITS = 33
PLAIN_RSA = PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
PRIME_FIELD = bytes.fromhex("2a8648ce3d0101")
"""Stands in a key that spells its curve out instead of naming it."""

Secrets = Mapping[ResourceKey, Resource]


class BadCredential(Exception):
    """A certificate, key or trust bundle that cannot serve; the text says why, and shows no key."""


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
            try:
                return serving_pair(chain, private)
            except BadCredential as problem:
                raise _unusable(key, str(problem)) from problem
    raise _unusable(key, "it has neither tls.crt with tls.key nor cert with key")


def trust_bundle(secrets: Secrets, key: ResourceKey) -> tuple[bytes, bytes]:
    """The roots and the revocation list (perhaps empty) of a Secret. Raises CredentialError where it has no roots."""
    spec = _spec(secrets, key)
    for entry in ROOT_ENTRIES:
        roots = _value(key, spec, entry)
        if roots:
            try:
                return serving_bundle(roots, _value(key, spec, CRL_ENTRY))
            except BadCredential as problem:
                raise _unusable(key, str(problem), "give certificates in PEM") from problem
    raise _unusable(key, "it has neither ca.crt nor cacert", "put the roots that verify clients into ca.crt")


def bundle_key(secrets: Secrets, key: ResourceKey) -> ResourceKey:
    """The Secret that holds the roots that belong to a certificate's Secret."""
    beside = ResourceKey(key.kind, key.namespace, f"{key.name}{CA_SUFFIX}")
    return beside if beside in secrets else key


def serving_pair(chain: bytes, private: bytes) -> tuple[bytes, bytes]:
    """A certificate chain and its key as proxies read them. Raises BadCredential."""
    try:
        certificates = read_certificates(chain)
        leaf = certificates[0]
        public = leaf.public_key()
    except UNREADABLE as problem:
        raise BadCredential("its certificate is not PEM that can be read") from problem
    try:
        key = serialization.load_pem_private_key(private, password=None)
    except UNREADABLE as problem:
        raise BadCredential("its key is not PEM that can be read without a password") from problem
    _check_kind(leaf, public)
    if _public_bytes(key.public_key()) != _public_bytes(public):
        raise BadCredential("its key does not belong to its certificate")
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return write_pem(certificates), written


def _check_kind(leaf: x509.Certificate, public: object) -> None:
    """Whether the proxy takes a key like that of this certificate. Raises BadCredential."""
    if isinstance(public, rsa.RSAPublicKey) and leaf.public_key_algorithm_oid == PLAIN_RSA:
        if public.key_size < MIN_RSA_BITS:
            raise BadCredential(f"its RSA key has {public.key_size} bits; the proxy takes {MIN_RSA_BITS} at least")
        if public.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
            raise BadCredential("the exponent of its RSA key is larger than the proxy takes; 65537 is usual")
        return
    on_known_curve = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES
    if not on_known_curve or PRIME_FIELD in leaf.tbs_certificate_bytes:
        raise BadCredential("its key is of a kind that the proxy does not take; use RSA, P-256, P-384 or P-521")


def serving_bundle(roots: bytes, crl: bytes) -> tuple[bytes, bytes]:
    """A trust bundle and its revocation lists as proxies read them. Raises BadCredential."""
    try:
        bundle = write_pem((*read_certificates(roots), *read_crls(roots)))
    except UNREADABLE as problem:
        raise BadCredential("its roots are not PEM that can be read") from problem
    try:
        lists = read_crls(crl)
    except UNREADABLE as problem:
        raise BadCredential("its ca.crl is not PEM that can be read") from problem
    if crl and not lists:
        raise BadCredential("its ca.crl is not PEM that can be read")
    return bundle, write_pem(lists)


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
