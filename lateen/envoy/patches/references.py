"""What patched resources point at, read from the messages themselves, so that additions and removals keep their order.

Comes in: a patched route table or listener. Goes out: the (type URL, name) pairs of clusters and route tables in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from lateen.envoy.resources import CLUSTER, ROUTE

Pairs = Iterator[tuple[str, str]]
_Manager = http_connection_manager_pb2.HttpConnectionManager


def of_routes(table: Any) -> Pairs:
    """The clusters that a route table sends to."""
    for host in table.virtual_hosts:
        for route in host.routes:
            if route.HasField("route"):
                yield from _of_action(route.route)


def _of_action(action: Any) -> Pairs:
    if action.cluster:
        yield CLUSTER, action.cluster
    yield from ((CLUSTER, entry.name) for entry in action.weighted_clusters.clusters if entry.name)
    yield from ((CLUSTER, mirror.cluster) for mirror in action.request_mirror_policies if mirror.cluster)


def of_listener(listener: Any) -> Pairs:
    """The clusters and route tables that the chains of a listener lead to."""
    default = [listener.default_filter_chain] if listener.HasField("default_filter_chain") else []
    for chain in (*listener.filter_chains, *default):
        for entry in chain.filters:
            if entry.typed_config.Is(tcp_proxy_pb2.TcpProxy.DESCRIPTOR):
                yield from _of_proxy(tcp_proxy_pb2.TcpProxy.FromString(entry.typed_config.value))
            elif entry.typed_config.Is(_Manager.DESCRIPTOR):
                yield from _of_manager(_Manager.FromString(entry.typed_config.value))


def _of_proxy(proxy: Any) -> Pairs:
    if proxy.cluster:
        yield CLUSTER, proxy.cluster
    yield from ((CLUSTER, entry.name) for entry in proxy.weighted_clusters.clusters)


def _of_manager(manager: Any) -> Pairs:
    if manager.HasField("rds"):
        yield ROUTE, manager.rds.route_config_name
    yield from of_routes(manager.route_config)
