"""RequestAuthentication (security.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Duration, PolicyTargetReference, Spec, WorkloadSelector

LONGEST_TIMEOUT_S = 60.0
"""How long fetching the keys of a rule may take at most, whatever its timeout says."""


class JwtHeader(Spec, frozen=True):
    name: str = ""
    prefix: str | None = None


class ClaimToHeader(Spec, frozen=True):
    header: str = ""
    claim: str = ""


class JwtRule(Spec, frozen=True):
    issuer: str | None = None
    audiences: tuple[str, ...] = ()
    jwks_uri: str | None = None
    jwks: str | None = None
    from_headers: tuple[JwtHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str | None = None
    forward_original_token: bool | None = None
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: Duration | None = None
    space_delimited_claims: tuple[str, ...] = ()
    presence: Literal["UNSPECIFIED", "PRESENCE_UNSPECIFIED", "OPTIONAL", "REQUIRED"] | None = None


class RequestAuthenticationSpec(Spec, frozen=True):
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    jwt_rules: tuple[JwtRule, ...] = ()
