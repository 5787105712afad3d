"""What a walk answers: where a call ends.

Comes in: nothing. These are the values that ``simulate`` and its callers share.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.explain.facts import Facts
from lateen.explain.request import Request


class Error(enum.Enum):
    """Why a call gets nowhere."""

    NO_LISTENER = "no_listener"
    NO_FILTER_CHAIN = "no_filter_chain"
    NO_ROUTE = "no_route"
    NO_VIRTUAL_HOST = "no_virtual_host"
    TLS_REDIRECT = "tls_redirect"
    MULTIPLE_FILTER_CHAINS = "multiple_filter_chains"
    PROTOCOL_ERROR = "protocol_error"
    TLS_ERROR = "tls_error"
    MTLS_ERROR = "mtls_error"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - the name of an error
    ACCESS_DENIED = "access_denied"


class Verdict(msgspec.Struct, frozen=True):
    """Where a call ends; names are Envoy's, empty where it did not come that far.

    ``clusters`` are all that it may go to, with their weights, where ``cluster`` is the one with the largest.
    ``status`` is that of an answer that the proxy gives itself (0: none). ``trail`` says in words what decided, step
    by step. ``facts`` are those that access rules were held against, where the call came that far; ``sent`` is the
    request as it goes on, with what its route changes in path and host.
    """

    error: Error | None = None
    listener: str = ""
    filter_chain: str = ""
    route_config: str = ""
    virtual_host: str = ""
    route: str = ""
    cluster: str = ""
    clusters: tuple[tuple[str, int], ...] = ()
    status: int = 0
    trail: tuple[str, ...] = ()
    facts: Facts | None = None
    sent: Request | None = None
