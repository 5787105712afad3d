"""``kubernetesenv``: which workloads stand behind the uids and addresses of the two sides of a request.

Comes in: instances of ``kubernetes``. Goes out: what is known of each side. A uid counts before an address. What is not
known, or stands at an address that several have, is left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping

from lateen.mixer.adapter import AttributeAdapter
from lateen.mixer.templates import Instance, Kubernetes, Value
from lateen.plan.mixer.pods import Pod


class Pods:
    """All of them, by uid and by address."""

    def __init__(self, pods: Iterable[Pod] = ()) -> None:
        self._by_uid: dict[str, Pod] = {}
        self._by_address: dict[str, Pod | None] = {}
        for pod in pods:
            self._by_uid[pod.uid] = pod
            for address in pod.addresses:
                self._by_address[address] = None if address in self._by_address else pod

    def find(self, uid: str, address: Value) -> Pod | None:
        """The one that is meant; None if nobody knows."""
        if uid:
            return self._by_uid.get(uid)
        return self._by_address.get(str(address)) if address is not None else None


class KubernetesEnv(AttributeAdapter):
    """``pods`` gives those that there are now."""

    templates = frozenset({"kubernetes"})
    is_lookup = True

    def __init__(self, pods: Callable[[], Pods]) -> None:
        self._pods = pods

    async def find(self, instance: Instance) -> dict[str, object]:
        if not isinstance(instance, Kubernetes):
            raise TypeError(f"{type(instance).__name__} is not of the template kubernetes")
        pods = self._pods()
        source = pods.find(instance.source_uid, instance.source_ip)
        destination = pods.find(instance.destination_uid, instance.destination_ip)
        found = dict(_known("source", source))
        found.update(_known("destination", destination))
        container = _containers(destination).get(str(instance.destination_port))
        return found if container is None else {**found, "destination_container_name": container}


def _containers(pod: Pod | None) -> Mapping[str, str]:
    return pod.containers if pod is not None else {}


def _known(side: str, pod: Pod | None) -> Iterator[tuple[str, object]]:
    if pod is None:
        return
    yield f"{side}_pod_uid", pod.uid
    yield f"{side}_pod_name", pod.name
    yield f"{side}_pod_ip", ipaddress.ip_address(pod.addresses[0])
    yield f"{side}_labels", pod.labels
    yield f"{side}_namespace", pod.namespace
    yield f"{side}_service_account_name", pod.service_account
    yield f"{side}_workload_uid", f"istio://{pod.namespace}/workloads/{pod.workload}"
    yield f"{side}_workload_name", pod.workload
    yield f"{side}_workload_namespace", pod.namespace
    yield f"{side}_owner", pod.owner
    if pod.host_ip:
        yield f"{side}_host_ip", ipaddress.ip_address(pod.host_ip)
