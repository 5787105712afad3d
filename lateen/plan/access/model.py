"""Access rules in a plan: who may do what, as a small expression tree.

Comes in: AuthorizationPolicies, resolved for one workload. Goes out: policies that the translation turns into
Envoy's RBAC filters and that the explainer evaluates.
"""

from __future__ import annotations

import msgspec

from lateen.plan.matching import StringMatcher
from lateen.values.names import Origin


class All(msgspec.Struct, frozen=True, tag=True):
    """Every one of the terms holds; no terms: always true."""

    terms: tuple[Condition, ...] = ()


class AnyOf(msgspec.Struct, frozen=True, tag=True):
    """At least one of the terms holds; no terms: never true."""

    terms: tuple[Condition, ...] = ()


class Not(msgspec.Struct, frozen=True, tag=True):
    term: Condition


class PeerIdentity(msgspec.Struct, frozen=True, tag=True):
    """The peer's certificate carries a URI SAN that matches (the full ``spiffe://...`` form)."""

    match: StringMatcher


class DirectAddress(msgspec.Struct, frozen=True, tag=True):
    """The peer's own address lies in the block (``10.0.0.0/8``)."""

    cidr: str


class RemoteAddress(msgspec.Struct, frozen=True, tag=True):
    """The original client's address, X-Forwarded-For and PROXY protocol considered, lies in the block."""

    cidr: str


class DestinationAddress(msgspec.Struct, frozen=True, tag=True):
    """The address that the connection went to lies in the block."""

    cidr: str


class DestinationPort(msgspec.Struct, frozen=True, tag=True):
    """The port of the workload that the connection went to."""

    port: int


class Header(msgspec.Struct, frozen=True, tag=True):
    """A request header matches, ``:method`` and ``:authority`` among them."""

    name: str
    match: StringMatcher


class UrlPath(msgspec.Struct, frozen=True, tag=True):
    """The normalised path, without the query, matches."""

    match: StringMatcher


class PathTemplate(msgspec.Struct, frozen=True, tag=True):
    """The normalised path, without the query, fits a template: ``*`` is one segment, ``**`` any number of them."""

    template: str


class Metadata(msgspec.Struct, frozen=True, tag=True):
    """What a filter found out, by its way in, is a text that one of ``any_of`` matches; PRESENT: any but the empty one.

    ``listed``: it may be a list that has such a text (True), or has to be (None).
    """

    filter: str
    path: tuple[str, ...]
    any_of: tuple[StringMatcher, ...]
    listed: bool | None = False


class ServerName(msgspec.Struct, frozen=True, tag=True):
    """The SNI that the client asked for matches."""

    match: StringMatcher


Condition = (
    All
    | AnyOf
    | Not
    | PeerIdentity
    | DirectAddress
    | RemoteAddress
    | DestinationAddress
    | DestinationPort
    | Header
    | UrlPath
    | PathTemplate
    | Metadata
    | ServerName
)
TOKEN_FILTER = "envoy.filters.http.jwt_authn"  # noqa: S105 - the name of a filter
PAYLOAD = "payload"
"""Where the claims of a good token stand in that filter's metadata."""


class AccessRule(msgspec.Struct, frozen=True, cache_hash=True):
    """One rule: matches where both sides match. ``name`` is ``ns[x]-policy[y]-rule[i]``."""

    name: str
    principal: Condition
    permission: Condition
    origin: Origin


class AccessPolicy(msgspec.Struct, frozen=True, cache_hash=True):
    """What one chain enforces: a matching ``deny`` denies; then, unless ``allow`` is None, one of it must match."""

    deny: tuple[AccessRule, ...] = ()
    allow: tuple[AccessRule, ...] | None = None

    @property
    def is_open(self) -> bool:
        return not self.deny and self.allow is None
