"""Signed service-account tokens (JWT), such as Kubernetes projects into pods, as proofs of identity.

Comes in: whose tokens count, and a token. Goes out: the identity in ``sub`` (``system:serviceaccount:NAMESPACE:NAME``).
Signatures, times, issuer and audience are checked by PyJWT; only asymmetric algorithms count.
"""

from __future__ import annotations

from typing import Any

import jwt
import msgspec

from lateen.values.names import SpiffeId

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384")
LONGEST_TOKEN = 16 * 1024
LEEWAY_S = 10
_SUBJECT = "system:serviceaccount:"


class AccountIssuer(msgspec.Struct, frozen=True):
    """Whose tokens count: the issuer, one of the audiences, and the keys (JSON of a JWKS)."""

    issuer: str
    audiences: tuple[str, ...]
    jwks: str


class AccountTokens:
    """Judges service-account tokens for one trust domain. Raises ValueError where the keys cannot be used."""

    def __init__(self, issuer: AccountIssuer, trust_domain: str) -> None:
        self._issuer, self._trust_domain = issuer, trust_domain
        try:
            keys = jwt.PyJWKSet.from_json(issuer.jwks).keys
        except (jwt.PyJWTError, ValueError, AttributeError, TypeError) as problem:
            raise ValueError(f"the keys of {issuer.issuer} cannot be used: {problem}") from problem
        self._keys = [key for key in keys if key.key_type in ("RSA", "EC")]
        if not self._keys:
            raise ValueError(f"there is no RSA or EC key of {issuer.issuer}")

    def identity(self, token: str) -> SpiffeId | None:
        """Whom a token proves, or None."""
        if len(token) > LONGEST_TOKEN or token.count(".") != 2:
            return None
        try:
            wanted = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            return None
        for key in self._keys:
            if wanted is not None and key.key_id is not None and key.key_id != wanted:
                continue
            claims = self._claims(token, key)
            if claims is not None:
                return self._identity_in(claims)
        return None

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any] | None:
        allowed = [name for name in ALGORITHMS if name.startswith("ES") == (key.key_type == "EC")]
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=allowed,
                audience=list(self._issuer.audiences),
                issuer=self._issuer.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return found

    def _identity_in(self, claims: dict[str, Any]) -> SpiffeId | None:
        subject = str(claims["sub"])
        namespace, colon, account = subject.removeprefix(_SUBJECT).partition(":")
        if not subject.startswith(_SUBJECT) or not colon or not namespace or not account or ":" in account:
            return None
        told = claims.get("kubernetes.io")
        if isinstance(told, dict):
            named = told.get("serviceaccount")
            account_there = named.get("name") if isinstance(named, dict) else account
            if (told.get("namespace", namespace), account_there) != (namespace, account):
                return None
        return SpiffeId(self._trust_domain, namespace, account)
