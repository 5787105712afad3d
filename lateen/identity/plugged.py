"""An authority that the operator plugs in: an intermediate below a root that is kept elsewhere.

Comes in: a folder with the usual four files: ``ca-cert.pem`` and ``ca-key.pem`` (the intermediate), ``cert-chain.pem``
(from the intermediate up, the root may be left out) and ``root-cert.pem`` (one root or several). Goes out: an
``Issuer`` whose chain was checked from the intermediate to a root, or a ``KeystoreError`` that says what is wrong.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from lateen.identity.certificate import PrivateKey
from lateen.identity.keystore import (
    KeystoreError,
    certificate_name,
    check_folder,
    key_name,
    parse_authority,
    parse_key,
    problems_of,
    read_private,
)
from lateen.values.network import is_host
from lateen.values.unreadable import UNREADABLE

ROOTS_FILE = "root-cert.pem"
CHAIN_FILE = "cert-chain.pem"
LONGEST_CHAIN = 10
_FILES = (key_name("ca"), certificate_name("ca"), CHAIN_FILE, ROOTS_FILE)
_TOGETHER = ", ".join(_FILES)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS = range(2048, 8193)
_BOTH_ENDS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.INHIBIT_ANY_POLICY,
}
"""Extensions that Envoy's library heeds. A certificate with another one that is critical is refused by every proxy."""


class Issuer(msgspec.Struct, frozen=True, eq=False):
    """Who signs: a certificate and its key. ``above`` is sent to workloads below their own: the way up to a root.

    ``root`` is where that way ends, ``expires`` when the first of all these certificates runs out.
    """

    certificate: x509.Certificate
    key: PrivateKey
    above: tuple[x509.Certificate, ...]
    root: x509.Certificate
    expires: datetime.datetime


def is_plugged_in(folder: Path) -> bool:
    """Whether an operator has put an authority of their own into this folder."""
    return (folder / ROOTS_FILE).exists() or (folder / CHAIN_FILE).exists()


Roots = tuple[x509.Certificate, ...]


def load_plugged_in(folder: Path, trust_domain: str, now: datetime.datetime) -> tuple[Issuer, Roots]:
    """The intermediate and the roots. Raises KeystoreError."""
    with problems_of(folder):
        check_folder(folder)
        texts = {name: read_private(folder / name) for name in _FILES}
    for name, text in texts.items():
        if text is None:
            raise KeystoreError(folder / name, f"is missing; an authority of your own has four files: {_TOGETHER}")
    key = parse_key(folder / key_name("ca"), texts[key_name("ca")] or b"")
    own_file = folder / certificate_name("ca")
    own = parse_authority(own_file, texts[certificate_name("ca")] or b"", key, now)
    chain = _certificates(folder / CHAIN_FILE, texts[CHAIN_FILE] or b"")
    roots = _certificates(folder / ROOTS_FILE, texts[ROOTS_FILE] or b"")
    above = _way_up(folder / CHAIN_FILE, own, chain, roots)
    root = next((root for root in roots if _is_issued_by((own, *above)[-1], root)), None)
    if root is None:
        raise KeystoreError(folder / ROOTS_FILE, f"has no root that {CHAIN_FILE} leads to")
    links = [(own_file, own), *((folder / CHAIN_FILE, link) for link in above), (folder / ROOTS_FILE, root)]
    for below, (path, link) in enumerate(links):
        try:
            _check_link(path, link, below, trust_domain, now)
            _check_strength(path, link)
            if link not in roots:
                _check_use(path, link)
        except UNREADABLE as problem:
            raise KeystoreError(path, f"{_name(link)} has extensions that cannot be read: {problem}") from problem
    sends = () if own in roots else (own, *(link for link in above if link not in roots))
    return Issuer(own, key, sends, root, min(link.not_valid_after_utc for _, link in links)), tuple(roots)


def marks(folder: Path) -> tuple[tuple[int, int, int], ...]:
    """What changes whenever one of the four files is written or exchanged."""
    found = []
    for name in _FILES:
        try:
            status = (folder / name).stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def reload(
    folder: Path, trust_domain: str, now: datetime.datetime, before: Issuer, trusted: Roots
) -> tuple[Issuer, Roots]:
    """What the files say now, in the place of what they said before.

    Raises KeystoreError for what is no good, and where workloads that follow at once would be strangers to the others.
    """
    issuer, roots = load_plugged_in(folder, trust_domain, now)
    if issuer.root not in trusted:
        reason = f"leads to {_name(issuer.root)}, which nobody trusts yet"
        raise KeystoreError(folder / certificate_name("ca"), f"{reason}; put that into {ROOTS_FILE} alone first")
    if before.root not in roots:
        reason = f"lacks {_name(before.root)}, which present certificates lead to"
        raise KeystoreError(folder / ROOTS_FILE, f"{reason}; exchange {certificate_name('ca')} and its key first")
    return issuer, roots


