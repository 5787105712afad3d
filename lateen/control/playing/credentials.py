"""Certificates for played calls: one for each secret of the proxy, one for the client, all of one made-up authority.

Comes in: names of secrets. Goes out: PEM, and which secret a certificate that a server showed was made for.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lateen.identity.certificate import (
    build_request,
    build_root,
    build_workload,
    certificate_pem,
    key_pem,
    new_key,
    read_request,
)
from lateen.values.names import SpiffeId

LIFE = datetime.timedelta(days=1)


class PlayedCredentials:
    """An authority that lives as long as a play."""

    def __init__(self, trust_domain: str, namespace: str) -> None:
        self._now = datetime.datetime.now(datetime.UTC)
        self._identity = SpiffeId(trust_domain, namespace, "default")
        self._root_key = new_key()
        self._root = build_root(self._root_key, trust_domain, self._now)
        self._names: dict[bytes, str] = {}
        self.roots = certificate_pem(self._root)

    def server(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) for a secret of this name."""
        return self._issue(name, self._identity)

    def client(self, identity: str) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a client; an empty identity is the proxy's own. Raises ValueError."""
        return self._issue("", SpiffeId.parse(identity) if identity else self._identity)

    def name_of(self, shown: bytes) -> str:
        """The secret whose certificate (DER) a server showed; empty for one that is not of this authority."""
        return self._names.get(shown, "")

    def _issue(self, name: str, identity: SpiffeId) -> tuple[bytes, bytes]:
        key = new_key()
        public = read_request(build_request(key, identity))
        made: x509.Certificate = build_workload(public, identity, self._root, self._root_key, self._now, LIFE)
        self._names[made.public_bytes(Encoding.DER)] = name
        return certificate_pem(made), bytes(key_pem(key))
