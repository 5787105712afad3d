"""Limits of rates in a plan: which requests are counted, by what, and what becomes of those above the limit.

Comes in: RateLimits and quotas of Mixer, resolved for one workload. Goes out: frozen structs that the translation turns
into filters and that the explainer reads.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.plan.access.model import All, Condition
from lateen.plan.matching import HeaderMatcher, StringMatcher
from lateen.values.names import Origin


class KeyKind(enum.Enum):
    """What a bucket is chosen by. PEER is the identity in the caller's certificate, CLAIM of a good token."""

    PEER = "peer"
    DIRECT_ADDRESS = "direct-address"
    REMOTE_ADDRESS = "remote-address"
    HOST = "host"
    METHOD = "method"
    PATH = "path"
    HEADER = "header"
    CLAIM = "claim"


class BucketKey(msgspec.Struct, frozen=True):
    """One part of what a bucket is chosen by. ``path``: the header's lower-case name, or the way to the claim.

    ``default`` stands for a header that is not there; None: a value of its own does.
    """

    kind: KeyKind
    path: tuple[str, ...] = ()
    default: str | None = None


class PathTemplate(msgspec.Struct, frozen=True):
    """``{*}`` is one segment, ``{**}`` any number of them."""

    text: str


class Counted(msgspec.Struct, frozen=True):
    """Which requests are counted: all conditions hold, of each list one entry; empty ones match all."""

    methods: tuple[str, ...] = ()
    hosts: tuple[StringMatcher, ...] = ()
    paths: tuple[StringMatcher | PathTemplate, ...] = ()
    headers: tuple[HeaderMatcher, ...] = ()
    ports: tuple[int, ...] = ()


class Charged(msgspec.Struct, frozen=True):
    """What requests take from their bucket for which the condition holds."""

    condition: Condition = All()
    amount: int = 1


class LimitRule(msgspec.Struct, frozen=True, cache_hash=True):
    """One rule of a RateLimit, with the name ``NAMESPACE/RATELIMIT/RULE``, or a quota of Mixer that proxies count.

    Each bucket holds ``burst`` requests at most and is refilled by ``requests`` every ``interval`` seconds, evenly.
    ``keys``: each combination of values has a bucket of its own; none: one for all. ``charged``: what a request that is
    counted takes, all of these together. ``shared``: all proxies count together; ``fail_open``: what happens while they
    cannot. ``on_trial``: it is counted, and nothing is refused.
    """

    name: str
    origin: Origin
    requests: int
    interval: float
    burst: int
    counted: Counted = Counted()
    keys: tuple[BucketKey, ...] = ()
    charged: tuple[Charged, ...] = (Charged(),)
    shared: bool = False
    fail_open: bool = False
    on_trial: bool = False
    status: int = 429
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
