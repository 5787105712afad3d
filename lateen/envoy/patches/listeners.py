"""LISTENER and FILTER_CHAIN, and the filters within them: patches on one listener.

Comes in: a ``Listener`` and patches. Goes out: the same message, changed, or the word that it is gone. Istio's names
hold also where Lateen's layout has others: ``virtualInbound`` is whatever takes a sidecar's arriving calls, and
``0.0.0.0_PORT`` the listener of that port.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from lateen.envoy.chain_names import written_name
from lateen.envoy.http_connection import HTTP_MANAGER
from lateen.envoy.patches.filters import patch_filters, patch_manager
from lateen.envoy.patches.lists import MERGING, Applied, merge_patch, value_of
from lateen.envoy.patches.routes import patch_routes
from lateen.plan import names
from lateen.plan.patch_values import ANY_CONTEXT, GATEWAY, INBOUND, OUTBOUND, ListenerPlace, Patch
from lateen.resources.checks.envoy_filter import NEW_NAMES

KINDS = frozenset({"LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"})
_Manager = http_connection_manager_pb2.HttpConnectionManager
_VIRTUAL = (names.VIRTUAL_INBOUND, names.VIRTUAL_OUTBOUND)


class Facts:
    """What is asked of a listener again and again, read once before anything is changed."""

    def __init__(self, message: Any, is_gateway: bool) -> None:
        self.is_gateway = is_gateway
        self.name = message.name
        self.is_inbound = message.traffic_direction == base_pb2.INBOUND
        socket = message.address.socket_address
        self.port = socket.port_value
        self.aliases = {message.name}
        if not is_gateway and self.is_inbound:
            self.aliases.add(names.VIRTUAL_INBOUND)
        if message.name == f"{socket.address}_{self.port}":
            self.aliases.add(f"0.0.0.0_{self.port}")
        self.is_virtual = message.name in _VIRTUAL
        self.context = GATEWAY if is_gateway else INBOUND if self.is_inbound else OUTBOUND

    @property
    def is_plumbing(self) -> bool:
        """A gateway's way in from the mesh's network, which only leads on to its listeners."""
        return self.is_gateway and self.is_inbound

    def takes(self, patch: Patch) -> bool:
        """Whether this is a listener that the patch is about; ports of virtual ones are looked at by chain."""
        place = patch.listener
        return (
            patch.context in (ANY_CONTEXT, self.context)
            and (not place.name or place.name in self.aliases)
            and (not place.port or self.is_virtual or place.port == self.port)
        )

    def holds_chain(self, place: ListenerPlace, chain: Any) -> bool:
        """Whether a chain is one that the patch is about."""
        match = chain.filter_chain_match
        own = match.destination_port.value if self.is_virtual or not self.is_inbound else self.port
        if self.is_virtual and place.port and place.port != own:
            return False
        return (
            place.chain in ("", written_name(chain.name))
            and (not place.sni or place.sni in match.server_names)
            and place.transport_protocol in ("", match.transport_protocol)
            and set(place.alpn) <= set(match.application_protocols)
            and place.destination_port in (0, own)
            and (not place.network_filter or any(_named(entry, place.network_filter) for entry in chain.filters))
        )


def _named(entry: Any, name: str) -> bool:
    return bool(NEW_NAMES.get(entry.name, entry.name) == NEW_NAMES.get(name, name))


def patch_listener(message: Any, patches: tuple[Patch, ...], is_gateway: bool, applied: Applied) -> bool:
    """Change one listener in place; False where it is removed."""
    facts = Facts(message, is_gateway)
    extensions = [patch for patch in patches if patch.apply_to == "EXTENSION_CONFIG"]
    own = [] if facts.is_plumbing else [patch for patch in patches if patch.apply_to in KINDS and facts.takes(patch)]
    of_listener = [patch for patch in own if patch.apply_to == "LISTENER" and _holds_one(facts, patch, message)]
    gone = [patch for patch in of_listener if patch.operation == "REMOVE"]
    applied.update(gone)
    if gone:
        return False
    for patch in of_listener:
        if patch.operation in MERGING:
            merge_patch(message, patch)
            applied.add(patch)
    message.name = facts.name
    at_listener = [patch for patch in own if patch.apply_to == "LISTENER_FILTER"]
    patch_filters(message.listener_filters, at_listener, lambda p: p.listener.listener_filter, extensions, applied)
    _patch_chains(message, [patch for patch in own if patch.apply_to == "FILTER_CHAIN"], facts, applied)
    for chain in (*message.filter_chains, *_default(message)):
        _patch_chain(chain, own, extensions, facts, applied)
        patch_manager(chain.filters, lambda manager: _patch_inline(manager, patches, facts, applied), _Manager)
    for patch in own:
        if patch.apply_to == "FILTER_CHAIN" and patch.operation == "ADD":
            message.filter_chains.append(value_of(patch))
            applied.add(patch)
    return True


def _default(message: Any) -> list[Any]:
    return [message.default_filter_chain] if message.HasField("default_filter_chain") else []


def _holds_one(facts: Facts, patch: Patch, message: Any) -> bool:
    """A LISTENER patch that says something of chains is about listeners that have such a chain."""
    if not patch.listener.asks_for_chain:
        return True
    chains = (*message.filter_chains, *_default(message))
    return any(facts.holds_chain(patch.listener, chain) for chain in chains)


def _patch_chains(message: Any, patches: list[Patch], facts: Facts, applied: Applied) -> None:
    for patch in patches:
        for index in reversed(range(len(message.filter_chains))):
            chain = message.filter_chains[index]
            if not facts.holds_chain(patch.listener, chain):
                continue
            if patch.operation == "REMOVE":
                del message.filter_chains[index]
                applied.add(patch)
            elif patch.operation in MERGING:
                merge_patch(chain, patch)
                applied.add(patch)
        if not message.HasField("default_filter_chain"):
            continue
        if not facts.holds_chain(patch.listener, message.default_filter_chain):
            continue
        if patch.operation == "REMOVE":
            message.ClearField("default_filter_chain")
            applied.add(patch)
        elif patch.operation in MERGING:
            merge_patch(message.default_filter_chain, patch)
            applied.add(patch)


def _patch_chain(chain: Any, own: list[Patch], extensions: list[Patch], facts: Facts, applied: Applied) -> None:
    fitting = [patch for patch in own if facts.holds_chain(patch.listener, chain)]
    network = [patch for patch in fitting if patch.apply_to == "NETWORK_FILTER"]
    patch_filters(chain.filters, network, lambda patch: patch.listener.network_filter, extensions, applied)
    http = [patch for patch in fitting if patch.apply_to == "HTTP_FILTER" and _in_manager(patch)]
    if http:
        patch_manager(
            chain.filters,
            lambda manager: patch_filters(
                manager.http_filters, http, lambda patch: patch.listener.http_filter, extensions, applied
            ),
            _Manager,
        )


def _in_manager(patch: Patch) -> bool:
    """An HTTP filter stands in a connection manager; a patch that names another network filter finds none."""
    wanted = patch.listener.network_filter
    return not wanted or NEW_NAMES.get(wanted, wanted) == HTTP_MANAGER


def _patch_inline(manager: Any, patches: tuple[Patch, ...], facts: Facts, applied: Applied) -> None:
    """Route tables that are written into the listener."""
    if manager.HasField("route_config"):
        patch_routes(manager.route_config, patches, facts.is_gateway, applied)
