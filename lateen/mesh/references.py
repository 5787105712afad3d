"""Which subsets VirtualServices send to, and which of these no DestinationRule defines.

Comes in: resources. Goes out: references, each with the place where it stands. Who may see which rule is left aside
here: a reference dangles only where no rule at all defines the subset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from lateen.mesh.traffic_policy import rule_host
from lateen.mesh.visibility import full_host, host_matches
from lateen.resources.destination_rule import DestinationRuleSpec
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import Destination, VirtualServiceSpec
from lateen.values.names import Origin, ResourceKey


class SubsetReference(msgspec.Struct, frozen=True):
    """One destination of a VirtualService that names a subset; ``host`` is in its full form."""

    user: ResourceKey
    host: str
    subset: str
    origin: Origin


def subset_references(resource: Resource, domain: str) -> Iterator[SubsetReference]:
    """Every subset that a VirtualService sends to."""
    for path, destination in _destinations(resource.spec):
        if destination.subset:
            host = full_host(destination.host, resource.key.namespace, domain)
            yield SubsetReference(resource.key, host, destination.subset, resource.origin_at(f"{path}.subset"))


def destination_hosts(resource: Resource, domain: str) -> Iterator[str]:
    """The full host of everything that a VirtualService sends to."""
    for _, destination in _destinations(resource.spec):
        yield full_host(destination.host, resource.key.namespace, domain)


def _destinations(spec: VirtualServiceSpec) -> Iterator[tuple[str, Destination]]:
    for index, route in enumerate(spec.http):
        place = f"spec.http[{index}]"
        for part, target in enumerate(route.route):
            yield f"{place}.route[{part}].destination", target.destination
        if route.mirror is not None:
            yield f"{place}.mirror", route.mirror
        for part, mirror in enumerate(route.mirrors):
            yield f"{place}.mirrors[{part}].destination", mirror.destination
    plain = [*((f"spec.tls[{index}]", found.route) for index, found in enumerate(spec.tls))]
    plain += [(f"spec.tcp[{index}]", found.route) for index, found in enumerate(spec.tcp)]
    for place, targets in plain:
        for part, connection in enumerate(targets):
            yield f"{place}.route[{part}].destination", connection.destination


def defines(rule: Resource, host: str, subset: str, domain: str) -> bool:
    """Whether a DestinationRule defines a subset of a host."""
    spec: DestinationRuleSpec = rule.spec
    return any(found.name == subset for found in spec.subsets) and host_matches(rule_host(rule, domain), host)


def dangling_references(resources: Iterable[Resource], domain: str) -> tuple[SubsetReference, ...]:
    """The references to subsets that no rule among ``resources`` defines, in the order of the resources."""
    present = tuple(resources)
    defined: dict[str, list[Resource]] = {}
    for rule in present:
        if rule.key.kind == "DestinationRule":
            for subset in rule.spec.subsets:
                defined.setdefault(subset.name, []).append(rule)
    return tuple(
        reference
        for resource in present
        if resource.key.kind == "VirtualService"
        for reference in subset_references(resource, domain)
        if not any(
            defines(rule, reference.host, reference.subset, domain) for rule in defined.get(reference.subset, ())
        )
    )
