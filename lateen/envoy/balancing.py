"""How Envoy balances a cluster: the algorithm with its settings, warm-up, panic and localities.

Comes in: a ``Cluster``. Goes out: parts of Envoy's ``Cluster``.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import percent_pb2

from lateen.envoy import wire
from lateen.plan.clusters import Cluster, Discovery, LoadBalancing, Warmup

DEFAULT_RING_SIZE = 1024
_Message = cluster_pb2.Cluster
_BALANCING = {
    LoadBalancing.ROUND_ROBIN: _Message.ROUND_ROBIN,
    LoadBalancing.LEAST_REQUEST: _Message.LEAST_REQUEST,
    LoadBalancing.RANDOM: _Message.RANDOM,
    LoadBalancing.RING_HASH: _Message.RING_HASH,
    LoadBalancing.MAGLEV: _Message.MAGLEV,
    LoadBalancing.PROVIDED: _Message.CLUSTER_PROVIDED,
}


def balancing_policy(cluster: Cluster) -> Any:
    """Envoy's name of the algorithm."""
    if cluster.discovery in (Discovery.ORIGINAL_DST, Discovery.DYNAMIC_DNS):
        return _Message.CLUSTER_PROVIDED
    return _BALANCING[cluster.load_balancing]


def add_balancing(message: Any, cluster: Cluster) -> None:
    """Write what the algorithm needs into the cluster's message."""
    if message.lb_policy == _Message.RING_HASH:
        message.ring_hash_lb_config.minimum_ring_size.value = cluster.minimum_ring_size or DEFAULT_RING_SIZE
    if message.lb_policy == _Message.MAGLEV and cluster.maglev_table_size is not None:
        message.maglev_lb_config.table_size.value = cluster.maglev_table_size
    if cluster.warmup is not None:
        config = message.round_robin_lb_config if message.lb_policy == _Message.ROUND_ROBIN else None
        config = config if config is not None else message.least_request_lb_config
        config.slow_start_config.CopyFrom(_slow_start(cluster.warmup))


def _slow_start(warmup: Warmup) -> Any:
    return _Message.SlowStartConfig(
        slow_start_window=wire.duration(warmup.duration),
        aggression=base_pb2.RuntimeDouble(default_value=warmup.aggression, runtime_key="lateen.warmup.aggression"),
        min_weight_percent=percent_pb2.Percent(value=warmup.minimum_percent),
    )


def common_balancing(cluster: Cluster, weighted: bool) -> Any:
    """Panic is off unless asked for: an endpoint that is known to be unhealthy gets nothing, few replicas or many."""
    if cluster.discovery in (Discovery.ORIGINAL_DST, Discovery.DYNAMIC_DNS, Discovery.NONE):
        return None
    outlier = cluster.outlier
    minimum = outlier.min_health_percent if outlier is not None else None
    common = _Message.CommonLbConfig(healthy_panic_threshold=percent_pb2.Percent(value=float(minimum or 0)))
    if weighted or cluster.weighs_localities:
        common.locality_weighted_lb_config.SetInParent()
    return common
