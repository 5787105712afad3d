"""Members of services that Kubernetes objects name: Pods, EndpointSlices and Endpoints.

Comes in: these resources and Nodes. Goes out: ``Member`` values, by who selects them or by Service. Rules:

- A Pod with an address is selected by its labels, as what runs here is; its readiness is its condition Ready.
- An EndpointSlice belongs to the Service that its label ``kubernetes.io/service-name`` names; Endpoints to the Service
  of their name, as long as that has no EndpointSlice. They are the whole truth about the Pods of their Service.
- A Pod behind an address gives its labels, its service account and its node's locality.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from lateen.mesh.locality import LABEL, locality_of
from lateen.mesh.model import Labels, Member
from lateen.resources.kubernetes_endpoints import (
    EndpointPort,
    EndpointsContent,
    EndpointSliceContent,
    PodContent,
    SliceEndpoint,
    TargetRef,
)
from lateen.resources.resource import Resource

SERVICE_LABEL = "kubernetes.io/service-name"
MESH_TLS_LABEL = "security.istio.io/tlsMode"
ENDED = frozenset({"Succeeded", "Failed"})

ByService = Mapping[tuple[str, str], tuple[Member, ...]]


class ClusterMembers:
    """What Kubernetes objects say of members."""

    def __init__(self, by_kind: Mapping[str, Iterable[Resource]]) -> None:
        self._nodes = {node.key.name: tuple(sorted(node.labels.items())) for node in by_kind.get("Node", ())}
        self._pods: dict[tuple[str, str], Member] = {}
        self._by_address: dict[tuple[str, str], Member] = {}
        for pod in by_kind.get("Pod", ()):
            member = self._pod(pod)
            if member is not None:
                self._pods[pod.key.namespace, pod.key.name] = member
                self._by_address.setdefault((pod.key.namespace, member.address), member)
        found: dict[tuple[str, str], list[Member]] = {}
        for resource in by_kind.get("EndpointSlice", ()):
            name = resource.labels.get(SERVICE_LABEL)
            if name:
                found.setdefault((resource.key.namespace, name), []).extend(self._sliced(resource))
        for resource in by_kind.get("Endpoints", ()):
            key = (resource.key.namespace, resource.key.name)
            if key not in found:
                found[key] = list(self._listed(resource))
        self.by_service: ByService = {
            key: tuple({(member.address, member.ports): member for member in reversed(members)}.values())[::-1]
            for key, members in found.items()
        }

    @property
    def pods(self) -> tuple[Member, ...]:
        """Those that selectors select."""
        return tuple(self._pods.values())

    def _pod(self, resource: Resource) -> Member | None:
        content: PodContent = resource.spec
        if not content.status.pod_ip or content.status.phase in ENDED:
            return None
        spec = content.spec
        ports = tuple((port.name, port.container_port) for one in spec.containers for port in one.ports if port.name)
        labels = tuple(sorted(resource.labels.items()))
        return Member(
            address=content.status.pod_ip,
            named_ports=ports,
            labels=labels,
            locality=self._locality(labels, spec.node_name),
            service_account=spec.service_account_name or "default",
            namespace=resource.key.namespace,
            mesh_tls=resource.labels.get(MESH_TLS_LABEL) == "istio",
            healthy=content.status.is_ready,
            workload=resource.key.name,
            hostname=spec.hostname if spec.subdomain else "",
        )

    def _locality(self, labels: Labels, node: str, zone: str = "") -> str:
        if any(name == LABEL for name, _ in labels):
            return locality_of(labels)
        found = locality_of(self._nodes.get(node, ()))
        return found or (f"/{zone}" if zone else locality_of(labels))

    def _sliced(self, resource: Resource) -> Iterator[Member]:
        content: EndpointSliceContent = resource.spec
        for endpoint in content.endpoints:
            for address in endpoint.addresses[:1]:  # all of them lead to the same
                conditions = endpoint.conditions
                yield self._member(resource, endpoint, address, content.ports, healthy=conditions.ready is not False)

    def _listed(self, resource: Resource) -> Iterator[Member]:
        content: EndpointsContent = resource.spec
        for subset in content.subsets:
            for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
                for found in addresses:
                    endpoint = SliceEndpoint(
                        hostname=found.hostname, node_name=found.node_name, target_ref=found.target_ref
                    )
                    yield self._member(resource, endpoint, found.ip, subset.ports, healthy=ready)

    def _member(
        self,
        resource: Resource,
        endpoint: SliceEndpoint,
        address: str,
        ports: tuple[EndpointPort, ...],
        *,
        healthy: bool,
    ) -> Member:
        namespace = resource.key.namespace
        pod = self._behind(namespace, address, endpoint.target_ref)
        base = pod or Member(
            address=address,
            namespace=namespace,
            locality=self._locality((), endpoint.node_name or "", endpoint.zone or ""),
        )
        numbers = ((port.name or "", port.port) for port in ports if (port.protocol or "TCP") == "TCP")
        return replace(
            base,
            address=address,
            ports=tuple((name, number) for name, number in numbers if number is not None),
            ports_are_all=True,
            healthy=healthy,
            hostname=endpoint.hostname or base.hostname,
        )

    def _behind(self, namespace: str, address: str, target: TargetRef | None) -> Member | None:
        if target is not None and target.kind == "Pod":
            return self._pods.get((target.namespace or namespace, target.name))
        return self._by_address.get((namespace, address))
