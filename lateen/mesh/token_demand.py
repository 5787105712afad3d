"""Policies on tokens that nobody asks a token for.

Comes in: RequestAuthentications, AuthorizationPolicies and VirtualServices. Goes out: a warning for each of the first
that leaves requests without a token as they are, with no other resource in its reach that looks at tokens: whoever
wrote it may well think that a token is needed now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lateen.findings import Finding, warning
from lateen.resources.checks.request_authentication import ASK_FOR_TOKENS
from lateen.resources.request_authentication import RequestAuthenticationSpec
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec
from lateen.resources.virtual_service import VirtualServiceSpec

CLAIMS = "@request.auth.claims"


def tokens_not_asked_for(
    authentications: Iterable[Resource],
    policies: Iterable[Resource],
    virtual_services: Iterable[Resource],
    root_namespace: str,
) -> Iterator[Finding]:
    """The warnings, in the order of the RequestAuthentications."""
    asking = {policy.key.namespace for policy in policies if _looks_at_tokens(policy.spec)}
    by_claims = any(_routes_by_claims(resource.spec) for resource in virtual_services)
    for resource in authentications:
        spec: RequestAuthenticationSpec = resource.spec
        own = resource.key.namespace
        in_reach = bool(asking) if own == root_namespace else bool(asking & {own, root_namespace})
        required = any(rule.presence == "REQUIRED" for rule in spec.jwt_rules)
        if spec.jwt_rules and not (required or in_reach or by_claims):
            message = "nothing asks for a token: requests without one pass, and only tokens that are there are verified"
            yield warning("no-token-required", message, resource.origin_at("spec.jwtRules"), ASK_FOR_TOKENS)


def _looks_at_tokens(spec: AuthorizationPolicySpec) -> bool:
    for rule in spec.rules:
        sources = [one.source for one in rule.from_ or () if one.source is not None]
        if any(source.request_principals or source.not_request_principals for source in sources):
            return True
        if any(condition.key.startswith("request.auth.") for condition in rule.when):
            return True
    return False


def _routes_by_claims(spec: VirtualServiceSpec) -> bool:
    return any(
        name.startswith(CLAIMS)
        for route in spec.http
        for match in route.match
        for name in (*match.headers, *match.without_headers)
    )
