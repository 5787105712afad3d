"""RequestAuthentications of one workload, or Policies of the first generation: what its chains do with tokens.

Comes in: the policies that hold, and listeners. Goes out: the listeners with providers of tokens. The rules of all
policies stand together, oldest first. A token that no rule takes is refused; no token at all is no
mistake unless a rule requires one.
"""

from __future__ import annotations

from msgspec.structs import replace

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.security_policy import request_authentications, token_demands
from lateen.mesh.token_keys import TokenKeys, key_source
from lateen.plan.access.origins import origin_name, origins_of
from lateen.plan.access.tokens import TokenProvider
from lateen.plan.model import Chain, HttpChain, Listener
from lateen.resources.key_set import KeySetError, keys_of_nobody, read_key_set
from lateen.resources.legacy_tokens import jwt_rule
from lateen.resources.request_authentication import JwtRule
from lateen.values.names import Origin

ALWAYS_SPACED = ("scope", "permission")


def token_providers(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[TokenProvider, ...]:
    """The providers of a workload."""
    found: list[TokenProvider] = []
    for resource in request_authentications(snapshot, namespace, labels):
        for index, rule in enumerate(resource.spec.jwt_rules):
            origin = resource.origin_at(f"spec.jwtRules[{index}]")
            found.append(_provider(f"origins-{len(found)}", rule, snapshot.token_keys, origin))
    for demand in token_demands(snapshot, namespace, labels):
        for index, jwt in origins_of(demand):
            place = demand.policy.origin_at(f"spec.origins[{index}].jwt")
            provider = _provider(origin_name(jwt), jwt_rule(jwt), snapshot.token_keys, place)
            found.append(replace(provider, lenient=True, ports=demand.ports if demand.at_ports else ()))
    return tuple(found)


def _provider(name: str, rule: JwtRule, fetched: TokenKeys, origin: Origin) -> TokenProvider:
    return TokenProvider(
        name=name,
        jwks=_key_set(rule, fetched),
        origin=origin,
        issuer=rule.issuer or "",
        audiences=rule.audiences,
        headers=tuple((header.name, header.prefix or "") for header in rule.from_headers),
        params=rule.from_params,
        cookies=rule.from_cookies,
        forward=bool(rule.forward_original_token),
        payload_header=rule.output_payload_to_header or "",
        claim_headers=tuple((output.header, output.claim) for output in rule.output_claim_to_headers),
        spaced_claims=tuple(dict.fromkeys((*ALWAYS_SPACED, *rule.space_delimited_claims))),
        required=rule.presence == "REQUIRED",
    )


def _key_set(rule: JwtRule, fetched: TokenKeys) -> str:
    """The keys of a rule as Envoy reads them. Where none is known, every token is refused."""
    source = key_source(rule)
    if source is not None:
        return fetched.get(source) or keys_of_nobody(source.uri)
    try:
        return read_key_set(rule.jwks or "", alone=True).text
    except KeySetError:
        return keys_of_nobody(rule.issuer or "")


def with_tokens(listeners: tuple[Listener, ...], providers: tuple[TokenProvider, ...]) -> tuple[Listener, ...]:
    """The listeners with the providers in every chain that speaks HTTP."""
    if not providers:
        return listeners
    return tuple(
        replace(
            listener,
            chains=tuple(_with(chain, providers, listener) for chain in listener.chains),
            default_chain=_with(listener.default_chain, providers, listener) if listener.default_chain else None,
        )
        for listener in listeners
    )


def _with(chain: Chain, providers: tuple[TokenProvider, ...], listener: Listener) -> Chain:
    if not isinstance(chain.action, HttpChain):
        return chain
    port = chain.match.destination_port or listener.bind.port
    here = {one.name: one for one in providers if not one.ports or port in one.ports}
    return replace(chain, action=replace(chain.action, tokens=tuple(here.values())))
