"""LISTENER_FILTER, NETWORK_FILTER, HTTP_FILTER and EXTENSION_CONFIG: patches on lists of filters.

Comes in: the filters of a listener, a chain or a connection manager. Goes out: the same lists, changed. Insertions come
first, in their order, then what is removed and merged. ADD stands at the end, but before the filter that has to be
last. Names that Envoy has given up are read as those of today; ``envoy.filters.http.rbac`` means all of
Lateen's filters that decide or audit by AuthorizationPolicies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lateen.envoy import wire
from lateen.envoy.http_connection import HTTP_MANAGER, ROUTER_FILTER
from lateen.envoy.patches.lists import ADDING, Applied, insert, remove_and_merge, value_of
from lateen.envoy.patches.values import message_of
from lateen.envoy.rbac import ALLOW_FILTER, AUDIT_FILTER, DENY_FILTER
from lateen.plan.access.model import TOKEN_FILTER
from lateen.plan.patch_values import Patch
from lateen.resources.checks.envoy_filter import NEW_NAMES

LAST_NETWORK_FILTERS = (HTTP_MANAGER, "envoy.filters.network.tcp_proxy")
_RBAC = "envoy.filters.http.rbac"
_CLASSES: dict[str, tuple[str, ...]] = {
    "AUTHN": (TOKEN_FILTER,),
    "AUTHZ": (ALLOW_FILTER, DENY_FILTER),
}
"""After which filter one of a class stands; of those that are there the first named counts. Without tokens, who calls
is found out first of all."""
Named = Callable[[Patch], str]


def patch_filters(filters: Any, patches: list[Patch], named: Named, extensions: list[Patch], applied: Applied) -> None:
    """Change one list of filters. ``named`` gives the name of the filter that a patch matches."""
    for patch in patches:
        if patch.operation not in ADDING:
            continue
        value = _with_extension(value_of(patch), extensions, applied)
        wanted = named(patch)
        end = _end(filters, patch)
        if value is not None and insert(filters, patch, value, partial(_bears, wanted), end, named=bool(wanted)):
            applied.add(patch)
    remove_and_merge(filters, patches, lambda patch, entry: not named(patch) or _bears(named(patch), entry), applied)


def _bears(wanted: str, entry: Any) -> bool:
    name, wanted = NEW_NAMES.get(entry.name, entry.name), NEW_NAMES.get(wanted, wanted)
    return name == wanted or (wanted == _RBAC and name in (AUDIT_FILTER, DENY_FILTER, ALLOW_FILTER))


def _end(filters: Any, patch: Patch) -> int:
    """Where ADD puts a filter."""
    names = [NEW_NAMES.get(entry.name, entry.name) for entry in filters]
    if patch.apply_to == "HTTP_FILTER":
        for after in _CLASSES.get(patch.filter_class, ()):
            if after in names:
                return names.index(after) + 1
        if patch.filter_class == "AUTHN":
            return 0
    last = (ROUTER_FILTER,) if patch.apply_to == "HTTP_FILTER" else LAST_NETWORK_FILTERS
    return len(names) - 1 if names and names[-1] in last else len(names)


def _with_extension(value: Any, extensions: list[Patch], applied: Applied) -> Any:
    """A filter that asks the control plane for its configuration is given it at once; None where there is none."""
    if not value.HasField("config_discovery") or not value.config_discovery.config_source.HasField("ads"):
        return value
    for patch in extensions:
        found = message_of(patch.apply_to, patch.value)
        if found.name == value.name:
            applied.add(patch)
            value.typed_config.CopyFrom(found.typed_config)
            return value
    if not value.config_discovery.HasField("default_config"):
        return None
    value.typed_config.CopyFrom(value.config_discovery.default_config)
    return value


def patch_manager(filters: Any, change: Callable[[Any], None], kind: Any) -> None:
    """Unpack each connection manager of a chain, change it, and pack it again if that made a difference."""
    for entry in filters:
        if not entry.typed_config.Is(kind.DESCRIPTOR):
            continue
        manager = kind.FromString(entry.typed_config.value)
        change(manager)
        packed = wire.pack(manager)
        if packed.value != entry.typed_config.value:
            entry.typed_config.CopyFrom(packed)
