"""Security of the first generation, read as resources of the present kinds: access and authentication together.

Comes in: all resources by their kinds (oldest first), and services. Goes out: what they come to, and findings. A mesh
and ``lateen convert`` both start here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lateen.findings import Finding, warning
from lateen.mesh.legacy_access import CONFIG_KINDS, is_enforced, legacy_access
from lateen.mesh.legacy_authentication import legacy_authentication
from lateen.mesh.model import LegacySecurity, Service
from lateen.mesh.security_policy import decides
from lateen.mesh.visibility import selects
from lateen.resources.base import WorkloadSelector
from lateen.resources.resource import Resource
from lateen.values.names import Origin

AUTHENTICATION_KINDS = ("MeshPolicy", "Policy")
KINDS = frozenset({*CONFIG_KINDS, "ServiceRole", "ServiceRoleBinding", *AUTHENTICATION_KINDS})
NOTHING = LegacySecurity()


def legacy_security(
    by_kind: Mapping[str, Sequence[Resource]], services: Iterable[Service], root_namespace: str
) -> tuple[LegacySecurity, tuple[Finding, ...]]:
    """What the old kinds come to; nothing, at no cost, where there are none."""
    if not KINDS & by_kind.keys():
        return NOTHING, ()
    ordered = sorted(services, key=lambda service: (service.hostname, service.namespace))
    authentication = legacy_authentication(by_kind, ordered, root_namespace)
    access, findings = legacy_access(by_kind, ordered, authentication.peer_bound)
    found = LegacySecurity(
        access, authentication.peers, authentication.tokens, authentication.demands, authentication.origins
    )
    overruled = _overruled(found, by_kind, root_namespace)
    left_out = _without_selector(ordered, by_kind)
    return found, (*findings, *authentication.findings, *overruled, *left_out)


def _without_selector(services: Iterable[Service], by_kind: Mapping[str, Sequence[Resource]]) -> Iterator[Finding]:
    """A warning for each service of the mesh whose workloads no old resource can be for."""
    configs = [config for kind in CONFIG_KINDS for config in by_kind.get(kind, ())][:1]
    asking = [one for kind in AUTHENTICATION_KINDS for one in by_kind.get(kind, ()) if one.spec.origins]
    everywhere = any(one.key.kind == "MeshPolicy" for one in asking)
    namespaces = {one.key.namespace for one in asking if not one.spec.targets}
    for service in services:
        if service.selector or service.external:
            continue
        is_asked = everywhere or service.namespace in namespaces
        if is_asked or any(is_enforced(config.spec, service) for config in configs):
            message = f"{service.hostname} has no selector, so roles and origins have no effect for its workloads"
            remedy = "write an AuthorizationPolicy or RequestAuthentication for them"
            yield warning("no-selector", message, service.origin, remedy)


def _overruled(found: LegacySecurity, by_kind: Mapping[str, Sequence[Resource]], root: str) -> Iterator[Finding]:
    """A warning for each place that has no effect somewhere, as resources of the present kinds hold there."""
    told: set[Origin] = set()
    for made in (*found.access, *found.peers, *found.tokens):
        selector = selector_of(made)
        for present in by_kind.get(made.key.kind, ()):
            if made.origin not in told and makes_room(made, present, root):
                told.add(made.origin)
                where = f"the service of {made.key.name}" if selector else f"namespace {made.key.namespace}"
                message = f"{present.key} holds for {where}, so this has no effect there"
                yield warning("overruled", message, made.origin, "keep one generation of security resources")


def makes_room(made: Resource, present: Resource, root: str) -> bool:
    """Whether what was made of an old resource has no effect, as one of the present kinds holds for its workloads."""
    near = present.key.namespace in (root, made.key.namespace)
    return near and decides(present) and selects(selector_of(present), selector_of(made))


def selector_of(resource: Resource) -> Mapping[str, str]:
    """The labels that select the workloads of a security resource."""
    selector: WorkloadSelector | None = resource.spec.selector
    return selector.match_labels if selector is not None else {}
