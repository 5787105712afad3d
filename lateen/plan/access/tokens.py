"""How a plan says which tokens (JWT) a chain looks at.

Comes in: values read from RequestAuthentications. Goes out: frozen structs that the translation reads.
"""

from __future__ import annotations

import msgspec

from lateen.values.names import Origin


class TokenProvider(msgspec.Struct, frozen=True):
    """Tokens of one issuer (empty: of any), checked with ``jwks``, the JSON of public keys.

    ``headers`` are pairs of name and prefix; where no place is named, Envoy looks into ``Authorization: Bearer`` and
    the query parameter ``access_token``. ``claim_headers`` are pairs of header and claim. ``spaced_claims`` hold
    several values apart by spaces. ``required``: a request without such a token is refused. ``lenient``: one that is
    not good counts as none, and a good one leaves its header under the provider's name. ``ports``: looked at there
    alone.
    """

    name: str
    jwks: str
    origin: Origin
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    spaced_claims: tuple[str, ...] = ()
    required: bool = False
    lenient: bool = False
    ports: tuple[int, ...] = ()
