"""What a sidecar does with traffic to what the mesh does not know.

Comes in: the snapshot and whose traffic it is. Goes out: one ``OutboundPolicy``, for TCP (listeners) and for HTTP (the
last virtual host of each route table).
"""

from __future__ import annotations

import msgspec

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.sidecar_scope import SidecarScope
from lateen.mesh.visibility import full_host
from lateen.plan import names
from lateen.plan.matching import RouteMatch
from lateen.plan.routes import DirectResponse, Forward, Route, RouteAction, VirtualHost, WeightedCluster
from lateen.values.names import BUILT_IN, Origin

DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"
REGISTRY_ONLY = "REGISTRY_ONLY"


class OutboundPolicy(msgspec.Struct, frozen=True):
    """``mode`` is ALLOW_ANY, REGISTRY_ONLY or ALLOW_ANY_DYNAMIC_DNS, which looks up the host that HTTP asks for.

    ``egress_cluster`` takes unknown TCP in place of the passthrough cluster.
    """

    mode: str
    origin: Origin = BUILT_IN
    egress_cluster: str = ""

    @property
    def tcp_cluster(self) -> str:
        """Where connections go that no service and no route takes."""
        if self.mode == REGISTRY_ONLY:
            return names.BLACK_HOLE
        return self.egress_cluster or names.PASSTHROUGH

    @property
    def looks_up_hosts(self) -> bool:
        return self.mode == DYNAMIC_DNS

    def virtual_host(self) -> VirtualHost:
        """The last virtual host: requests for hosts that nothing else names."""
        if self.mode == REGISTRY_ONLY:
            return self._host("block_all", DirectResponse(502))
        if self.looks_up_hosts:
            return self._host("allow_any_dynamic_dns", Forward((WeightedCluster(names.DYNAMIC_DNS, 1),)))
        return self._host("allow_any", Forward((WeightedCluster(names.PASSTHROUGH, 1),)))

    def _host(self, name: str, action: RouteAction) -> VirtualHost:
        return VirtualHost(name, ("*",), (Route(name, RouteMatch(), action, self.origin),), self.origin)


def outbound_policy(snapshot: MeshSnapshot, scope: SidecarScope) -> OutboundPolicy:
    """What holds for a workload: its Sidecar's policy, else the mesh's. A policy without a mode is REGISTRY_ONLY, the
    first of the enumeration, as in Istio."""
    own = scope.outbound_policy
    if own is None or scope.sidecar is None:
        return OutboundPolicy(snapshot.settings.outbound_policy)
    cluster = ""
    if own.egress_proxy is not None and own.egress_proxy.port is not None:
        proxy, port = own.egress_proxy, own.egress_proxy.port.number
        host = snapshot.concrete(full_host(proxy.host, scope.sidecar.key.namespace, snapshot.settings.domain))
        cluster = names.outbound_cluster(port, proxy.subset or "", host)
    origin = scope.sidecar.origin_at("spec.outboundTrafficPolicy")
    return OutboundPolicy(own.mode or REGISTRY_ONLY, origin, cluster)
