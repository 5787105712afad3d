"""CLUSTER: patches on clusters, found by what their names say, so that only those that match are touched.

Comes in: a proxy's clusters and patches. Goes out: the clusters it gets. First REMOVE, then MERGE, then ADD. For
inbound clusters the port is the workload's own, and the service is not looked at, as they serve all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec
from envoy.config.cluster.v3 import cluster_pb2

from lateen.envoy import wire
from lateen.envoy.patches.lists import MERGING, merge_patch, value_of
from lateen.envoy.resources import ENDPOINT, EnvoyResource
from lateen.plan import names
from lateen.plan.patch_values import ANY_CONTEXT, GATEWAY, INBOUND, OUTBOUND, Patch

Resources = dict[str, EnvoyResource]


def patch_clusters(
    clusters: Mapping[str, EnvoyResource], patches: tuple[Patch, ...], is_gateway: bool
) -> tuple[Resources, frozenset[Patch]]:
    """The clusters after REMOVE and MERGE, and the patches that found something."""
    found, applied = Resources(), set[Patch]()
    removing = [patch for patch in patches if patch.operation == "REMOVE"]
    merging = [patch for patch in patches if patch.operation in MERGING]
    for name, resource in clusters.items():
        gone = [patch for patch in removing if _matches(patch, name, is_gateway)]
        applied.update(gone)
        if gone:
            continue
        changes = tuple(patch for patch in merging if _matches(patch, name, is_gateway))
        applied.update(changes)
        found[name] = _merged(resource, changes) if changes else resource
    return found, frozenset(applied)


def added_clusters(patches: Iterable[Patch]) -> Resources:
    """The clusters that patches add."""
    added = [_added(patch) for patch in patches if patch.operation == "ADD"]
    return {resource.name: resource for resource in added}


@lru_cache(maxsize=4096)
def _merged(resource: EnvoyResource, changes: tuple[Patch, ...]) -> EnvoyResource:
    message = cluster_pb2.Cluster.FromString(resource.body)
    for patch in changes:
        merge_patch(message, patch)
    message.name = resource.name
    made = wire.resource(resource.name, message, changes[-1].origin, resource.references)
    if message.type == cluster_pb2.Cluster.EDS:
        return made
    kept = tuple(pair for pair in resource.references if pair[0] != ENDPOINT)
    return msgspec.structs.replace(made, references=kept)


@lru_cache(maxsize=1024)
def _added(patch: Patch) -> EnvoyResource:
    message = value_of(patch)
    return wire.resource(message.name, message, patch.origin)


def _matches(patch: Patch, name: str, is_gateway: bool) -> bool:
    place = patch.cluster
    direction, port, subset, host = _parts(name)
    context = GATEWAY if is_gateway else INBOUND if direction == "inbound" else OUTBOUND
    if patch.context not in (ANY_CONTEXT, context) or (place.name and place.name != name):
        return False
    if place.port and place.port != port:
        return False
    if direction == "inbound" and port:
        return not place.subset
    return (not place.service or place.service.lower() == host) and (not place.subset or place.subset == subset)


def _parts(name: str) -> tuple[str, int, str, str]:
    """Direction, port, subset and host; the last three are empty for clusters of no service."""
    parts = name.split("|")
    if len(parts) == 4 and parts[1].isdigit():
        return parts[0], int(parts[1]), parts[2], parts[3]
    return ("inbound" if name == names.INBOUND_PASSTHROUGH else "outbound"), 0, "", ""
