"""Credentials of an authority that nobody trusts, where a configuration is looked at or played without the real ones.

Comes in: identities. Goes out: certificates, keys and a root, as PEM, made on the spot.
"""

from __future__ import annotations

import datetime

from cryptography import x509

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

LIFE = datetime.timedelta(days=3650)


class StandIn:
    """An authority that lives as long as it is needed here."""

    def __init__(self, trust_domain: str, life: datetime.timedelta = LIFE) -> None:
        self._now = datetime.datetime.now(datetime.UTC)
        self._life = life
        self._key = new_key()
        self._root = build_root(self._key, trust_domain, self._now)
        self.roots = certificate_pem(self._root)

    def issue(self, identity: SpiffeId) -> tuple[x509.Certificate, bytes]:
        """A certificate, and its key as PEM."""
        key = new_key()
        public = read_request(build_request(key, identity))
        leaf = build_workload(public, identity, self._root, self._key, self._now, self._life)
        return leaf, bytes(key_pem(key))


def stand_in_credentials() -> tuple[bytes, bytes, bytes]:
    """A certificate, its key and the root behind it."""
    identity = SpiffeId("trial.local", "trial", "trial")
    authority = StandIn(identity.trust_domain)
    leaf, key = authority.issue(identity)
    return certificate_pem(leaf), key, authority.roots
