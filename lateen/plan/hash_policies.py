"""Routes towards pools that are balanced by consistent hash tell clients apart as the pool wants it.

Comes in: route tables and the clusters that they lead to. Goes out: the tables with hash policies. A retry may then go
to the same member again: the hash leads there.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.plan.clusters import Cluster
from lateen.plan.hashing import HashPolicy
from lateen.plan.routes import Forward, Route, RouteTable


def with_hash_policies(tables: Iterable[RouteTable], clusters: Iterable[Cluster]) -> tuple[RouteTable, ...]:
    """The same tables where no cluster is balanced by hash."""
    policies = {cluster.name: cluster.hash_policy for cluster in clusters if cluster.hash_policy is not None}
    return tuple(_table(table, policies) for table in tables) if policies else tuple(tables)


def _table(table: RouteTable, policies: dict[str, HashPolicy]) -> RouteTable:
    hosts = tuple(
        msgspec.structs.replace(host, routes=tuple(_route(route, policies) for route in host.routes))
        for host in table.virtual_hosts
    )
    return msgspec.structs.replace(table, virtual_hosts=hosts)


def _route(route: Route, policies: dict[str, HashPolicy]) -> Route:
    action = route.action
    if not isinstance(action, Forward):
        return route
    wanted = tuple(dict.fromkeys(policies[part.cluster] for part in action.clusters if part.cluster in policies))
    if not wanted:
        return route
    retry = msgspec.structs.replace(action.retry, avoid_previous_hosts=False) if action.retry is not None else None
    return msgspec.structs.replace(route, action=msgspec.structs.replace(action, hash_policies=wanted, retry=retry))
