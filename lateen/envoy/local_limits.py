"""Limits that a proxy counts by itself: Envoy's local rate limit, one filter for each rule.

Comes in: ``LimitRule`` values. Goes out: what the route table says to the filters that wait in the chain. It is the
table that says it, so that a new limit holds for open connections too; a table that changes begins with full buckets.
A rule whose conditions do not hold finds no bucket and goes by a default one that never is empty.

Each rule has a filter of its own, because only so can a refusal be told apart by its rule: the name stands in the
answer's header ``x-lateen-rate-limit``, in the access log and in Envoy's own stats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.type.v3 import http_status_pb2, token_bucket_pb2

from lateen.envoy import limit_answers, limit_descriptors, wire
from lateen.plan.limits.model import LimitRule

KEYS_FILTER = "envoy.filters.http.set_filter_state.rate_limits"
LOCAL_FILTER = "envoy.filters.http.local_ratelimit"
IDLE = "off"
FEWEST = 2
MAX_BUCKETS = 10_000
"""As many buckets a rule has at most; the one that was not asked for the longest is forgotten for a new one."""

_DRAFT_HEADERS = 1  # x-ratelimit-limit, -remaining and -reset


def places(rules: Sequence[LimitRule]) -> int:
    """How many filters wait in a chain: a power of two, so that few new rules change the listener."""
    wanted = sum(not rule.shared for rule in rules)
    return max(FEWEST, 1 << (wanted - 1).bit_length() if wanted else 0)


def filter_name(index: int) -> str:
    """The name of the filter at this place, beginning with 0."""
    return LOCAL_FILTER if index == 0 else f"{LOCAL_FILTER}.{index + 1}"


def idle_filter() -> Any:
    """A filter without a rule."""
    return local_rate_limit_pb2.LocalRateLimit(stat_prefix=IDLE)


def by_route(rules: Sequence[LimitRule]) -> Iterator[tuple[str, Any]]:
    """What the route table says to each filter, by the filter's name."""
    if any(rule.keys for rule in rules):
        yield KEYS_FILTER, _keys(rules)
    own = [rule for rule in rules if not rule.shared]
    for index, rule in enumerate(own):
        yield filter_name(index), _limit(rule, alone=len(own) == 1)


def _keys(rules: Sequence[LimitRule]) -> Any:
    """What buckets are chosen by, as filter state: formatted, cut to length, ``-`` where there is none."""
    formats = {limit_descriptors.state_of(key): limit_descriptors.format_of(key) for rule in rules for key in rule.keys}
    values = []
    for state, text in formats.items():
        value = value_pb2.FilterStateValue(object_key=state, factory_key="envoy.string")
        value.format_string.text_format_source.inline_string = text
        values.append(value)
    return set_filter_state_pb2.Config(on_request_headers=values)


def _limit(rule: LimitRule, *, alone: bool) -> Any:
    bucket = _bucket(rule.burst, rule.requests, rule.interval)
    conditional = limit_descriptors.has_conditions(rule)
    everything = not rule.keys and not conditional
    tells = alone and not conditional and not rule.on_trial
    message = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=stat_prefix(rule),
        status=http_status_pb2.HttpStatus(code=rule.status),
        token_bucket=bucket if everything else _bucket(wire.UNLIMITED, wire.UNLIMITED, 1.0),
        filter_enabled=wire.runtime_fraction(100),
        filter_enforced=wire.runtime_fraction(0 if rule.on_trial else 100),
        response_headers_to_add=limit_answers.options(limit_answers.refusal_headers(rule, left=not tells)),
        always_consume_default_token_bucket=wire.boolean(False),
        rate_limited_as_resource_exhausted=True,
        max_dynamic_descriptors=wire.uint32(MAX_BUCKETS),
    )
    if tells:
        message.enable_x_ratelimit_headers = _DRAFT_HEADERS
    if not everything:
        message.rate_limits.extend(limit_descriptors.rate_limits(rule))
        entries = [
            ratelimit_pb2.RateLimitDescriptor.Entry(key=name, value=value)
            for name, value in limit_descriptors.entries_of(rule)
        ]
        message.descriptors.append(ratelimit_pb2.LocalRateLimitDescriptor(entries=entries, token_bucket=bucket))
    return message


def _bucket(most: int, refill: int, interval: float) -> Any:
    return token_bucket_pb2.TokenBucket(
        max_tokens=most, tokens_per_fill=wire.uint32(refill), fill_interval=wire.duration(interval)
    )


def stat_prefix(rule: LimitRule) -> str:
    """The rule's name as Envoy's stats have it, where a dot would part names."""
    return rule.name.replace(".", "_")
