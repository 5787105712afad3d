"""ROUTE_CONFIGURATION, VIRTUAL_HOST and HTTP_ROUTE: patches on route tables.

Comes in: a ``RouteConfiguration`` and patches. Goes out: the same message, changed. First the table is merged into,
then virtual hosts are removed and merged into, then the routes of those that are left are changed, and virtual hosts
are added last.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lateen.envoy.patches.lists import ADDING, MERGING, Applied, insert, merge_patch, remove_and_merge, value_of
from lateen.plan import names
from lateen.plan.patch_values import ANY_CONTEXT, GATEWAY, INBOUND, OUTBOUND, Patch

KINDS = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_ACTIONS = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}


def patch_routes(table: Any, patches: tuple[Patch, ...], is_gateway: bool, applied: Applied) -> None:
    """Change one route table in place."""
    own = [patch for patch in patches if patch.apply_to in KINDS and _is_table(patch, table.name, is_gateway)]
    if not own:
        return
    name = table.name
    for patch in own:
        if patch.apply_to == "ROUTE_CONFIGURATION" and patch.operation in MERGING:
            merge_patch(table, patch)
            applied.add(patch)
    table.name = name
    hosts = [patch for patch in own if patch.apply_to == "VIRTUAL_HOST"]
    remove_and_merge(table.virtual_hosts, hosts, _is_host, applied)
    routes = [patch for patch in own if patch.apply_to == "HTTP_ROUTE"]
    if routes:
        for host in table.virtual_hosts:
            _patch_host(host, [patch for patch in routes if _is_host(patch, host)], applied)
    for patch in hosts:
        if patch.operation == "ADD":
            table.virtual_hosts.append(value_of(patch))
            applied.add(patch)


def _patch_host(host: Any, patches: list[Patch], applied: Applied) -> None:
    for patch in patches:
        if patch.operation in ADDING and insert(
            host.routes,
            patch,
            value_of(patch),
            partial(_is_route, patch),
            named=bool(patch.routes.route or patch.routes.action),
        ):
            applied.add(patch)
    remove_and_merge(host.routes, patches, _is_route, applied)


def _is_table(patch: Patch, name: str, is_gateway: bool) -> bool:
    place = patch.routes
    inbound = name.startswith("inbound|") or name == names.INBOUND_PASSTHROUGH
    context = GATEWAY if is_gateway else INBOUND if inbound else OUTBOUND
    return (
        patch.context in (ANY_CONTEXT, context)
        and place.name in ("", name)
        and (not place.port or place.port == _port(name))
        and (place.tables is None or name in place.tables)
    )


def _port(name: str) -> int:
    """The port that a table's name says: ``9080``, ``host:9080``, ``inbound|9080||``, ``http.8080``."""
    if name.startswith("inbound|"):
        text = name.split("|")[1]
    elif name.startswith(("http.", "https.")):
        text = name.split(".")[1]
    else:
        text = name.rpartition(":")[2]
    return int(text) if text.isdigit() else 0


def _is_host(patch: Patch, host: Any) -> bool:
    place = patch.routes
    return place.virtual_host in ("", host.name) and (not place.domain or place.domain in host.domains)


def _is_route(patch: Patch, route: Any) -> bool:
    place = patch.routes
    if place.route not in ("", route.name):
        return False
    return not place.action or route.WhichOneof("action") == _ACTIONS[place.action]
