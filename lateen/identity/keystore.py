"""The authority's key and certificate on disk.

Comes in: a folder. Goes out: the root, made on first use. The folder is 0700 and the files 0600, all of the user who
runs the mesh; anything looser is refused. Files appear whole or not at all, the key first: a process that is killed
between the two finds its key again and certifies that one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lateen.identity.certificate import PrivateKey, build_root, certificate_pem, key_pem, new_key
from lateen.values.secret import SecretBytes
from lateen.values.unreadable import UNREADABLE

MAX_FILE_BYTES = 64 * 1024


class KeystoreError(Exception):
    """The authority's files cannot be trusted, read or written; ``path`` and ``reason`` say which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def load_or_create(
    folder: Path, trust_domain: str, now: datetime.datetime, name: str = "ca"
) -> tuple[x509.Certificate, PrivateKey]:
    """The root certificate of this name and its key. Raises KeystoreError."""
    key_file, certificate_file = folder / key_name(name), folder / certificate_name(name)
    with problems_of(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(folder)
        key_text, certificate_text = read_private(key_file), read_private(certificate_file)
        if key_text is None:
            if certificate_text is not None:
                raise KeystoreError(key_file, "is missing while its certificate is there; restore it or remove both")
            key = new_key()
            write_private(key_file, key_pem(key))
        else:
            key = parse_key(key_file, key_text)
        if certificate_text is None:
            certificate = build_root(key, trust_domain, now)
            write_private(certificate_file, certificate_pem(certificate))
            return certificate, key
    certificate = parse_authority(certificate_file, certificate_text, key, now)
    if certificate.issuer != certificate.subject:
        reason = f"is no root: {certificate.issuer.rfc4514_string()} issued it"
        raise KeystoreError(certificate_file, f"{reason}; its cert-chain.pem and root-cert.pem have to stand beside it")
    return certificate, key


def key_name(name: str) -> str:
    """The file of a root's key, within the authority's folder."""
    return f"{name}-key.pem"


def certificate_name(name: str) -> str:
    """The file of a root's certificate, within the authority's folder."""
    return f"{name}-cert.pem"


@contextlib.contextmanager
def problems_of(folder: Path) -> Iterator[None]:
    """What the system says against a file becomes a KeystoreError."""
    try:
        yield
    except OSError as problem:
        raise KeystoreError(Path(problem.filename or folder), f"cannot be used: {problem.strerror}") from problem


def check_folder(folder: Path) -> None:
    """Raises KeystoreError unless the folder is its owner's alone."""
    _check_private(folder, folder.lstat(), stat.S_ISDIR)


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 atomically and durably. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path, limit: int = MAX_FILE_BYTES) -> SecretBytes | None:
    """What is in a file that only its owner may open; None if there is none. The opened file itself is judged.

    At most ``limit`` bytes are read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        _check_private(path, os.fstat(descriptor), stat.S_ISREG)
    except KeystoreError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        return SecretBytes(file.read(limit))


def _check_private(path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(status.st_mode):
        raise KeystoreError(path, "is a link or something else that does not belong there")
    if status.st_uid != os.getuid():
        raise KeystoreError(path, "belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise KeystoreError(path, f"is open to others (mode {stat.S_IMODE(status.st_mode):o}); take their rights away")


def parse_key(path: Path, text: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(text, password=None)
    except UNREADABLE as problem:
        raise KeystoreError(path, "is not a private key in PEM that can be read without a password") from problem
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise KeystoreError(path, "is neither an EC nor an RSA key")
    return key


def parse_authority(path: Path, text: bytes, key: PrivateKey, now: datetime.datetime) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(text)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        public = certificate.public_key()
    except UNREADABLE as problem:
        raise KeystoreError(path, "is not the certificate of an authority in PEM") from problem
    if not constraints.ca:
        raise KeystoreError(path, "is not the certificate of an authority")
    if key.public_key() != public:
        raise KeystoreError(path, "does not belong to the key beside it")
    if now >= certificate.not_valid_after_utc:
        raise KeystoreError(path, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        raise KeystoreError(path, f"holds only from {certificate.not_valid_before_utc:%Y-%m-%d}; is the clock right?")
    return certificate
