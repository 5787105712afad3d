"""The first generation of authentication: Policy and MeshPolicy (authentication.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Spec, Uint32


class PathMatch(Spec, frozen=True):
    """One of the four."""

    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: str | None = None


class TriggerRule(Spec, frozen=True):
    excluded_paths: tuple[PathMatch, ...] = ()
    included_paths: tuple[PathMatch, ...] = ()


class OriginJwt(Spec, frozen=True):
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_uri: str | None = None
    jwks: str | None = None
    jwt_headers: tuple[str, ...] = ()
    jwt_params: tuple[str, ...] = ()
    trigger_rules: tuple[TriggerRule, ...] = ()


class OriginMethod(Spec, frozen=True):
    jwt: OriginJwt | None = None


class PeerMtls(Spec, frozen=True):
    mode: Literal["STRICT", "PERMISSIVE"] | None = None
    allow_tls: bool = False


class PeerMethod(Spec, frozen=True):
    """``mtls`` without a value means STRICT."""

    mtls: PeerMtls | None = None
    jwt: OriginJwt | None = None


class PortReference(Spec, frozen=True):
    number: Uint32 | None = None
    name: str | None = None


class PolicyTarget(Spec, frozen=True):
    name: str = ""
    ports: tuple[PortReference, ...] = ()
    labels: dict[str, str] = {}


class AuthenticationPolicySpec(Spec, frozen=True):
    """Of Policy and MeshPolicy alike."""

    targets: tuple[PolicyTarget, ...] = ()
    peers: tuple[PeerMethod, ...] = ()
    peer_is_optional: bool = False
    origins: tuple[OriginMethod, ...] = ()
    origin_is_optional: bool = False
    principal_binding: Literal["USE_PEER", "USE_ORIGIN"] | None = None
