"""How a caller of the authority proves who it is.

Comes in: what came with a call: a token, or the certificate of its connection. Goes out: a ``Redeemable`` with the
identity, or None. Nothing of the request itself counts. The tokens that the supervisor gave to local proxies count on
the Unix socket alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

from cryptography import x509

from lateen.identity.account_tokens import AccountFile
from lateen.identity.certificate import identity_of, told_in
from lateen.identity.join_tokens import JoinTokens, Redeemable
from lateen.values.names import SpiffeId
from lateen.values.unreadable import UNREADABLE

ByToken = Callable[[str], Redeemable | None]


def _nothing_to_cross_out() -> None:
    """What counts again and again."""


def lasting(identity: SpiffeId | None, told: str = "") -> Redeemable | None:
    """A proof that is not used up."""
    return Redeemable(identity, _nothing_to_cross_out, told) if identity is not None else None


def tokens_from_elsewhere(join: JoinTokens, accounts: AccountFile | None) -> ByToken:
    """What tokens prove that come over the network."""

    def proof(token: str) -> Redeemable | None:
        known = join.find(token)
        caller = accounts.caller(token) if known is None and accounts is not None else None
        return lasting(*caller) if caller is not None else known

    return proof


def local_tokens(own: Callable[[str], tuple[SpiffeId, str] | None], elsewhere: ByToken) -> ByToken:
    """What tokens prove on the Unix socket. ``own`` knows the identity and the names of a local proxy's workload."""

    def proof(token: str) -> Redeemable | None:
        known = own(token)
        return lasting(*known) if known is not None else elsewhere(token)

    return proof


def by_certificate(pem: bytes, trust_domain: str, now: datetime.datetime) -> Redeemable | None:
    """What a certificate proves that the connection has already verified against the mesh's roots."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        identity = identity_of(certificate)
    except UNREADABLE:
        return None
    holds = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    return lasting(identity, told_in(certificate)) if holds and identity.trust_domain == trust_domain else None
