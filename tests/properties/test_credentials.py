"""Secrets in any form of PEM, and with any byte changed: a gateway's Envoy takes what serves, and the rest is told."""

from __future__ import annotations

import base64
import datetime
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, strategies as st

from lateen.control.offline import configure
from lateen.settings import Settings
from tests.envoy.harness import validate
from tests.properties.judged import PROXIES
from tests.properties.length import examples

GATEWAY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "g"},
    "spec": {
        "servers": [
            {
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "hosts": ["*"],
                "tls": {"mode": "MUTUAL", "credentialName": "cert"},
            }
        ]
    },
}
READABLE: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda pem: pem,
    "mark of byte order": lambda pem: b"\xef\xbb\xbf" + pem,
    "indented": lambda pem: b"\n".join(b"  " + line for line in pem.split(b"\n")),
    "folded": lambda pem: pem.replace(b"\n", b" "),
    "other ends of lines": lambda pem: pem.replace(b"\n", b"\r\n"),
    "old ends of lines": lambda pem: pem.replace(b"\n", b"\r"),
    "on one line": lambda pem: pem.replace(b"\n", b""),
    "text around": lambda pem: b"of the shop: " + pem + b"the end",
    "twice": lambda pem: pem + pem,
    "a heading": lambda pem: pem.replace(b"-----\n", b"-----\nComment: x\n\n", 1),
}
UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "one that does not end": lambda pem: pem + pem[:50],
    "one that is none": lambda pem: pem + pem.replace(b"\n", b"\nAAAA", 1),
}
ENTRIES = ("tls.crt", "tls.key", "ca.crt", "ca.crl")


@functools.cache
def entries() -> dict[str, bytes]:
    """What a good Secret holds."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x.example")])
    until = now + datetime.timedelta(days=3)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("x.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    revoked = x509.CertificateRevocationListBuilder(name, now, until).sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    crl = revoked.public_bytes(serialization.Encoding.PEM)
    return dict(zip(ENTRIES, (certificate, key.private_bytes(*form), certificate, crl), strict=True))


def told_and_refused(data: dict[str, bytes]) -> tuple[list[str], str]:
    """What is told of a gateway with this Secret, and what its Envoy says."""
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"}, "data": encoded}
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        path = Path(folder) / "mesh.yaml"
        path.write_text("\n---\n".join(map(json.dumps, (secret, GATEWAY))))
        result = configure([path], PROXIES[1], Settings())
        told = [finding.message for finding in result.findings if finding.is_error]
        return told, validate(result.bootstrap().encode(), Path(folder))


@given(st.sampled_from(ENTRIES), st.sampled_from(sorted(READABLE)))
@examples(12, 100, shrinks=False)
def test_a_gateway_serves_a_secret_in_any_form_that_can_be_read(entry: str, form: str) -> None:
    assert told_and_refused({**entries(), entry: READABLE[form](entries()[entry])}) == ([], "")


@given(st.sampled_from(("tls.crt", "ca.crt", "ca.crl")), st.sampled_from(sorted(UNREADABLE)))
@examples(4, 10, shrinks=False)
def test_a_block_that_cannot_be_read_is_told(entry: str, form: str) -> None:
    told, refused = told_and_refused({**entries(), entry: UNREADABLE[form](entries()[entry])})
    assert ["not PEM that can be read" in message for message in told] == [True]
    assert not refused


@given(st.sampled_from(ENTRIES), st.integers(0, 3000), st.integers(1, 255))
@examples(15, 2000, shrinks=False)
def test_envoy_takes_a_secret_with_a_changed_byte_or_it_is_told(entry: str, place: int, change: int) -> None:
    first, *lines, last = entries()[entry].split(b"\n")[:-1]
    encoded = bytearray(base64.b64decode(b"".join(lines)))
    encoded[place % len(encoded)] ^= change
    changed = b"\n".join((first, base64.b64encode(encoded), last, b""))
    _, refused = told_and_refused({**entries(), entry: changed})
    assert not refused
