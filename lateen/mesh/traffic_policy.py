"""Which DestinationRule, and which of its blocks, hold for a call.

Lookup: the client's namespace (unless it is the root namespace), then the service's namespace, then the root
namespace. The first of these that holds a visible rule with a matching host decides alone: the most specific host,
then the oldest. Rules of one namespace for the same host are joined: subsets with new names are added, the first
top-level policy stands.
A rule with a ``workloadSelector`` is for matching clients of its own namespace, and holds for them in place of those
without.
Blocks: the top level; then the port's settings in place of all four blocks; then the subset's, block by block; then
the subset's port settings in place of all four. Tunnel, PROXY protocol and retry budget are the subset's if it has any,
else the top level's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.mesh.model import Labels, MeshSnapshot, Service
from lateen.mesh.visibility import exported, full_host, host_matches, selects, specificity
from lateen.resources.destination_rule import (
    ClientTlsSettings,
    ConnectionPoolSettings,
    DestinationRuleSpec,
    LoadBalancerSettings,
    LocalityLbSetting,
    OutlierDetection,
    ProxyProtocol,
    RetryBudget,
    TrafficPolicy,
    Tunnel,
)
from lateen.resources.health_check import HealthCheck, health_check_of
from lateen.resources.resource import Resource
from lateen.values.names import Origin


class Subset(msgspec.Struct, frozen=True):
    """A named part of a service's members."""

    name: str
    labels: Labels
    policy: TrafficPolicy | None
    origin: Origin
    resource: Resource


class DestinationPolicy(msgspec.Struct, frozen=True):
    """What holds for calls to one host: the joined rules of one namespace.

    ``for_workloads``: it comes of a rule with a workloadSelector.
    """

    host: str
    policy: TrafficPolicy | None
    subsets: tuple[Subset, ...]
    origin: Origin
    health_check: HealthCheck | None = None
    for_workloads: bool = False

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)


class PolicyBlocks(msgspec.Struct, frozen=True):
    """The blocks that hold for one cluster; None: the defaults."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None
    tunnel: Tunnel | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


def destination_policy(
    snapshot: MeshSnapshot, client_namespace: str, client_labels: Labels, service: Service
) -> DestinationPolicy | None:
    """The DestinationRules that hold when a client in a namespace calls a service."""
    root = snapshot.settings.root_namespace
    levels = [client_namespace] if client_namespace != root else []
    for namespace in (*levels, service.namespace, root):
        visible = [
            resource
            for resource in snapshot.destination_rules.get(namespace, ())
            if _holds(snapshot, resource, service.hostname, client_namespace)
            and _selects(resource, client_namespace, client_labels)
        ]
        if visible:
            return _joined(visible, snapshot.settings.domain)
    return None


def rule_label_names(rules: Iterable[Resource]) -> frozenset[str]:
    """The names of client labels that some ``workloadSelector`` asks for."""
    return frozenset(name for rule in rules for name in _selector(rule))


def failover_label_names(rules: Iterable[Resource], mesh: LocalityLbSetting | None) -> frozenset[str]:
    """The names of labels that some ``failoverPriority`` compares."""
    settings = [mesh] if mesh is not None else []
    for rule in rules:
        spec: DestinationRuleSpec = rule.spec
        policies = [spec.traffic_policy, *(subset.traffic_policy for subset in spec.subsets)]
        for policy in (found for found in policies if found is not None):
            blocks = [policy.load_balancer, *(port.load_balancer for port in policy.port_level_settings)]
            settings.extend(block.locality_lb_setting for block in blocks if block and block.locality_lb_setting)
    return frozenset(entry.partition("=")[0] for setting in settings for entry in setting.failover_priority)


def _selector(rule: Resource) -> Mapping[str, str]:
    spec: DestinationRuleSpec = rule.spec
    return spec.workload_selector.match_labels if spec.workload_selector is not None else {}


def _selects(rule: Resource, client_namespace: str, client_labels: Labels) -> bool:
    selector = _selector(rule)
    return not selector or (rule.key.namespace == client_namespace and selects(selector, client_labels))


def rule_host(resource: Resource, domain: str) -> str:
    """The host of a DestinationRule in its full form."""

    spec: DestinationRuleSpec = resource.spec
    return full_host(spec.host, resource.key.namespace, domain)


def _holds(snapshot: MeshSnapshot, resource: Resource, hostname: str, client_namespace: str) -> bool:
    spec: DestinationRuleSpec = resource.spec
    export_to = spec.export_to or snapshot.settings.destination_rule_export_to
    visible = exported(export_to, resource.key.namespace, client_namespace)
    return visible and host_matches(rule_host(resource, snapshot.settings.domain), hostname)


def _joined(resources: list[Resource], domain: str) -> DestinationPolicy:
    best = min((rule_host(resource, domain) for resource in resources), key=specificity)
    policy: TrafficPolicy | None = None
    subsets: dict[str, Subset] = {}
    same_host = [resource for resource in resources if rule_host(resource, domain) == best]
    chosen = [resource for resource in same_host if _selector(resource)]
    same_host = [rule for rule in chosen if _selector(rule) == _selector(chosen[0])] if chosen else same_host
    for resource in same_host:
        spec: DestinationRuleSpec = resource.spec
        policy = policy or spec.traffic_policy
        for index, subset in enumerate(spec.subsets):
            labels = tuple(sorted(subset.labels.items()))
            origin = resource.origin_at(f"spec.subsets[{index}]")
            subsets.setdefault(subset.name, Subset(subset.name, labels, subset.traffic_policy, origin, resource))
    checks = (health_check_of(resource) for resource in same_host)
    return DestinationPolicy(
        best,
        policy,
        tuple(subsets.values()),
        same_host[0].origin,
        next((check for check in checks if check is not None), None),
        bool(chosen),
    )


def blocks_for(policy: DestinationPolicy | None, port: int, subset_name: str = "") -> PolicyBlocks:
    """The blocks that hold for a service port and subset."""
    if policy is None:
        return PolicyBlocks()
    blocks = _with_port(_of(policy.policy), policy.policy, port)
    subset = policy.subset(subset_name) if subset_name else None
    if subset is None or subset.policy is None:
        return blocks
    own = _of(subset.policy)
    merged = PolicyBlocks(*(getattr(own, name) or getattr(blocks, name) for name in own.__struct_fields__))
    return _with_port(merged, subset.policy, port)


def _of(policy: TrafficPolicy | None) -> PolicyBlocks:
    if policy is None:
        return PolicyBlocks()
    return PolicyBlocks(
        policy.load_balancer,
        policy.connection_pool,
        policy.outlier_detection,
        policy.tls,
        policy.tunnel,
        policy.proxy_protocol,
        policy.retry_budget,
    )


def _with_port(blocks: PolicyBlocks, policy: TrafficPolicy | None, port: int) -> PolicyBlocks:
    settings = policy.port_level_settings if policy is not None else ()
    found = next((entry for entry in settings if entry.port is not None and entry.port.number == port), None)
    if found is None:
        return blocks
    return msgspec.structs.replace(
        blocks,
        load_balancer=found.load_balancer,
        connection_pool=found.connection_pool,
        outlier_detection=found.outlier_detection,
        tls=found.tls,
    )
