"""Routes of VirtualServices that no port of their hosts can use.

Comes in: VirtualServices and services. Goes out: a warning for each list of ``tls`` or ``tcp`` routes that holds for
sidecars and whose hosts all speak HTTP alone. A host that no registry knows is left aside: it may come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lateen.findings import Finding, warning
from lateen.mesh.model import Service
from lateen.mesh.routing import MESH_GATEWAY, gateway_names
from lateen.mesh.visibility import full_host
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import VirtualServiceSpec


def unused_routes(
    virtual_services: Iterable[Resource], services: Mapping[str, Service], domain: str
) -> Iterator[Finding]:
    """The warnings, in the order of the VirtualServices."""
    for resource in virtual_services:
        spec: VirtualServiceSpec = resource.spec
        if not (spec.tls or spec.tcp) or set(gateway_names(resource)) != {MESH_GATEWAY}:
            continue
        known = [services.get(full_host(host, resource.key.namespace, domain)) for host in spec.hosts]
        if not all(service is not None and _speaks_http_alone(service) for service in known):
            continue
        for field in ("tls", "tcp"):
            if getattr(spec, field):
                message = f"the {field} routes are never used: all ports of {', '.join(spec.hosts)} are HTTP"
                yield warning(
                    "unused-route", message, resource.origin_at(f"spec.{field}"), "write http routes, or name the ports"
                )


def _speaks_http_alone(service: Service) -> bool:
    return bool(service.ports) and all(port.protocol.is_http for port in service.ports)
