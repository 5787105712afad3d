"""RateLimit (lateen.io): how many requests may be made, and by whom they are counted. Istio has no such resource."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Duration, Spec, StringMatch, Uint32, WorkloadSelector

CLIENT = "source.principal"
TOKEN_PRINCIPAL = "request.auth.principal"  # noqa: S105 - the name of an attribute
TOKENS = "request.auth."
CLAIMS = "request.auth.claims["
HEADERS = "request.headers["
PLAIN_KEYS = (
    CLIENT,
    "source.ip",
    "remote.ip",
    TOKEN_PRINCIPAL,
    "request.host",
    "request.method",
    "request.path",
)
"""What requests can be counted by, beside headers and claims, as AuthorizationPolicy's conditions spell it."""


class PathMatch(Spec, frozen=True):
    """One of the four. None of them looks at the query."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None
    template: str | None = None


class RequestMatch(Spec, frozen=True):
    """All of the fields have to hold, and of each list one entry; ``hosts`` are as in AuthorizationPolicy. A list that
    is left out matches all; one that is there has entries."""

    methods: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    paths: tuple[PathMatch, ...] | None = None
    headers: dict[str, StringMatch] = {}
    ports: tuple[Uint32, ...] | None = None


class Limit(Spec, frozen=True):
    """``requests`` in each ``per``; ``burst`` at once, which is ``requests`` unless it is said."""

    requests: Uint32
    per: Duration
    burst: Uint32 | None = None


class LimitRule(Spec, frozen=True):
    limit: Limit
    name: str = ""
    match: RequestMatch = RequestMatch()
    per: tuple[str, ...] = ()


class LimitResponse(Spec, frozen=True):
    """What a request over the limit is answered with."""

    status: Uint32 | None = None
    headers: dict[str, str] = {}
    body: str = ""


class RateLimitSpec(Spec, frozen=True):
    selector: WorkloadSelector | None = None
    rules: tuple[LimitRule, ...] = ()
    scope: Literal["local", "global"] | None = None
    on_failure: Literal["deny", "allow"] | None = None
    response: LimitResponse = LimitResponse()
    dry_run: bool | None = None
