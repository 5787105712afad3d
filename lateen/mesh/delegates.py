"""VirtualServices that hand routes on to others: a root with ``delegate`` and the delegates that it names.

Comes in: all VirtualServices. Goes out: the roots with the delegates' routes in place, without the delegates
themselves, and a finding for each reference that leads nowhere. Rules:

- A delegate has neither hosts nor gateways, and its ``exportTo`` includes the root's namespace.
- Each match of the delegate is joined with each match of the root that it fits: a field that both have must narrow the
  root's (the same text, or an exact text or longer prefix below the root's prefix); where they contradict each other,
  the pair is left out, and with its last pair the route.
- What the delegate's route says itself holds; the rest it takes from the root's. Names are joined by ``-``.
- Short host names of a delegate belong to its own namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from lateen.findings import Finding, warning
from lateen.mesh.visibility import exported, full_host
from lateen.resources.base import StringMatch
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import Destination, HttpMatchRequest, HttpRoute, VirtualServiceSpec
from lateen.settings import Settings
from lateen.values.names import ResourceKey

OWN = (
    "rewrite", "timeout", "retries", "fault", "mirror", "mirrors", "mirror_percent", "mirror_percentage",
    "cors_policy", "headers", "redirect", "direct_response",
)  # fmt: skip
"""What a delegate's route may say for itself."""
TEXTS = ("uri", "scheme", "method", "authority")
MAPS = ("headers", "without_headers", "query_params")


def with_delegates(
    virtual_services: Iterable[Resource], settings: Settings
) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    """The VirtualServices that have hosts, each with the routes of its delegates."""
    found = tuple(virtual_services)
    delegates = {resource.key: resource for resource in found if not resource.spec.hosts}
    findings: list[Finding] = []
    joined = [_joined(root, delegates, settings, findings) for root in found if root.spec.hosts]
    return tuple(joined), tuple(findings)


def _joined(
    root: Resource, delegates: Mapping[ResourceKey, Resource], settings: Settings, findings: list[Finding]
) -> Resource:
    spec: VirtualServiceSpec = root.spec
    if all(route.delegate is None for route in spec.http):
        return root
    routes: list[HttpRoute] = []
    lines = {path: line for path, line in root.lines.items() if not path.startswith("spec.http[")}
    for index, route in enumerate(spec.http):
        place = f"spec.http[{index}]"
        if route.delegate is None:
            below = {path: line for path, line in root.lines.items() if path.startswith(place)}
            lines.update({f"spec.http[{len(routes)}]{path[len(place) :]}": line for path, line in below.items()})
            routes.append(route)
            continue
        for merged in _handed_on(root, route, place, delegates, settings, findings):
            lines[f"spec.http[{len(routes)}]"] = root.lines.get(f"{place}.delegate", root.lines.get(place, 0))
            routes.append(merged)
    return msgspec.structs.replace(root, spec=msgspec.structs.replace(spec, http=tuple(routes)), lines=lines)


def _handed_on(
    root: Resource,
    route: HttpRoute,
    place: str,
    delegates: Mapping[ResourceKey, Resource],
    settings: Settings,
    findings: list[Finding],
) -> Iterator[HttpRoute]:
    """The routes of the delegate of one route, joined with it."""
    named = route.delegate
    if named is None:
        return
    key = ResourceKey("VirtualService", named.namespace or root.key.namespace, named.name or "")
    delegate = delegates.get(key)
    problem = _problem(delegate, key, root, settings)
    if delegate is None or problem:
        remedy = "name a VirtualService without hosts that is exported to this namespace"
        findings.append(warning("unusable-delegate", problem, root.origin_at(f"{place}.delegate"), remedy))
        return
    for index, own in enumerate(delegate.spec.http):
        matches = _matches(route.match, own.match)
        if matches is None:
            handed = f"what {root.key} hands on at line {root.origin_at(place).line}"
            message = f"this route contradicts {handed}: no request meets it"
            findings.append(warning("unreachable-route", message, delegate.origin_at(f"spec.http[{index}]")))
            continue
        expanded = _with_full_hosts(own, key.namespace, settings.domain)
        inherited = {name: getattr(expanded, name) or getattr(route, name) for name in OWN}
        joined_name = "-".join(name for name in (route.name, own.name) if name) or None
        yield msgspec.structs.replace(expanded, name=joined_name, match=matches, **inherited)


def _problem(delegate: Resource | None, key: ResourceKey, root: Resource, settings: Settings) -> str:
    """Why a delegate cannot be used; empty where it can."""
    if delegate is None:
        return f"there is no delegate {key}; what is handed on to it goes nowhere"
    export_to = delegate.spec.export_to or settings.virtual_service_export_to
    if not exported(export_to, key.namespace, root.key.namespace):
        return f"the delegate {key} is not exported to namespace {root.key.namespace}"
    return ""


def _matches(
    root: tuple[HttpMatchRequest, ...], own: tuple[HttpMatchRequest, ...]
) -> tuple[HttpMatchRequest, ...] | None:
    """All pairs that do not contradict each other; None where there is none of many."""
    if not root or not own:
        return root or own
    pairs = [merged for inner in own for outer in root if (merged := _merged(outer, inner)) is not None]
    return tuple(pairs) or None


def _merged(root: HttpMatchRequest, own: HttpMatchRequest) -> HttpMatchRequest | None:
    """One match that holds where both do; None where they contradict each other."""
    if bool(root.ignore_uri_case) != bool(own.ignore_uri_case):
        return None
    for name in ("port", "source_namespace"):
        one, other = getattr(root, name), getattr(own, name)
        if one and other and one != other:
            return None
    if any(own.source_labels.get(name, value) != value for name, value in root.source_labels.items()):
        return None
    if root.gateways and not set(own.gateways) <= set(root.gateways):
        return None
    if any(not _narrows(getattr(root, name), getattr(own, name)) for name in TEXTS):
        return None
    for name in MAPS:
        outer, inner = getattr(root, name), getattr(own, name)
        if any(entry in inner and not _narrows(value, inner[entry]) for entry, value in outer.items()):
            return None
    joined: dict[str, Any] = {name: getattr(own, name) or getattr(root, name) for name in TEXTS}
    joined.update({name: {**getattr(root, name), **getattr(own, name)} for name in MAPS})
    return HttpMatchRequest(
        name="-".join(name for name in (root.name, own.name) if name) or None,
        port=own.port or root.port,
        source_labels={**root.source_labels, **own.source_labels},
        source_namespace=own.source_namespace or root.source_namespace,
        gateways=own.gateways or root.gateways,
        ignore_uri_case=own.ignore_uri_case,
        stat_prefix=own.stat_prefix or root.stat_prefix,
        **joined,
    )


def _narrows(root: StringMatch | None, own: StringMatch | None) -> bool:
    """Whether a text matcher of a delegate lies within the root's."""
    if root is None or own is None or root == own:
        return True
    if root.prefix is None:
        return root.exact is None and root.regex is None
    return (own.exact if own.exact is not None else own.prefix or "").startswith(root.prefix)


def _with_full_hosts(value: Any, namespace: str, domain: str) -> Any:
    """The same with every destination's host in its full form."""
    if isinstance(value, Destination):
        return msgspec.structs.replace(value, host=full_host(value.host, namespace, domain))
    if isinstance(value, msgspec.Struct):
        fields = {name: _with_full_hosts(getattr(value, name), namespace, domain) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, tuple):
        return tuple(_with_full_hosts(item, namespace, domain) for item in value)
    return value
