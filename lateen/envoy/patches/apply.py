"""All patches of one proxy, applied to all that it gets.

Comes in: translated resources and the patches of the plan. Goes out: the resources that the proxy gets, and which
patches found something to change. Each resource is made once for all proxies that have the same patches, and is the
same object as before where nothing changes it. A proxy without patches never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import msgspec
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

from lateen.envoy import wire
from lateen.envoy.patches import listeners, references, routes
from lateen.envoy.patches.lists import Applied, value_of
from lateen.envoy.resources import CLUSTER, LISTENER, ROUTE, EnvoyResource, EnvoyResources
from lateen.plan.patch_values import Patch
from lateen.values.names import Origin

Patched = tuple[EnvoyResource | None, frozenset[Patch]]


def apply_patches(
    resources: EnvoyResources,
    patches: tuple[Patch, ...],
    is_gateway: bool,
    applied: Iterable[Patch],
    gone: frozenset[str],
) -> EnvoyResources:
    """The resources after all patches but those on clusters.

    Of these ``applied`` found something, and the clusters ``gone`` are left no more.
    """
    by_type, found = dict(resources.by_type), {*applied, *(patch for patch in patches if _adds_cluster(patch))}
    of_routes = tuple(patch for patch in patches if patch.apply_to in routes.KINDS)
    if of_routes:
        by_type[ROUTE] = _each(by_type[ROUTE], lambda found: _route(found, of_routes, is_gateway), found)
    of_listeners = tuple(patch for patch in patches if patch.apply_to not in ("CLUSTER", "BOOTSTRAP"))
    if of_listeners:
        changed = _each(by_type[LISTENER], lambda found: _listener(found, of_listeners, is_gateway), found)
        by_type[LISTENER] = {**changed, **_added(of_listeners, found)}
    if gone:
        for kind in (LISTENER, ROUTE):
            by_type[kind] = {name: _without(resource, gone) for name, resource in by_type[kind].items()}
    return EnvoyResources(by_type, frozenset(patch.origin for patch in found))


@lru_cache(maxsize=4096)
def _without(resource: EnvoyResource, gone: frozenset[str]) -> EnvoyResource:
    """A resource that no longer counts as a user of clusters that a patch took away: they go although it names them."""
    left = tuple(pair for pair in resource.references if pair[0] != CLUSTER or pair[1] not in gone)
    return resource if left == resource.references else msgspec.structs.replace(resource, references=left)


def _adds_cluster(patch: Patch) -> bool:
    return patch.apply_to == "CLUSTER" and patch.operation == "ADD"


def _each(
    present: Mapping[str, EnvoyResource], change: Callable[[EnvoyResource], Patched], applied: Applied
) -> dict[str, EnvoyResource]:
    found = {}
    for name, resource in present.items():
        changed, by = change(resource)
        applied.update(by)
        if changed is not None:
            found[name] = changed
    return found


@lru_cache(maxsize=4096)
def _route(resource: EnvoyResource, patches: tuple[Patch, ...], is_gateway: bool) -> Patched:
    message, applied = route_pb2.RouteConfiguration.FromString(resource.body), set[Patch]()
    routes.patch_routes(message, patches, is_gateway, applied)
    return _made(resource, message, applied, references.of_routes(message)), frozenset(applied)


@lru_cache(maxsize=4096)
def _listener(resource: EnvoyResource, patches: tuple[Patch, ...], is_gateway: bool) -> Patched:
    message, applied = listener_pb2.Listener.FromString(resource.body), set[Patch]()
    left = listeners.patch_listener(message, patches, is_gateway, applied)
    made = _made(resource, message, applied, references.of_listener(message)) if left else None
    return made, frozenset(applied)


def _made(
    resource: EnvoyResource, message: object, applied: Applied, pairs: Iterable[tuple[str, str]]
) -> EnvoyResource:
    """The same object where nothing was changed; what is changed is the last patch's doing."""
    if not applied:
        return resource
    others = [pair for pair in resource.references if pair[0] not in (CLUSTER, ROUTE)]
    return wire.resource(resource.name, message, _origin(applied), (*others, *pairs))


def _origin(applied: Applied) -> Origin:
    """Where the patch stands, or the first of those of one EnvoyFilter, without its number."""
    last = max(patch.origin for patch in applied)
    owner = (last.kind, last.namespace, last.name)
    places = {patch.origin for patch in applied}
    own = sorted(place for place in places if (place.kind, place.namespace, place.name) == owner)
    return own[0] if len(own) == 1 else own[0].at("spec.configPatches")


def _added(patches: tuple[Patch, ...], applied: Applied) -> dict[str, EnvoyResource]:
    """New listeners; to a sidecar they come whichever direction the patch's context names."""
    found = {}
    for patch in patches:
        if patch.apply_to == "LISTENER" and patch.operation == "ADD":
            message = value_of(patch)
            applied.add(patch)
            found[message.name] = wire.resource(message.name, message, patch.origin, references.of_listener(message))
    return found
