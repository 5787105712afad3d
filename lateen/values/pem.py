"""Certificates and revocation lists in PEM, as proxies read them.

Comes in: a text as somebody wrote it: indented, folded to one line, with a byte order mark or other text around it.
Goes out: the same blocks in the usual form, and nothing else. A proxy passes over a block that stands in another form,
or refuses everything for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_BLOCK = re.compile(rb"-----BEGIN ([^-\n]+)-----(?:(?!-----).)*-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")
_CRLS = (b"X509 CRL",)
_Any = TypeVar("_Any", x509.Certificate, x509.CertificateRevocationList)


def read_certificates(text: bytes) -> list[x509.Certificate]:
    """All of them, in order. Raises one of ``UNREADABLE`` for a text without one, and where one cannot be read."""
    found = [_whole(x509.load_pem_x509_certificate(block)) for block in _blocks(text, _CERTIFICATES)]
    if not found:
        raise ValueError("there is no certificate in PEM")
    return found


def read_crls(text: bytes) -> list[x509.CertificateRevocationList]:
    """All of them, in order, perhaps none. Raises one of ``UNREADABLE`` where one cannot be read."""
    return [_whole(x509.load_pem_x509_crl(block)) for block in _blocks(text, _CRLS)]


def write_pem(found: Iterable[x509.Certificate | x509.CertificateRevocationList]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)


def _blocks(text: bytes, labels: tuple[bytes, ...]) -> list[bytes]:
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != text.count(b"-----BEGIN "):
        raise ValueError("a block does not end")
    return [block[0] for block in blocks if block[1] in labels]


def _whole(found: _Any) -> _Any:
    """The same, once all of its parts were read, each of which is left until somebody asks for it."""
    parts: list[object] = [found.issuer, list(found.extensions)]
    if isinstance(found, x509.Certificate):
        parts += [found.subject, found.not_valid_before_utc, found.not_valid_after_utc]
    else:
        parts += [found.last_update_utc, found.next_update_utc, [one.extensions for one in found]]
    return found
