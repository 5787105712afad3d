"""The filter that looks at tokens (JWT).

Comes in: ``TokenProvider`` values. Goes out: the filter. The claims of a good token are kept as dynamic metadata of the
filter, under ``payload``, where routes match them. A request without any token passes unless one is required; CORS
preflights have none. Envoy takes no keys from route tables, so these stand in the listener: a change holds for
connections made after it, and for open ones once they have drained.
"""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as manager_pb2
from google.protobuf import empty_pb2

from lateen.envoy import wire
from lateen.envoy.access_logs import CEL_FILTER
from lateen.envoy.mixer import RBAC_DETAILS
from lateen.plan.access.model import ORIGIN_RULE, PAYLOAD
from lateen.plan.access.tokens import TokenProvider

UNAUTHENTICATED, MISSING = 401, "Origin authentication failed."
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


def missing_reply() -> Any:
    """The answer to a request without the token that a Policy of the first generation asks for."""
    matched = f"{RBAC_DETAILS}[{ORIGIN_RULE}"
    wanted = cel_pb2.ExpressionFilter(expression=f"response.code_details.startsWith('{matched}')")
    extension = accesslog_pb2.ExtensionFilter(name=CEL_FILTER, typed_config=wire.pack(wanted))
    mapper = manager_pb2.ResponseMapper(
        filter=accesslog_pb2.AccessLogFilter(extension_filter=extension),
        body=base_pb2.DataSource(inline_string=MISSING),
    )
    mapper.status_code.value = UNAUTHENTICATED
    return mapper


def token_in_query(providers: tuple[TokenProvider, ...]) -> bool:
    """Whether a token may stand in the query of a request."""
    return any(kind == "parameter" for provider in providers for kind, _ in _places(provider))


def _requirement(providers: tuple[TokenProvider, ...]) -> Any:
    """What holds for each place of tokens, all of it: a good token in one place is no excuse for a bad one in another.

    Of several good tokens the one of the first provider is looked at last, so that it is the one which counts.
    """
    if providers[0].lenient:
        return _all([_leniently(provider) for provider in reversed(providers)])
    return _all([_in_one_place(group) for group in reversed(_groups(providers))])


def _leniently(provider: TokenProvider) -> Any:
    """The provider takes its token, or it is as if there were none."""
    missing = _Requirement(allow_missing_or_failed=empty_pb2.Empty())
    return _any(_Requirement(provider_name=provider.name), missing)


def _in_one_place(providers: list[TokenProvider]) -> Any:
    """Some provider takes the token, or each of them takes it or finds none.

    With a provider that is required: it takes its token, and each other one does or finds none.
    """
    named = [_Requirement(provider_name=provider.name) for provider in providers]
    each = _all(
        [
            one if provider.required else _any(one, _Requirement(allow_missing=empty_pb2.Empty()))
            for provider, one in zip(providers, named, strict=True)
        ]
    )
    return each if len(named) == 1 or any(provider.required for provider in providers) else _any(*named, each)


def _groups(providers: tuple[TokenProvider, ...]) -> list[list[TokenProvider]]:
    """Providers that look in a common place, or are joined by others that do, in the order of their first ones."""
    groups: list[list[TokenProvider]] = []
    for provider in providers:
        joined = [group for group in groups if any(_places(one) & _places(provider) for one in group)]
        if not joined:
            groups.append([provider])
            continue
        first, *others = joined
        first += [one for group in others for one in group]
        first.append(provider)
        groups = [group for group in groups if group is first or all(group is not other for other in others)]
    return groups


def _places(provider: TokenProvider) -> set[tuple[str, str]]:
    found = {("header", name.lower()) for name, _ in provider.headers}
    found |= {("parameter", name) for name in provider.params} | {("cookie", name) for name in provider.cookies}
    return found or {("header", "authorization"), ("parameter", "access_token")}


def _all(requirements: list[Any]) -> Any:
    if len(requirements) == 1:
        return requirements[0]
    return _Requirement(requires_all=config_pb2.JwtRequirementAndList(requirements=requirements))


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
        header_in_metadata=provider.name if provider.lenient else "",
    )
    message.local_jwks.inline_string = provider.jwks
    message.normalize_payload_in_metadata.space_delimited_claims.extend(provider.spaced_claims)
    for header, claim in provider.claim_headers:
        message.claim_to_headers.add(header_name=header, claim_name=claim)
    return message
