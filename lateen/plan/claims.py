"""Names in ``headers`` of a match that mean claims of the request's token.

Comes in: the name of a header condition. Goes out: the way to the claim in the token's payload, with case kept.
"""

from __future__ import annotations

CLAIMS = "@request.auth.claims"


def path_of_claim(name: str) -> tuple[str, ...]:
    """``@request.auth.claims.a.b`` and ``@request.auth.claims[a][b]`` are a, b; empty for the name of a header."""
    if not name.startswith(CLAIMS):
        return ()
    rest = name.removeprefix(CLAIMS)
    if rest.startswith("["):
        return tuple(rest.removeprefix("[").removesuffix("]").split("]["))
    return tuple(rest.removeprefix(".").split("."))
