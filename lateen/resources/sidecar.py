"""Sidecar (networking.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import LabelSelector, Spec, Uint32
from lateen.resources.destination_rule import ConnectionPoolSettings
from lateen.resources.gateway import ServerTlsSettings
from lateen.resources.virtual_service import Destination

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Spec, frozen=True):
    number: Uint32 = 0
    protocol: str = ""
    name: str = ""
    target_port: Uint32 | None = None


class IngressListener(Spec, frozen=True):
    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode | None = None
    default_endpoint: str = ""
    tls: ServerTlsSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class EgressListener(Spec, frozen=True):
    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode | None = None
    hosts: tuple[str, ...] = ()


class OutboundTrafficPolicy(Spec, frozen=True):
    """Of a Sidecar; the mode that is not written is REGISTRY_ONLY, the first of the enumeration."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] | None = None
    egress_proxy: Destination | None = None


class SidecarSpec(Spec, frozen=True):
    workload_selector: LabelSelector | None = None
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
