"""Certificates as files, for a workload that no agent of this mesh looks after.

Comes in: a way to have a request signed. Goes out: a folder with ``key.pem`` (0600), ``cert-chain.pem`` and
``root-cert.pem``. The key is made here and never sent. A renewal keeps the key, so that key and certificate fit each
other at every moment, whoever reads them and whenever this process is killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography import x509

from lateen.identity.certificate import build_request, identity_of, new_key
from lateen.identity.keystore import KeystoreError, check_folder, parse_key, problems_of, read_private, write_private
from lateen.identity.workload import Credentials, judge_chain
from lateen.values.names import SpiffeId
from lateen.values.secret import SecretBytes
from lateen.values.unreadable import UNREADABLE

KEY, CHAIN, ROOTS = "key.pem", "cert-chain.pem", "root-cert.pem"
Ask = Callable[[bytes], Awaitable[list[bytes]]]
"""Has a certificate request (PEM) signed. Raises CertificateUnavailable."""


def check_new(folder: Path) -> None:
    """Raises KeystoreError where a key is kept there already, or others may enter."""
    with problems_of(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(folder)
        if (folder / KEY).exists():
            raise KeystoreError(folder / KEY, "is there already; take another folder, or --renew the certificate")


async def obtain(folder: Path, identity: SpiffeId, key_kind: str, ask: Ask, now: float) -> Credentials:
    """Make a key, have it certified and write all down. Raises CertificateUnavailable, KeystoreError."""
    new = not folder.exists()
    check_new(folder)
    try:
        key = new_key(key_kind)
        credentials = judge_chain(await ask(build_request(key, identity)), key, identity, now)
        _write(folder, credentials)
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return credentials


class Present:
    """What a folder holds now: ``pair`` (key and chain), ``roots``, ``identity``. Raises KeystoreError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with problems_of(folder):
            check_folder(folder)
            text, chain, roots = (read_private(folder / name) for name in (KEY, CHAIN, ROOTS))
        if text is None or chain is None or roots is None:
            raise KeystoreError(folder, f"does not hold {KEY}, {CHAIN} and {ROOTS}")
        self._key = parse_key(folder / KEY, text)
        self.pair, self.roots = (SecretBytes(text), bytes(chain)), bytes(roots)
        try:
            self.identity = identity_of(x509.load_pem_x509_certificates(chain)[0])
        except UNREADABLE as problem:
            raise KeystoreError(folder / CHAIN, f"is not a workload's certificate: {problem}") from problem

    async def renew(self, ask: Ask, now: float) -> Credentials:
        """Another certificate for the same key and identity. Raises CertificateUnavailable, KeystoreError."""
        chain = await ask(build_request(self._key, self.identity))
        credentials = judge_chain(chain, self._key, self.identity, now)
        _write(self._folder, credentials)
        return credentials


def _write(folder: Path, credentials: Credentials) -> None:
    with problems_of(folder):
        write_private(folder / KEY, credentials.key)
        write_private(folder / ROOTS, credentials.roots)
        write_private(folder / CHAIN, credentials.chain)
