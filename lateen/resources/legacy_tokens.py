"""Rules for tokens of the first generation, read as rules of RequestAuthentication.

Comes in: an ``OriginJwt``. Goes out: the ``JwtRule`` that means the same, for all that checks, fetches and plans. The
token goes on to the application, as ever.
"""

from __future__ import annotations

from lateen.resources.legacy_authentication import OriginJwt
from lateen.resources.request_authentication import JwtHeader, JwtRule


def jwt_rule(jwt: OriginJwt) -> JwtRule:
    """The same rule in the present form; ``triggerRules`` have none there."""
    return JwtRule(
        issuer=jwt.issuer,
        audiences=jwt.audiences,
        jwks_uri=jwt.jwks_uri,
        jwks=jwt.jwks,
        from_headers=tuple(JwtHeader(name) for name in jwt.jwt_headers),
        from_params=jwt.jwt_params,
        forward_original_token=True,
    )
