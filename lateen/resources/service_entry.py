"""ServiceEntry (networking.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import LabelSelector, Spec, Uint32
from lateen.resources.workload_entry import WorkloadEntrySpec


class ServicePort(Spec, frozen=True):
    number: Uint32 = 0
    protocol: str | None = None
    name: str = ""
    target_port: Uint32 | None = None


class ServiceEntrySpec(Spec, frozen=True):
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: LabelSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
