"""The patches of EnvoyFilters that hold for one proxy, as plain values in the order in which they are applied.

Comes in: the snapshot and the proxy. Goes out: ``Patch`` values (``patch_values``).

What they match within the configuration is found where they are applied, in ``envoy/patches``. What can be told of the
proxy alone (its kind, labels, metadata, its Gateways) is decided here: a proxy which no filter concerns has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import re2

from lateen.mesh.envoy_filters import envoy_filters_of
from lateen.mesh.gateways import GatewayWorkload, gateway_sockets
from lateen.mesh.model import MeshSnapshot
from lateen.plan.gateway_http import table_name
from lateen.plan.patch_values import (
    ANY_CONTEXT,
    GATEWAY,
    INBOUND,
    OUTBOUND,
    ClusterPlace,
    ListenerPlace,
    Patch,
    RoutePlace,
)
from lateen.plan.proxy import Proxy, ProxyType, node_metadata
from lateen.resources.checks import MAX_PATTERN
from lateen.resources.envoy_filter import ConfigObjectMatch, ConfigPatch, EnvoyFilterSpec, ProxyMatch
from lateen.values.names import Origin


def patches_of(snapshot: MeshSnapshot, proxy: Proxy) -> tuple[Patch, ...]:
    """Every patch that may change this proxy's configuration."""
    if not snapshot.envoy_filters:
        return ()
    found: list[Patch] = []
    for resource in envoy_filters_of(snapshot, proxy.namespace, proxy.labels):
        spec: EnvoyFilterSpec = resource.spec
        for index, entry in enumerate(spec.config_patches):
            if _concerns(entry.match or ConfigObjectMatch(), proxy):
                found.append(_patch(snapshot, proxy, entry, resource.origin_at(f"spec.configPatches[{index}]")))
    return tuple(found)


def _concerns(match: ConfigObjectMatch, proxy: Proxy) -> bool:
    context = match.context or ANY_CONTEXT
    own = (GATEWAY,) if proxy.type is ProxyType.GATEWAY else (INBOUND, OUTBOUND)
    return context in (ANY_CONTEXT, *own) and _is_proxy(match.proxy or ProxyMatch(), proxy)


def _is_proxy(match: ProxyMatch, proxy: Proxy) -> bool:
    metadata = node_metadata(proxy.namespace, proxy.service_account, proxy.workload)
    if any(metadata.get(name) != value for name, value in match.metadata.items()):
        return False
    return not match.proxy_version or _found(match.proxy_version, metadata["ISTIO_VERSION"])


def _found(pattern: str, text: str) -> bool:
    """Whether an RE2 pattern matches somewhere; one that does not compile, or is too long, matches nothing."""
    if len(pattern) > MAX_PATTERN:
        return False
    try:
        return re2.compile(pattern).search(text) is not None
    except re2.error:
        return False


def _patch(snapshot: MeshSnapshot, proxy: Proxy, entry: ConfigPatch, origin: Origin) -> Patch:
    match, patch = entry.match or ConfigObjectMatch(), entry.patch
    value = patch.value if patch is not None else None
    return Patch(
        apply_to=entry.apply_to or "",
        operation=(patch.operation if patch is not None else "") or "",
        value=json.dumps(value) if value is not None else "",
        origin=origin,
        context=match.context or ANY_CONTEXT,
        filter_class=(patch.filter_class if patch is not None else "") or "",
        listener=_listener_place(match),
        routes=_route_place(snapshot, proxy, match),
        cluster=_cluster_place(match),
    )


def _listener_place(match: ConfigObjectMatch) -> ListenerPlace:
    listener = match.listener
    if listener is None:
        return ListenerPlace()
    chain = listener.filter_chain
    within = chain.filter if chain is not None else None
    below = within.sub_filter if within is not None else None
    return ListenerPlace(
        name=listener.name,
        port=listener.port_number or 0,
        listener_filter=listener.listener_filter,
        chain=chain.name if chain is not None else "",
        sni=chain.sni if chain is not None else "",
        transport_protocol=chain.transport_protocol if chain is not None else "",
        alpn=_separated(chain.application_protocols if chain is not None else ""),
        destination_port=(chain.destination_port or 0) if chain is not None else 0,
        network_filter=within.name if within is not None else "",
        http_filter=below.name if below is not None else "",
    )


def _separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _route_place(snapshot: MeshSnapshot, proxy: Proxy, match: ConfigObjectMatch) -> RoutePlace:
    table = match.route_configuration
    if table is None:
        return RoutePlace()
    host = table.vhost
    route = host.route if host is not None else None
    action = (route.action if route is not None else "") or ""
    return RoutePlace(
        name=table.name,
        port=table.port_number or 0,
        tables=tuple(_tables(snapshot, proxy, table.gateway)) if table.gateway else None,
        virtual_host=host.name if host is not None else "",
        domain=host.domain_name if host is not None else "",
        route=route.name if route is not None else "",
        action="" if action == ANY_CONTEXT else action,
    )


def _tables(snapshot: MeshSnapshot, proxy: Proxy, gateway: str) -> Iterator[str]:
    """The names of the route tables that serve a Gateway, ``namespace/name``, at this proxy."""
    if proxy.type is not ProxyType.GATEWAY:
        return
    workload = GatewayWorkload(proxy.id, proxy.namespace, proxy.labels, proxy.address, "")
    for socket in gateway_sockets(snapshot, workload)[0]:
        for placed in socket.servers:
            key = placed.resource.key
            if f"{key.namespace}/{key.name}" == gateway:
                yield table_name(placed if placed.ends_tls else socket.servers[0])


def _cluster_place(match: ConfigObjectMatch) -> ClusterPlace:
    cluster = match.cluster
    if cluster is None:
        return ClusterPlace()
    return ClusterPlace(cluster.name, cluster.port_number or 0, cluster.service, cluster.subset)
