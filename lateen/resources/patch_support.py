"""What of EnvoyFilter cannot be done: fields, contexts, and operations that mean nothing for what they apply to.

Comes in: the spec. Goes out: for each such place its path, what is refused, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.resources.envoy_filter import EnvoyFilterSpec

PATCH_FIELDS = frozenset(
    {
        "targetRefs",
        "configPatches[].match.listener.portName",
        "configPatches[].match.routeConfiguration.portName",
        "configPatches[].match.waypoint",
    }
)
_FILTERS = frozenset(
    {"ADD", "REMOVE", "MERGE", "MERGE_AND_REPLACE_LIST", "INSERT_FIRST", "INSERT_BEFORE", "INSERT_AFTER", "REPLACE"}
)
_THINGS = frozenset({"ADD", "REMOVE", "MERGE", "MERGE_AND_REPLACE_LIST"})
OPERATIONS = {
    "LISTENER": _THINGS,
    "FILTER_CHAIN": _THINGS,
    "CLUSTER": _THINGS,
    "VIRTUAL_HOST": _THINGS,
    "LISTENER_FILTER": _FILTERS,
    "NETWORK_FILTER": _FILTERS,
    "HTTP_FILTER": _FILTERS,
    "HTTP_ROUTE": _FILTERS - {"REPLACE"},
    "ROUTE_CONFIGURATION": frozenset({"MERGE", "MERGE_AND_REPLACE_LIST"}),
    "EXTENSION_CONFIG": frozenset({"ADD"}),
}
"""Which operations there are for each place; others would do nothing."""


def unusable_patches(spec: EnvoyFilterSpec) -> Iterator[tuple[str, str, str]]:
    """(path, what is refused, remedy) for each patch that could not work."""
    for index, entry in enumerate(spec.config_patches):
        place = f"spec.configPatches[{index}]"
        match, patch, apply_to = entry.match, entry.patch, entry.apply_to or ""
        if apply_to == "BOOTSTRAP":
            what = "patches on the bootstrap, which a proxy reads only once, before it has spoken to the control plane,"
            yield f"{place}.applyTo", what, "patch listeners, routes or clusters"
            continue
        if match is not None and match.context == "WAYPOINT":
            yield f"{place}.match.context", "waypoints", "use SIDECAR_INBOUND, SIDECAR_OUTBOUND or GATEWAY"
        operation = (patch.operation if patch is not None else "") or ""
        known = OPERATIONS.get(apply_to)
        if known is not None and operation and operation != "INVALID" and operation not in known:
            yield f"{place}.patch.operation", f"{operation} on {apply_to}", f"use {' or '.join(sorted(known))}"
        named = patch.filter_class if patch is not None else None
        if named not in (None, "UNSPECIFIED") and (apply_to, operation) != ("HTTP_FILTER", "ADD"):
            yield f"{place}.patch.filterClass", "filterClass but with ADD on HTTP_FILTER", "use ADD, or leave it out"
