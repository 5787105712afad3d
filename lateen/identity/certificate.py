"""Certificates, built purely: keys, names and times come in, X.509 goes out. No clock, no files.

Workload certificates carry one SPIFFE URI as their only, critical alternative name. Their subject may tell what the
workload is called, for metrics and logs; it decides nothing. Nothing that a certificate request asks for beyond its
public key is taken over.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lateen.values.names import SpiffeId
from lateen.values.secret import SecretBytes
from lateen.values.told_names import PREFIX
from lateen.values.unreadable import UNREADABLE

ROOT_LIFE = datetime.timedelta(days=3650)
CLOCK_SKEW = datetime.timedelta(minutes=2)
MAX_REQUEST_BYTES = 16 * 1024
DESCRIPTION = x509.ObjectIdentifier("2.5.4.13")
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS = range(2048, 4097)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class RequestRefused(Exception):
    """A certificate request that will not be signed; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


KEY_KINDS = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096")


def new_key(kind: str = "ec-p256") -> PrivateKey:
    """A fresh key of one of ``KEY_KINDS``. RSA keys cost a tenth of a second and more. Raises ValueError."""
    if kind not in KEY_KINDS:
        raise ValueError(f"{kind!r} is no kind of key")
    family, _, size = kind.partition("-")
    if family == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=int(size))
    return ec.generate_private_key(ec.SECP384R1() if size == "p384" else ec.SECP256R1())


def fingerprint(certificate: x509.Certificate) -> str:
    """What a certificate is told apart by: SHA-256 of it, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_pem(key: PrivateKey) -> SecretBytes:
    """The key as unencrypted PKCS#8 PEM."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return SecretBytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def build_root(key: PrivateKey, trust_domain: str, now: datetime.datetime) -> x509.Certificate:
    """A self-signed root that may sign workloads and nothing below that."""
    public = key.public_key()
    own = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:8]  # tells roots of one mesh apart
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Lateen {own}"),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def build_request(key: PrivateKey, identity: SpiffeId) -> bytes:
    """A certificate request (PEM) for a workload; the name in it is a courtesy, the signer decides."""
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return (
        builder.add_extension(name, critical=True).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )


def read_request(pem: bytes) -> PublicKey:
    """The public key of a request, the only thing that is taken from it. Raises RequestRefused."""
    if len(pem) > MAX_REQUEST_BYTES:
        raise RequestRefused("the request is too large")
    try:
        request = x509.load_pem_x509_csr(pem)
        public = fit_key(request.public_key())
        signed = request.is_signature_valid
    except UNREADABLE as problem:
        raise RequestRefused("this is no certificate request in PEM") from problem
    if not signed:
        raise RequestRefused("the request is not signed by its own key")
    return public


def fit_key(public: object) -> PublicKey:
    """The key if it is strong, and not so large that checking its signatures costs much."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        if not isinstance(public.curve, _CURVES):
            raise RequestRefused(f"keys on {public.curve.name} are not signed; use P-256, P-384 or P-521")
        return public
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size not in _RSA_BITS:
            raise RequestRefused(f"RSA keys of {public.key_size} bits are not signed; use 2048 to 4096")
        return public
    raise RequestRefused("only EC and RSA keys are signed")


def build_workload(
    public: PublicKey,
    identity: SpiffeId,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
    hosts: Sequence[str] = (),
    told: str = "",
) -> x509.Certificate:
    """A workload's certificate: its identity as critical URI, for both ends of TLS, no longer than its issuer lives.

    ``hosts`` are names that servers of the control plane have beside their identity; ``told`` are names of the
    workload (``told_names``).
    """
    described = [x509.NameAttribute(DESCRIPTION, f"{PREFIX}{told}")] if told else []
    names = [x509.UniformResourceIdentifier(str(identity)), *map(_host_name, hosts)]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(described))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + life, issuer.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signature=True, encipherment=isinstance(public, rsa.RSAPublicKey)), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_identifier(issuer), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def identity_of(certificate: x509.Certificate) -> SpiffeId:
    """The workload identity that a certificate carries. Raises ValueError unless it has exactly that one name."""
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except UNREADABLE as problem:
        raise ValueError("the certificate has no name") from problem
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise ValueError("the certificate has other names than one URI")
    return SpiffeId.parse(names[0].value)


def told_in(certificate: x509.Certificate) -> str:
    """The names of the workload that a certificate of the mesh tells; empty if it tells none."""
    texts = [str(found.value) for found in certificate.subject.get_attributes_for_oid(DESCRIPTION)]
    return next((text.removeprefix(PREFIX) for text in texts if text.startswith(PREFIX)), "")


def _authority_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, signature: bool = False, encipherment: bool = False, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
