"""Which VirtualService speaks for a host.

For sidecars: one VirtualService a host. Those bound to ``mesh`` and visible to the client are considered; the most
specific host pattern wins, then the client's own namespace, then the oldest. For gateways: all that are bound to the
gateway and share the host, oldest first; their routes are joined and routes that catch all go last (``plan/gateway``).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.visibility import exported, full_host, host_matches, hosts_overlap, specificity
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import VirtualServiceSpec

MESH_GATEWAY = "mesh"


class BoundHost(msgspec.Struct, frozen=True):
    """One host of one VirtualService, in its full form."""

    host: str
    resource: Resource


def gateway_names(resource: Resource) -> tuple[str, ...]:
    """The gateways of a VirtualService as ``namespace/name``, and the word ``mesh``; ``mesh`` alone if none is said."""
    spec: VirtualServiceSpec = resource.spec
    return tuple(qualified_gateway(name, resource.key.namespace) for name in spec.gateways) or (MESH_GATEWAY,)


def qualified_gateway(name: str, namespace: str) -> str:
    return name if name == MESH_GATEWAY or "/" in name else f"{namespace}/{name}"


def _uses(resource: Resource, gateway: str) -> bool:
    """Whether a VirtualService is bound to a gateway as a whole, or by one of its matches."""
    return gateway in gateway_names(resource)


def client_label_names(virtual_services: Iterable[Resource]) -> frozenset[str]:
    """The names of client labels that some ``sourceLabels`` asks for: clients that agree on these are routed alike."""
    names: set[str] = set()
    for resource in virtual_services:
        spec: VirtualServiceSpec = resource.spec
        names.update(name for route in spec.http for match in route.match for name in match.source_labels)
    return frozenset(names)


def mesh_hosts(snapshot: MeshSnapshot, client_namespace: str) -> tuple[BoundHost, ...]:
    """Every host that some VirtualService routes for sidecars of a namespace, in order of precedence.

    The first entry whose host matches a name is the one that speaks for it.
    """
    found: list[BoundHost] = []
    for resource in snapshot.virtual_services:
        spec: VirtualServiceSpec = resource.spec
        if not _uses(resource, MESH_GATEWAY):
            continue
        if not exported(
            spec.export_to or snapshot.settings.virtual_service_export_to, resource.key.namespace, client_namespace
        ):
            continue
        where, domain = resource.key.namespace, snapshot.settings.domain
        found.extend(BoundHost(full_host(host, where, domain), resource) for host in spec.hosts)
    return tuple(
        sorted(found, key=lambda bound: (*specificity(bound.host), bound.resource.key.namespace != client_namespace))
    )


def virtual_services_for(hosts: Iterable[BoundHost], hostname: str) -> tuple[Resource, ...]:
    """All VirtualServices among ``mesh_hosts`` that name a host: the TLS and TCP routes of all of them are asked."""
    return tuple({b.resource.key: b.resource for b in hosts if host_matches(b.host, hostname)}.values())


def gateway_virtual_services(
    snapshot: MeshSnapshot, gateway: Resource, server_hosts: tuple[tuple[str, str], ...]
) -> tuple[BoundHost, ...]:
    """Every host that VirtualServices route on one server of a gateway, oldest first.

    ``server_hosts`` are (namespace, host) pairs as the server allows them; ``*`` stands for every namespace. Where the
    server's host is the narrower of the two, the narrower one is served.
    """
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    found: dict[tuple[str, str], BoundHost] = {}
    for resource in snapshot.virtual_services:
        spec: VirtualServiceSpec = resource.spec
        where = resource.key.namespace
        if not _uses(resource, name) or not exported(
            spec.export_to or snapshot.settings.virtual_service_export_to, where, gateway.key.namespace
        ):
            continue
        for host in (full_host(host, where, snapshot.settings.domain) for host in spec.hosts):
            for namespace, allowed in server_hosts:
                if namespace in ("*", where) and hosts_overlap(allowed, host):
                    served = host if host_matches(allowed, host) else allowed
                    found.setdefault((served, str(resource.key)), BoundHost(served, resource))
    return tuple(found.values())
