"""Clusters that look up the host of each request: Envoy's dynamic forward proxy.

Comes in: nothing but who asks. Goes out: the cluster's type, the HTTP filter that waits for the address, and what a
route says to have it. Filter and cluster share one DNS cache, so both hold the very same settings of it.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import sni_dynamic_forward_proxy_pb2

from lateen.envoy import wire

DYNAMIC_DNS_FILTER = "envoy.filters.http.dynamic_forward_proxy"
SERVER_NAME_FILTER = "envoy.filters.network.sni_dynamic_forward_proxy"
CACHE = "lateen"


def _cache() -> Any:
    return dns_cache_pb2.DnsCacheConfig(name=CACHE, dns_lookup_family=cluster_pb2.Cluster.V4_PREFERRED)


def dynamic_dns_filter() -> Any:
    """What the filter is made with; it does nothing for routes that lead elsewhere."""
    return dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_cache())


def server_name_filter(port: int) -> Any:
    """Waits for the address of the server name that TLS says."""
    config = sni_dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_cache(), port_value=port)
    return listener_components_pb2.Filter(name=SERVER_NAME_FILTER, typed_config=wire.pack(config))


def dynamic_dns_type() -> Any:
    """The type of a cluster whose endpoints are the hosts that are asked for."""
    config = wire.pack(dynamic_cluster_pb2.ClusterConfig(dns_cache_config=_cache()))
    return cluster_pb2.Cluster.CustomClusterType(name="envoy.clusters.dynamic_forward_proxy", typed_config=config)
