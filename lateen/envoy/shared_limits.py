"""Limits that all proxies count together: Envoy's rate limit filter, which asks the mixer.

Comes in: ``LimitRule`` values. Goes out: the filters of a chain (one for rules that refuse while nobody can be asked,
one for those that let pass), and what the route table says to them. The limit is in the descriptor, so that whoever
counts needs to know no rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.config.core.v3 import config_source_pb2
from envoy.config.ratelimit.v3 import rls_pb2
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2
from envoy.type.v3 import http_status_pb2

from lateen.envoy import limit_descriptors, wire
from lateen.plan.limits.model import LimitRule
from lateen.plan.mixer.model import MIXER_CLUSTER

CLOSED_FILTER = "envoy.filters.http.ratelimit"
OPEN_FILTER = "envoy.filters.http.ratelimit.open"
DOMAIN = "lateen"
TIMEOUT_S = 0.5
AWAY_STATUS = 503
_DRAFT_HEADERS = rate_limit_pb2.RateLimit.DRAFT_VERSION_03


def filters(rules: Sequence[LimitRule]) -> list[tuple[str, Any]]:
    """The filters that these rules need, by their names, without anything to ask about."""
    return [(name, _filter(fail_open)) for name, fail_open, _ in _groups(rules)]


def by_route(rules: Sequence[LimitRule]) -> Iterator[tuple[str, Any]]:
    """What the route table says to each filter, by the filter's name."""
    for name, _, group in _groups(rules):
        asked = [one for rule in group for one in limit_descriptors.rate_limits(rule)]
        yield name, rate_limit_pb2.RateLimitPerRoute(domain=DOMAIN, rate_limits=asked)


def _groups(rules: Sequence[LimitRule]) -> Iterator[tuple[str, bool, list[LimitRule]]]:
    for name, fail_open in ((CLOSED_FILTER, False), (OPEN_FILTER, True)):
        group = [rule for rule in rules if rule.shared and rule.fail_open is fail_open]
        if group:
            yield name, fail_open, group


def _filter(fail_open: bool) -> Any:
    service = rls_pb2.RateLimitServiceConfig(transport_api_version=config_source_pb2.V3)
    service.grpc_service.envoy_grpc.cluster_name = MIXER_CLUSTER
    service.grpc_service.envoy_grpc.authority = "mixer"
    return rate_limit_pb2.RateLimit(
        domain=DOMAIN,
        timeout=wire.duration(TIMEOUT_S),
        failure_mode_deny=not fail_open,
        rate_limited_as_resource_exhausted=True,
        rate_limit_service=service,
        enable_x_ratelimit_headers=_DRAFT_HEADERS,
        status_on_error=http_status_pb2.HttpStatus(code=AWAY_STATUS),
    )
