"""The filter that looks at tokens (JWT).

Comes in: ``TokenProvider`` values. Goes out: the filter. The claims of a good token are kept as dynamic metadata of the
filter, under ``payload``, where routes match them. A request without any token passes unless one is required; CORS
preflights have none. Envoy takes no keys from route tables, so these stand in the listener: a change holds for
connections made after it, and for open ones once they have drained.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from google.protobuf import empty_pb2

from lateen.plan.access.model import PAYLOAD
from lateen.plan.access.tokens import TokenProvider

_Requirement = config_pb2.JwtRequirement


def token_filter(providers: tuple[TokenProvider, ...], *, routes_anew: bool) -> Any:
    """The configuration of the filter. ``routes_anew``: the route is chosen again once the claims are known."""
    message = config_pb2.JwtAuthentication(bypass_cors_preflight=True)
    for provider in providers:
        message.providers[provider.name].CopyFrom(_provider(provider, routes_anew))
    rule = message.rules.add()
    rule.match.prefix = "/"
    rule.requires.CopyFrom(_requirement(providers))
    return message


def _requirement(providers: tuple[TokenProvider, ...]) -> Any:
    """Some provider takes the token, or each of them takes it or finds none.

    With a provider that is required: it takes its token, and each other one does or finds none.
    """
    named = [_Requirement(provider_name=provider.name) for provider in providers]
    each = [
        one if provider.required else _any(one, _Requirement(allow_missing=empty_pb2.Empty()))
        for provider, one in zip(providers, named, strict=True)
    ]
    if len(each) == 1:
        return each[0]
    all_of_them = _Requirement(requires_all=config_pb2.JwtRequirementAndList(requirements=each))
    return all_of_them if any(provider.required for provider in providers) else _any(*named, all_of_them)


def _any(*requirements: Any) -> Any:
    return _Requirement(requires_any=config_pb2.JwtRequirementOrList(requirements=requirements))


def _provider(provider: TokenProvider, routes_anew: bool) -> Any:
    message = config_pb2.JwtProvider(
        issuer=provider.issuer,
        audiences=provider.audiences,
        from_headers=[config_pb2.JwtHeader(name=name, value_prefix=prefix) for name, prefix in provider.headers],
        from_params=provider.params,
        from_cookies=provider.cookies,
        forward=provider.forward,
        forward_payload_header=provider.payload_header,
        payload_in_metadata=PAYLOAD,
        clear_route_cache=routes_anew,
    )
    message.local_jwks.inline_string = provider.jwks
    message.normalize_payload_in_metadata.space_delimited_claims.extend(provider.spaced_claims)
    for header, claim in provider.claim_headers:
        message.claim_to_headers.add(header_name=header, claim_name=claim)
    return message
