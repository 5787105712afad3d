"""Whose host it is: VirtualServices for hosts of other namespaces, where the mesh holds hosts to their owners.

Comes in: VirtualServices, and the services. Goes out: the same, those narrowed to clients of their own namespace that
would route calls of others to a host that is not theirs, and warnings.

A host belongs to the namespaces that define it as a service; the root namespace may speak for all. VirtualServices of
gateways alone are left: the Gateway says whose hosts it takes. DestinationRules need no owner: they are looked up in
the client's namespace, the service's and the root namespace alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from lateen.findings import Finding, warning
from lateen.mesh.routing import MESH_GATEWAY, gateway_names
from lateen.mesh.visibility import full_host, host_matches
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import VirtualServiceSpec
from lateen.settings import Settings

OWN = (".",)


def held_to_owners(
    virtual_services: Iterable[Resource], owners: Mapping[str, frozenset[str]], settings: Settings
) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    """``owners``: the namespaces that define each host."""
    if not settings.host_ownership:
        return tuple(virtual_services), ()
    found: list[Resource] = []
    findings: list[Finding] = []
    for resource in virtual_services:
        spec: VirtualServiceSpec = resource.spec
        index, host = _of_others(resource, owners, settings)
        if not host or _is_own(spec.export_to or settings.virtual_service_export_to, resource.key.namespace):
            found.append(resource)
            continue
        found.append(replace(resource, spec=replace(spec, export_to=OWN)))
        whose = " and ".join(sorted(owners[host]))
        message = f"{host} is of namespace {whose}, so this holds for clients of {resource.key.namespace} alone"
        remedy = f'move it to namespace {whose}, or write exportTo: ["."]'
        findings.append(warning("host-of-another", message, resource.origin_at(f"spec.hosts[{index}]"), remedy))
    return tuple(found), tuple(findings)


def _of_others(resource: Resource, owners: Mapping[str, frozenset[str]], settings: Settings) -> tuple[int, str]:
    """The first of its hosts (with its place) that means a service of others; empty: there is none."""
    namespace = resource.key.namespace
    if namespace == settings.root_namespace or MESH_GATEWAY not in gateway_names(resource):
        return 0, ""
    for index, host in enumerate(resource.spec.hosts):
        pattern = full_host(host, namespace, settings.domain)
        meant = [pattern] if pattern in owners else sorted(one for one in owners if host_matches(pattern, one))
        for one in meant:
            if namespace not in owners[one]:
                return index, one
    return 0, ""


def _is_own(export_to: Iterable[str], namespace: str) -> bool:
    return all(entry in (".", "~", namespace) for entry in export_to)