def _certificates(path: Path, text: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(text)
        for one in found:
            one.subject.rfc4514_string()
    except UNREADABLE as problem:
        raise KeystoreError(path, "holds no certificates in PEM, or one that cannot be read") from problem
    if len(found) > LONGEST_CHAIN:
        raise KeystoreError(path, f"holds more than {LONGEST_CHAIN} certificates")
    return found


def _way_up(
    path: Path, own: x509.Certificate, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """The certificates between the intermediate and the root, in order. The file may begin with the intermediate."""
    found: list[x509.Certificate] = []
    for link in chain:
        if link == own or link in roots:
            continue
        below = found[-1] if found else own
        if not _is_issued_by(below, link):
            raise KeystoreError(path, f"{_name(link)} did not issue {_name(below)}, which stands below it")
        found.append(link)
    return found


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate == issuer:
        return True
    try:
        certificate.verify_directly_issued_by(issuer)
    except UNREADABLE:
        return False
    return True


def _check_link(path: Path, link: x509.Certificate, below: int, trust_domain: str, now: datetime.datetime) -> None:
    """One certificate of the way up; ``below`` counts those of authorities beneath it."""
    if now >= link.not_valid_after_utc:
        raise KeystoreError(path, f"{_name(link)} expired on {link.not_valid_after_utc:%Y-%m-%d}")
    if now < link.not_valid_before_utc:
        raise KeystoreError(path, f"{_name(link)} holds only from {link.not_valid_before_utc:%Y-%m-%d}")
    basic = _extension(link, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise KeystoreError(path, f"{_name(link)} is not the certificate of an authority")
    if basic.path_length is not None and basic.path_length < below:
        raise KeystoreError(
            path, f"{_name(link)} allows {basic.path_length} authorities below it, and there are {below}"
        )
    usage = _extension(link, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise KeystoreError(path, f"{_name(link)} may not sign certificates (its key usage)")
    constraints = _extension(link, x509.NameConstraints)
    if constraints is not None:
        _check_names(path, link, constraints, trust_domain)


def _check_use(path: Path, link: x509.Certificate) -> None:
    """What would keep every proxy from taking certificates below this one. Of roots, proxies heed the key alone."""
    purposes = _extension(link, x509.ExtendedKeyUsage)
    if purposes is not None and not set(purposes) >= _BOTH_ENDS:
        reason = "its extended key usage has to name both serverAuth and clientAuth, or be left out"
        raise KeystoreError(path, f"{_name(link)} may not sign certificates of the mesh: {reason}")
    unknown = [one.oid.dotted_string for one in link.extensions if one.critical and one.oid not in _UNDERSTOOD]
    if unknown:
        raise KeystoreError(
            path, f"{_name(link)} has critical extensions that proxies do not know: {', '.join(unknown)}"
        )
    policies = _extension(link, x509.PolicyConstraints)
    if policies is not None and policies.require_explicit_policy is not None:
        raise KeystoreError(
            path, f"{_name(link)} asks for policies (its policy constraints) that workloads do not have"
        )
    if isinstance(link.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        raise KeystoreError(
            path, f"{_name(link)} is signed with {link.signature_hash_algorithm.name}, which proxies refuse"
        )


def _check_strength(path: Path, link: x509.Certificate) -> None:
    public = link.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey) and not isinstance(public.curve, _CURVES):
        raise KeystoreError(path, f"{_name(link)} has a key on {public.curve.name}; use P-256, P-384 or P-521")
    if isinstance(public, rsa.RSAPublicKey) and public.key_size not in _RSA_BITS:
        raise KeystoreError(path, f"{_name(link)} has an RSA key of {public.key_size} bits; use 2048 to 8192")


def _check_names(path: Path, link: x509.Certificate, constraints: x509.NameConstraints, trust_domain: str) -> None:
    for name in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())):
        if _is_uri(name) and not is_host(name.value.removeprefix(".").lower()):
            reason = (
                f"its name constraints have {name.value}, and proxies look for a host there, such as {trust_domain}"
            )
            raise KeystoreError(path, f"{_name(link)} may not sign for {trust_domain}: {reason}")
    permitted = [name.value for name in constraints.permitted_subtrees or () if _is_uri(name)]
    excluded = [name.value for name in constraints.excluded_subtrees or () if _is_uri(name)]
    if (permitted and not any(_covers(name, trust_domain) for name in permitted)) or any(
        _covers(name, trust_domain) for name in excluded
    ):
        raise KeystoreError(path, f"{_name(link)} may not sign for {trust_domain} (its name constraints)")


def constrains_subjects(link: x509.Certificate) -> bool:
    """Whether an authority may sign for certain subjects only."""
    constraints = _extension(link, x509.NameConstraints)
    if constraints is None:
        return False
    names = (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))
    return any(isinstance(name, x509.DirectoryName) for name in names)


def _is_uri(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.UniformResourceIdentifier)


def _covers(constraint: str, domain: str) -> bool:
    """A constraint on the host of URIs: itself, or with a dot before it all hosts below it."""
    host, domain = constraint.lower(), domain.lower()
    return domain.endswith(host) if host.startswith(".") else domain == host


_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


def _extension(link: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return link.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"certificate {certificate.serial_number:x}"
