"""Where Envoy itself counts answers by status and time (``dynamic_stats`` of its router).

Each request pays for it, and telemetry counts the same with labels: so it is done where somebody asks for these
statistics, in ``proxyStatsMatcher`` of the mesh or by the ``statPrefix`` of a route. All others are always kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from lateen.plan.model import Chain, HttpChain, HttpOptions, Listener
from lateen.plan.routes import RouteTable
from lateen.resources.proxy_config import StatsMatcher

OWNERS = ("cluster.", "vhost.")
"""How the names of these statistics begin."""


def includes_answer_counts(matcher: StatsMatcher) -> bool:
    """Whether an inclusion may name such a statistic: suffixes and expressions always may, as names of clusters and
    routes stand before what is counted."""
    if matcher.inclusion_suffixes or matcher.inclusion_regexps:
        return True
    return any(
        prefix.startswith(owner) or owner.startswith(prefix)
        for prefix in matcher.inclusion_prefixes
        for owner in OWNERS
    )


def counting_tables(tables: Iterable[RouteTable]) -> frozenset[str]:
    """The names of the tables that have a route with statistics of its own."""
    return frozenset(
        table.name
        for table in tables
        if any(route.stat_prefix for host in table.virtual_hosts for route in host.routes)
    )


def with_answer_counts(listeners: tuple[Listener, ...], counting: frozenset[str]) -> tuple[Listener, ...]:
    """Listeners that count where they route by one of these tables."""
    return tuple(_listener(listener, counting) for listener in listeners) if counting else listeners


def _listener(listener: Listener, counting: frozenset[str]) -> Listener:
    chains = tuple(_chain(chain, counting) for chain in listener.chains)
    default = _chain(listener.default_chain, counting) if listener.default_chain is not None else None
    return replace(listener, chains=chains, default_chain=default)


def _chain(chain: Chain, counting: frozenset[str]) -> Chain:
    action = chain.action
    if not isinstance(action, HttpChain) or action.route_table not in counting:
        return chain
    return replace(chain, action=replace(action, options=replace(action.options or HttpOptions(), counts_answers=True)))
