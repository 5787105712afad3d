"""Kubernetes' kinds that say where something runs: Pod, Node, EndpointSlice and Endpoints.

Fields that do not matter here are allowed.
"""

from __future__ import annotations

import msgspec

from lateen.resources.kubernetes import Lenient

# --- Pod and Node ----------------------------------------------------------------------------------------------------


class ContainerPort(Lenient, frozen=True):
    container_port: int = 0
    name: str = ""


class Container(Lenient, frozen=True):
    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Lenient, frozen=True):
    containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""


class PodCondition(Lenient, frozen=True):
    type: str = ""
    status: str = ""


class PodStatus(Lenient, frozen=True):
    pod_ip: str = msgspec.field(default="", name="podIP")
    host_ip: str = msgspec.field(default="", name="hostIP")
    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()

    @property
    def is_ready(self) -> bool:
        return any(one.type == "Ready" and one.status == "True" for one in self.conditions)


class PodContent(Lenient, frozen=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeContent(Lenient, frozen=True):
    """A Node matters by its labels alone."""


# --- EndpointSlice ---------------------------------------------------------------------------------------------------


class EndpointPort(Lenient, frozen=True):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointConditions(Lenient, frozen=True):
    """None counts as yes."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(Lenient, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class SliceEndpoint(Lenient, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: TargetRef | None = None


class EndpointSliceContent(Lenient, frozen=True):
    address_type: str = ""
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


# --- Endpoints -------------------------------------------------------------------------------------------------------


class EndpointAddress(Lenient, frozen=True):
    ip: str = ""
    hostname: str | None = None
    node_name: str | None = None
    target_ref: TargetRef | None = None


class EndpointSubset(Lenient, frozen=True):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class EndpointsContent(Lenient, frozen=True):
    subsets: tuple[EndpointSubset, ...] = ()
