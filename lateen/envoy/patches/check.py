"""EnvoyFilter: whether each patch's value is something that Envoy knows.

Comes in: a resource. Goes out: an error, at its field and line, for each value with an unknown field, type, enumerator
or extension. What Envoy thinks of the whole is asked of a spare one before live proxies get it.
"""

from __future__ import annotations

import json

from lateen.envoy.patches.values import MESSAGES, ValueProblem, message_of
from lateen.findings import Finding, error, warning
from lateen.resources.envoy_filter import ConfigPatch, EnvoyFilterSpec
from lateen.resources.resource import Resource

_KEYED = ("LISTENER", "ROUTE_CONFIGURATION", "CLUSTER")
_NEED_NAME = ("LISTENER", "VIRTUAL_HOST", "CLUSTER", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER")


def check_patches(resource: Resource) -> tuple[Finding, ...]:
    """What is wrong with the values of an EnvoyFilter's patches; nothing for other kinds."""
    if resource.key.kind != "EnvoyFilter":
        return ()
    spec: EnvoyFilterSpec = resource.spec
    found: list[Finding] = []
    for index, entry in enumerate(spec.config_patches):
        found.extend(_check(resource, f"spec.configPatches[{index}].patch.value", entry))
    return tuple(found)


def _check(resource: Resource, field: str, entry: ConfigPatch) -> list[Finding]:
    patch, apply_to = entry.patch, entry.apply_to or ""
    if patch is None or patch.value is None or patch.operation == "REMOVE" or apply_to not in MESSAGES:
        return []
    try:
        message = message_of(apply_to, json.dumps(patch.value))
    except ValueProblem as problem:
        origin = resource.origin_at(field + problem.path)
        return [error("wrong-envoy-value", f"Envoy does not know this: {problem.reason}", origin, problem.remedy)]
    operation = patch.operation or ""
    name = str(getattr(message, "name", ""))
    if operation.startswith("MERGE"):
        if apply_to in _KEYED and name:
            what = "the name is what others find it by, and is not changed by a patch"
            return [warning("without-effect", what, resource.origin_at(f"{field}.name"), "leave it out")]
    elif apply_to in _NEED_NAME and not name:
        return [error("missing-field", f"the new {apply_to} has no name", resource.origin_at(field), "give name")]
    return []
