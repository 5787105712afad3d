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


ORIGIN_RULE = "authn-"
"""How names of rules begin that ask for a token: what they refuse is answered with 401."""


class AccessRule(msgspec.Struct, frozen=True, cache_hash=True):
    """One rule: matches where both sides match. ``name`` is ``ns[x]-policy[y]-rule[i]``."""

    name: str
    principal: Condition
    permission: Condition
    origin: Origin


class ExternalAuthorizer(msgspec.Struct, frozen=True, cache_hash=True):
    """A server outside the proxy that is asked whether a request may go on: how it is reached, and what it is told.

    ``protocol`` is ``grpc`` or ``http``; over HTTP only requests can be asked about. ``timeout`` is seconds.
    ``status_on_error``: the answer to clients where it cannot be asked, unless ``fail_open``. ``body_limit``: as many
    bytes of the body are shown to it (0: none). The rest is for HTTP alone.
    """

    name: str
    protocol: str
    cluster: str
    authority: str
    timeout: float = 600.0
    fail_open: bool = False
    routes_anew: bool = False
    status_on_error: int = 403
    body_limit: int = 0
    partial_body: bool = False
    body_as_bytes: bool = False
    path_prefix: str = ""
    shown_headers: tuple[StringMatcher, ...] = ()
    added_headers: tuple[tuple[str, str], ...] = ()
    headers_on_allow: tuple[StringMatcher, ...] = ()
    answer_headers_on_deny: tuple[StringMatcher, ...] = ()
    answer_headers_on_allow: tuple[StringMatcher, ...] = ()


class ExternalCheck(msgspec.Struct, frozen=True, cache_hash=True):
    """Requests that match one of the rules go on only if the authorizer says so."""

    authorizer: ExternalAuthorizer
    rules: tuple[AccessRule, ...]


class AccessPolicy(msgspec.Struct, frozen=True, cache_hash=True):
    """What one chain enforces, in this order.

    ``external``: whoever is asked has to agree. A matching ``deny`` denies. Then, unless ``allow`` is None, one of it
    must match. The others decide nothing and are logged: ``audit``, and, as they would deny and allow, the rules on
    trial.
    """

    deny: tuple[AccessRule, ...] = ()
    allow: tuple[AccessRule, ...] | None = None
    external: tuple[ExternalCheck, ...] = ()
    audit: tuple[AccessRule, ...] = ()
    trial_deny: tuple[AccessRule, ...] = ()
    trial_allow: tuple[AccessRule, ...] | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is ever refused."""
        return not (self.deny or self.external) and self.allow is None

    @property
    def rules(self) -> tuple[AccessRule, ...]:
        """All rules, whatever they are for."""
        asked = tuple(rule for check in self.external for rule in check.rules)
        return (*asked, *self.deny, *(self.allow or ()), *self.audit, *self.trial_deny, *(self.trial_allow or ()))
