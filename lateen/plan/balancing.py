"""How a pool is balanced: the algorithm, what tells clients apart, warm-up, budgets and health checks.

Comes in: the blocks of a DestinationRule that hold for a cluster. Goes out: values of the plan.
"""

from __future__ import annotations

from lateen.plan.clusters import HealthCheck, LoadBalancing, RetryBudget, Warmup
from lateen.plan.hashing import HashOnCookie, HashOnHeader, HashOnQuery, HashOnSourceIp, HashPolicy
from lateen.resources.destination_rule import ConsistentHash, LoadBalancerSettings, RetryBudget as BudgetSettings
from lateen.resources.health_check import HealthCheck as CheckSettings

_BALANCERS = {
    "ROUND_ROBIN": LoadBalancing.ROUND_ROBIN,
    "LEAST_REQUEST": LoadBalancing.LEAST_REQUEST,
    "LEAST_CONN": LoadBalancing.LEAST_REQUEST,
    "RANDOM": LoadBalancing.RANDOM,
    "PASSTHROUGH": LoadBalancing.PROVIDED,
}
_WARM = frozenset({LoadBalancing.ROUND_ROBIN, LoadBalancing.LEAST_REQUEST})


def balancing(settings: LoadBalancerSettings | None) -> LoadBalancing:
    """The algorithm; least requests where none is given."""
    if settings is None:
        return LoadBalancing.LEAST_REQUEST
    if settings.consistent_hash is not None:
        return LoadBalancing.MAGLEV if settings.consistent_hash.maglev is not None else LoadBalancing.RING_HASH
    return _BALANCERS.get(settings.simple or "", LoadBalancing.LEAST_REQUEST)


def ring_size(settings: LoadBalancerSettings | None) -> int | None:
    """The smallest ring, where one is given in either form."""
    hashing = settings.consistent_hash if settings else None
    if hashing is None:
        return None
    return (hashing.ring_hash.minimum_ring_size if hashing.ring_hash else None) or hashing.minimum_ring_size


def table_size(settings: LoadBalancerSettings | None) -> int | None:
    """The size of Maglev's table, where one is given."""
    hashing = settings.consistent_hash if settings else None
    return hashing.maglev.table_size if hashing is not None and hashing.maglev is not None else None


def hash_policy(settings: LoadBalancerSettings | None) -> HashPolicy | None:
    """What tells clients apart; None where the pool is not balanced by hash."""
    hashing: ConsistentHash | None = settings.consistent_hash if settings else None
    if hashing is None:
        return None
    if hashing.http_header_name:
        return HashOnHeader(hashing.http_header_name)
    if hashing.http_cookie is not None:
        cookie = hashing.http_cookie
        attributes = tuple((found.name, found.value) for found in cookie.attributes)
        return HashOnCookie(cookie.name, cookie.path or "", cookie.ttl, attributes)
    if hashing.http_query_parameter_name:
        return HashOnQuery(hashing.http_query_parameter_name)
    return HashOnSourceIp() if hashing.use_source_ip else None


def warmup(settings: LoadBalancerSettings | None) -> Warmup | None:
    """How new endpoints are warmed up, where the algorithm can do so."""
    if settings is None or balancing(settings) not in _WARM:
        return None
    if settings.warmup is not None and settings.warmup.duration is not None:
        given = settings.warmup
        share = 10.0 if given.minimum_percent is None else given.minimum_percent
        return Warmup(settings.warmup.duration, share, 1.0 if given.aggression is None else given.aggression)
    return Warmup(settings.warmup_duration_secs) if settings.warmup_duration_secs else None


def retry_budget(settings: BudgetSettings | None) -> RetryBudget | None:
    """A budget with Istio's defaults for what it leaves out."""
    if settings is None:
        return None
    return RetryBudget(
        percent=20.0 if settings.percent is None else settings.percent,
        minimum=3 if settings.min_retry_concurrency is None else settings.min_retry_concurrency,
    )


def health_check(settings: CheckSettings | None) -> HealthCheck | None:
    """The active check of each member."""
    if settings is None:
        return None
    http, grpc = settings.http, settings.grpc
    return HealthCheck(
        kind="http" if http is not None else "grpc" if grpc is not None else "tcp",
        interval=settings.interval,
        timeout=settings.timeout,
        jitter_percent=settings.jitter_percent,
        unhealthy_threshold=settings.unhealthy_threshold,
        healthy_threshold=settings.healthy_threshold,
        target=http.path if http is not None else grpc.service if grpc is not None else "",
        host=(http.host or "") if http is not None else "",
        expected_statuses=http.expected_statuses if http is not None else (),
    )
