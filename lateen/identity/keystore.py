"""The authority's key and certificate on disk.

Comes in: a folder. Goes out: the root, made on first use. The folder is 0700 and the key 0600, both of the user who
runs the mesh; anything looser is refused. Files appear whole or not at all.
"""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lateen.identity.certificate import PrivateKey, build_root, certificate_pem, key_pem, new_key

KEY_FILE = "ca-key.pem"
CERTIFICATE_FILE = "ca-cert.pem"


class KeystoreError(Exception):
    """The authority's files cannot be trusted or read; ``path`` and ``reason`` say which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def load_or_create(folder: Path, trust_domain: str, now: datetime.datetime) -> tuple[x509.Certificate, PrivateKey]:
    """The root certificate and its key. Raises KeystoreError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(folder)
    key_file, certificate_file = folder / KEY_FILE, folder / CERTIFICATE_FILE
    if not key_file.exists() and not certificate_file.exists():
        key = new_key()
        certificate = build_root(key, trust_domain, now)
        write_private(key_file, key_pem(key))
        write_private(certificate_file, certificate_pem(certificate))
        return certificate, key
    for path in (key_file, certificate_file):
        if not path.exists():
            raise KeystoreError(path, "is missing while its counterpart is there; restore it or remove both")
        _check_private(path)
    return _load(certificate_file, key_file, now)


def _load(certificate_file: Path, key_file: Path, now: datetime.datetime) -> tuple[x509.Certificate, PrivateKey]:
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError) as problem:
        raise KeystoreError(key_file, "is not a private key in PEM") from problem
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except ValueError as problem:
        raise KeystoreError(certificate_file, "is not a certificate in PEM") from problem
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise KeystoreError(key_file, f"does not belong to {certificate_file.name}")
    if now >= certificate.not_valid_after_utc:
        raise KeystoreError(certificate_file, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return certificate, key


def _check_private(path: Path) -> None:
    status = path.stat()
    if status.st_uid != os.getuid():
        raise KeystoreError(path, "belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise KeystoreError(path, f"is open to others (mode {stat.S_IMODE(status.st_mode):o}); take their rights away")


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 atomically and durably."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
