"""What the adapter ``kubernetesenv`` knows: every replica that runs here, and every Pod that files tell of.

Comes in: the snapshot, and Pods. Goes out: what is to be known of each. As with Kubernetes, a workload is what owns a
Pod; of Pods that files tell of, labels say whether a Deployment or a StatefulSet does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from lateen.mesh.cluster_members import ENDED
from lateen.mesh.members import workload_address
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.plan.mixer.place import uid_of
from lateen.resources.kubernetes_endpoints import PodContent
from lateen.resources.resource import Resource

ADAPTER = "kubernetesenv"
_HASH = "pod-template-hash"
_IN_SET = "statefulset.kubernetes.io/pod-name"


class Pod(msgspec.Struct, frozen=True):
    """``kind`` and ``workload``: what owns it. ``addresses``: from where it calls, and where it is reached.

    ``containers``: their names by ports.
    """

    name: str
    namespace: str
    workload: str
    kind: str = "deployments"
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    service_account: str = "default"
    host_ip: str = ""
    containers: Mapping[str, str] = {}

    @property
    def uid(self) -> str:
        return uid_of(self.name, self.namespace)

    @property
    def owner(self) -> str:
        return f"kubernetes://apis/apps/v1/namespaces/{self.namespace}/{self.kind}/{self.workload}"


def pods_of(snapshot: MeshSnapshot, resources: Iterable[Resource]) -> tuple[Pod, ...]:
    """Those that rules ask for: none where no rule names the adapter."""
    actions = [action for rule in snapshot.mixer.rules for action in rule.actions]
    if not any(action.handler.adapter == ADAPTER for action in actions):
        return ()
    running = [_running(workload) for workload in snapshot.workloads.values()]
    return (*running, *_told(resource for resource in resources if resource.key.kind == "Pod"))


def _running(workload: Workload) -> Pod:
    return Pod(
        name=workload.id,
        namespace=workload.namespace,
        workload=workload.name,
        addresses=tuple(dict.fromkeys((workload.address, workload_address(workload)))),
        labels=dict(workload.labels),
        service_account=workload.service_account,
        containers={str(port.target): workload.name for port in workload.ports},
    )


def _told(resources: Iterable[Resource]) -> Iterator[Pod]:
    for resource in resources:
        content: PodContent = resource.spec
        if not content.status.pod_ip or content.status.phase in ENDED:
            continue
        workload, kind = owner_of(resource.key.name, resource.labels)
        yield Pod(
            name=resource.key.name,
            namespace=resource.key.namespace,
            workload=workload,
            kind=kind,
            addresses=(content.status.pod_ip,),
            labels=resource.labels,
            service_account=content.spec.service_account_name or "default",
            host_ip=content.status.host_ip,
            containers={
                str(port.container_port): container.name
                for container in content.spec.containers
                for port in container.ports
            },
        )


def owner_of(name: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """What owns a Pod, and of what kind that is."""
    made_by, middle, _ = name.rpartition(f"-{labels[_HASH]}-") if _HASH in labels else ("", "", "")
    if middle and made_by:
        return made_by, "deployments"
    if labels.get(_IN_SET) == name and name.rpartition("-")[0]:
        return name.rpartition("-")[0], "statefulsets"
    return name, "pods"
