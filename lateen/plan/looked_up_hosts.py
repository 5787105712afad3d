"""Listeners that lead to services whose hosts are looked up as they are asked for (resolution DYNAMIC_DNS).

Comes in: listeners and the clusters that they may lead to. Goes out: the listeners, with what waits for the address: on
all HTTP, as routes may lead there, and on TLS that passes to such a cluster by its server name.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from lateen.plan.clusters import Cluster, Discovery
from lateen.plan.model import Chain, HttpChain, Listener
from lateen.plan.names import port_of_cluster


def with_looked_up_hosts(listeners: tuple[Listener, ...], clusters: Iterable[Cluster]) -> tuple[Listener, ...]:
    """The same listeners where no host is looked up."""
    dynamic = frozenset(cluster.name for cluster in clusters if cluster.discovery is Discovery.DYNAMIC_DNS)
    if not dynamic:
        return listeners
    return tuple(
        replace(listener, chains=tuple(_looking_up(chain, dynamic) for chain in listener.chains))
        if listener.direction == "outbound"
        else listener
        for listener in listeners
    )


def _looking_up(chain: Chain, dynamic: frozenset[str]) -> Chain:
    action = chain.action
    if isinstance(action, HttpChain):
        return replace(chain, action=replace(action, dynamic_dns=True))
    ports = [port_of_cluster(target.cluster) for target in action.targets if target.cluster in dynamic]
    return replace(chain, action=replace(action, looks_up_port=ports[0])) if ports else chain
