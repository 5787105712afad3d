"""Where the keys of tokens come from, when a rule does not hold them itself.

Comes in: RequestAuthentications, and Policies of the first generation. Goes out: what has to be fetched for them. Who
fetches stands outside of the pure core; what is fetched comes back as ``TokenKeys``, an input of the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.resources.legacy_authentication import AuthenticationPolicySpec
from lateen.resources.legacy_tokens import jwt_rule
from lateen.resources.request_authentication import LONGEST_TIMEOUT_S, JwtRule, RequestAuthenticationSpec
from lateen.resources.resource import Resource
from lateen.values.names import Origin

DISCOVERY = "/.well-known/openid-configuration"
DEFAULT_TIMEOUT_S = 5.0


class KeySource(msgspec.Struct, frozen=True, order=True):
    """A set of keys at ``uri``; or, with an ``issuer``, its description of itself, which says where the keys are."""

    uri: str
    issuer: str = ""


TokenKeys = Mapping[KeySource, str]
"""The JSON of usable keys (``{"keys": [...]}``) by their source; a source that is not in it has never been read."""
NO_KEYS: TokenKeys = {}


class KeyUse(msgspec.Struct, frozen=True):
    """One rule whose keys come from a source. ``timeout``: how many seconds all of the fetching may take."""

    source: KeySource
    timeout: float
    origin: Origin


def key_source(rule: JwtRule) -> KeySource | None:
    """Where the keys of a rule are to be fetched; None if it holds them itself."""
    if rule.jwks:
        return None
    if rule.jwks_uri:
        return KeySource(rule.jwks_uri)
    return KeySource((rule.issuer or "").rstrip("/") + DISCOVERY, rule.issuer or "")


def key_uses(resources: Iterable[Resource]) -> tuple[KeyUse, ...]:
    """Every rule whose keys have to be fetched."""
    found = []
    for resource in resources:
        for place, rule in _rules(resource):
            source = key_source(rule)
            if source is not None:
                field = f"{place}.{'issuer' if source.issuer else 'jwksUri'}"
                seconds = min(rule.timeout or DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S)
                found.append(KeyUse(source, seconds, resource.origin_at(field)))
    return tuple(found)


def _rules(resource: Resource) -> list[tuple[str, JwtRule]]:
    """The rules for tokens of a resource, with the fields that they stand in."""
    if isinstance(resource.spec, RequestAuthenticationSpec):
        return [(f"spec.jwtRules[{index}]", rule) for index, rule in enumerate(resource.spec.jwt_rules)]
    if isinstance(resource.spec, AuthenticationPolicySpec):
        origins = enumerate(resource.spec.origins)
        return [(f"spec.origins[{index}].jwt", jwt_rule(one.jwt)) for index, one in origins if one.jwt is not None]
    return []
