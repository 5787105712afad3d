"""The routing part of a plan: route tables, virtual hosts, routes and what they do.

Durations are seconds, percentages 0 to 100. Every element carries the Origin of what made it.
"""

from __future__ import annotations

import msgspec

from lateen.plan.hashing import HashPolicy
from lateen.plan.matching import RouteMatch, StringMatcher
from lateen.values.names import Origin


class HeaderOps(msgspec.Struct, frozen=True):
    """Header changes, in Envoy's format-string syntax: overwrite, append, remove."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


NO_HEADER_OPS = HeaderOps()


class WeightedCluster(msgspec.Struct, frozen=True):
    """One destination of a forward; weights are relative to their sum."""

    cluster: str
    weight: int
    request_headers: HeaderOps = NO_HEADER_OPS
    response_headers: HeaderOps = NO_HEADER_OPS
    host_rewrite: str = ""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Retries of one route. ``per_try_timeout`` and ``backoff`` None leave Envoy's default."""

    attempts: int
    retry_on: tuple[str, ...]
    retriable_status_codes: tuple[int, ...] = ()
    per_try_timeout: float | None = None
    backoff: float | None = None
    avoid_previous_hosts: bool = True
    previous_priorities: bool = False


class Mirror(msgspec.Struct, frozen=True):
    """A copy of the traffic, fire and forget."""

    cluster: str
    percentage: float


class PrefixRewrite(msgspec.Struct, frozen=True, tag=True):
    """Replaces the matched prefix (the whole path for an exact match)."""

    value: str


class RegexRewrite(msgspec.Struct, frozen=True, tag=True):
    """Replaces what an RE2 pattern matches; ``\\1`` captures."""

    pattern: str
    substitution: str


class Forward(msgspec.Struct, frozen=True, tag=True):
    """Send the request on. ``timeout`` 0 is none; ``host_rewrite`` empty keeps the authority."""

    clusters: tuple[WeightedCluster, ...]
    timeout: float = 0.0
    retry: RetryPolicy | None = None
    path_rewrite: PrefixRewrite | RegexRewrite | None = None
    host_rewrite: str = ""
    mirrors: tuple[Mirror, ...] = ()
    hash_policies: tuple[HashPolicy, ...] = ()


class Redirect(msgspec.Struct, frozen=True, tag=True):
    """Answer with a redirect; empty strings and None keep that part of the URL."""

    code: int = 301
    path: str = ""
    prefix: str = ""
    authority: str = ""
    scheme: str = ""
    port: int | None = None


class DirectResponse(msgspec.Struct, frozen=True, tag=True):
    status: int
    body: bytes = b""


RouteAction = Forward | Redirect | DirectResponse


class FaultDelay(msgspec.Struct, frozen=True):
    seconds: float
    percentage: float


class FaultAbort(msgspec.Struct, frozen=True):
    """Exactly one of the two codes is set."""

    percentage: float
    http_status: int | None = None
    grpc_status: int | None = None


class Fault(msgspec.Struct, frozen=True):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class CorsPolicy(msgspec.Struct, frozen=True):
    """Cross-origin rules; ``max_age`` in whole seconds as text, empty if unset."""

    allow_origins: tuple[StringMatcher, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: str = ""
    allow_credentials: bool | None = None
    forward_unmatched_preflights: bool = True


class Route(msgspec.Struct, frozen=True, cache_hash=True):
    """One route: the first whose match holds decides."""

    name: str
    match: RouteMatch
    action: RouteAction
    origin: Origin
    fault: Fault | None = None
    cors: CorsPolicy | None = None
    request_headers: HeaderOps = NO_HEADER_OPS
    response_headers: HeaderOps = NO_HEADER_OPS
    stat_prefix: str = ""


class VirtualHost(msgspec.Struct, frozen=True, cache_hash=True):
    """Routes for a set of domains. ``require_tls`` answers plain HTTP with a 301 to https. ``counts_attempts``: each
    attempt bears its number in X-Envoy-Attempt-Count; not on the way in, where the caller's proxy has said its own."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    origin: Origin
    require_tls: bool = False
    counts_attempts: bool = True


class RouteTable(msgspec.Struct, frozen=True, cache_hash=True):
    """A named set of virtual hosts, delivered as one RouteConfiguration.

    ``ignore_port_in_host`` lets ``Host: name:port`` match the domain ``name``.
    """

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    ignore_port_in_host: bool = False
