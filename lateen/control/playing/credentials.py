"""Certificates for played calls: one for each secret of the proxy, one for the client, all of one made-up authority.

Comes in: names of secrets. Goes out: PEM, and which secret a certificate that a server showed was made for.
"""

from __future__ import annotations

import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from lateen.control.stand_in import StandIn
from lateen.identity.certificate import certificate_pem
from lateen.values.names import SpiffeId

LIFE = datetime.timedelta(days=1)


class PlayedCredentials:
    """An authority that lives as long as a play."""

    def __init__(self, trust_domain: str, namespace: str) -> None:
        self._identity = SpiffeId(trust_domain, namespace, "default")
        self._authority = StandIn(trust_domain, LIFE)
        self._names: dict[bytes, str] = {}
        self.roots = self._authority.roots

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
        made, key = self._authority.issue(identity)
        self._names[made.public_bytes(Encoding.DER)] = name
        return certificate_pem(made), key
