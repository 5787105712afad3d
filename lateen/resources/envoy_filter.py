"""EnvoyFilter (networking.istio.io)."""

from __future__ import annotations

from typing import Any, Literal

from lateen.resources.base import Int32, LabelSelector, PolicyTargetReference, Spec, Uint32

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
Operation = Literal[
    "INVALID",
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]


class ProxyMatch(Spec, frozen=True):
    proxy_version: str = ""
    metadata: dict[str, str] = {}


class SubFilterMatch(Spec, frozen=True):
    name: str = ""


class FilterMatch(Spec, frozen=True):
    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Spec, frozen=True):
    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: Uint32 | None = None


class ListenerMatch(Spec, frozen=True):
    port_number: Uint32 | None = None
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class RouteMatch(Spec, frozen=True):
    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] | None = None


class VirtualHostMatch(Spec, frozen=True):
    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Spec, frozen=True):
    port_number: Uint32 | None = None
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class ClusterMatch(Spec, frozen=True):
    port_number: Uint32 | None = None
    service: str = ""
    subset: str = ""
    name: str = ""


class WaypointRouteMatch(Spec, frozen=True):
    name: str = ""


class WaypointMatch(Spec, frozen=True):
    port_number: Uint32 | None = None
    filter: FilterMatch | None = None
    route: WaypointRouteMatch | None = None


class ConfigObjectMatch(Spec, frozen=True):
    context: Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"] | None = None
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class Patch(Spec, frozen=True):
    """``value`` is the part of Envoy's configuration, as plain values: a mapping, or None if it is not given."""

    operation: Operation | None = None
    value: dict[str, Any] | None = None
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] | None = None


class ConfigPatch(Spec, frozen=True):
    apply_to: ApplyTo | None = None
    match: ConfigObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Spec, frozen=True):
    workload_selector: LabelSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    config_patches: tuple[ConfigPatch, ...] = ()
    priority: Int32 = 0
