"""What the filter that looks at tokens makes of the claims of one.

Comes in: the filter as Envoy is configured, and claims of a token that stands where its provider looks, is signed by
the issuer that it names. Goes out: what the filter leaves for those after it, or that it refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2

from lateen.plan.access.model import PAYLOAD, TOKEN_FILTER

UNKNOWN, FOR_OTHERS = 401, 403
CLOCK_SKEW_S = 60
"""How a token is refused whose issuer nobody knows, and one that is meant for another audience."""


def token_filter_of(manager: Any) -> Any | None:
    """The filter of a connection manager; None where it looks at no tokens."""
    for found in manager.http_filters:
        if found.name == TOKEN_FILTER:
            return config_pb2.JwtAuthentication.FromString(found.typed_config.value)
    return None


def unfit(claims: Mapping[str, Any], now: float | None) -> str:
    """Why no provider takes a token with such claims, as a sentence; empty where that depends on the provider."""
    for name in ("iss", "sub"):
        if not isinstance(claims.get(name, ""), str):
            return f"the claim {name} of the token is no text"
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            return f"the claim {name} of the token is no time"
    audience = claims.get("aud", "")
    if not isinstance(audience, str) and not (
        isinstance(audience, list) and all(isinstance(one, str) for one in audience)
    ):
        return "the claim aud of the token is neither a text nor a list of texts"
    if now is None:
        return ""
    if claims.get("exp") and claims["exp"] + CLOCK_SKEW_S < now:
        return "the token has expired"
    return "the token is not valid yet" if claims.get("nbf", 0) > now + CLOCK_SKEW_S else ""


def found_by_tokens(config: Any, claims: Mapping[str, Any] | None, now: float | None = None) -> dict[str, Any] | int:
    """What the filter finds out, or the status with which it refuses a token that no provider takes.

    ``claims`` None: there is no token. A provider that requires one has to take it.
    """
    required = _required(config)
    if any(provider.header_in_metadata for provider in config.providers.values()):
        return _found_leniently(config, claims, now)
    if claims is None:
        return UNKNOWN if required else {}
    if unfit(claims, now):
        return UNKNOWN
    of_issuer = {name: found for name, found in config.providers.items() if found.issuer in ("", claims.get("iss"))}
    taking = [name for name, found in of_issuer.items() if is_for(found.audiences, claims)]
    if not taking:
        return FOR_OTHERS if of_issuer else UNKNOWN
    taken = next((name for name in taking if name in required), taking[0])
    if required - {taken}:
        return UNKNOWN
    spaced = config.providers[taken].normalize_payload_in_metadata.space_delimited_claims
    return {TOKEN_FILTER: {PAYLOAD: _spaced_into_lists(claims, spaced)}}


def _found_leniently(config: Any, claims: Mapping[str, Any] | None, now: float | None) -> dict[str, Any]:
    """What a filter finds out that refuses nothing: the claims, and a mark for each provider that takes the token."""
    if claims is None or unfit(claims, now):
        return {}
    taking = [
        (name, provider)
        for name, provider in sorted(config.providers.items(), key=lambda item: (len(item[0]), item[0]))
        if provider.issuer in ("", claims.get("iss")) and is_for(provider.audiences, claims)
    ]
    if not taking:
        return {}
    spaced = taking[0][1].normalize_payload_in_metadata.space_delimited_claims
    marks = {name: {"alg": "known"} for name, _ in taking}
    return {TOKEN_FILTER: {PAYLOAD: _spaced_into_lists(claims, spaced), **marks}}


def _required(config: Any) -> set[str]:
    """The providers without whose token no request passes."""
    found: set[str] = set()
    left = [rule.requires for rule in config.rules]
    while left:
        requirement = left.pop()
        if requirement.provider_name:
            found.add(requirement.provider_name)
        left += requirement.requires_all.requirements
    return found


def is_for(audiences: Iterable[str], claims: Mapping[str, Any]) -> bool:
    """Whether a token is meant for one of the audiences, or anybody's is good."""
    said = claims.get("aud")
    named = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    wanted = {_audience(text) for text in audiences}
    return not wanted or any(_audience(text) in wanted for text in named if isinstance(text, str))


def _audience(text: str) -> str:
    """Envoy compares audiences without a scheme and a slash at the end."""
    return text.removeprefix("https://").removeprefix("http://").removesuffix("/")


def _spaced_into_lists(claims: Mapping[str, Any], spaced: Iterable[str]) -> dict[str, Any]:
    """Claims that hold several values apart by spaces become lists of them."""
    names = frozenset(spaced)
    return {
        name: value.split(" ") if name in names and isinstance(value, str) else value for name, value in claims.items()
    }
