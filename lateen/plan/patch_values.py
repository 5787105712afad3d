"""One patch of an EnvoyFilter as plain values: what it changes, where that is found, and how.

Comes in: what ``patches`` read from resources. Goes out: frozen values that are keys of memoised translations.
"""

from __future__ import annotations

import msgspec

from lateen.values.names import Origin

ANY_CONTEXT = "ANY"
INBOUND = "SIDECAR_INBOUND"
OUTBOUND = "SIDECAR_OUTBOUND"
GATEWAY = "GATEWAY"


class ListenerPlace(msgspec.Struct, frozen=True):
    """Which listeners, chains and filters; empty fields and 0 match all. ``alpn`` must all be offered."""

    name: str = ""
    port: int = 0
    listener_filter: str = ""
    chain: str = ""
    sni: str = ""
    transport_protocol: str = ""
    alpn: tuple[str, ...] = ()
    destination_port: int = 0
    network_filter: str = ""
    http_filter: str = ""

    @property
    def asks_for_chain(self) -> bool:
        return bool(self.chain or self.sni or self.transport_protocol or self.alpn or self.destination_port)


class RoutePlace(msgspec.Struct, frozen=True):
    """Which route tables, virtual hosts and routes. ``tables``: the names of a Gateway's tables, None for any."""

    name: str = ""
    port: int = 0
    tables: tuple[str, ...] | None = None
    virtual_host: str = ""
    domain: str = ""
    route: str = ""
    action: str = ""


class ClusterPlace(msgspec.Struct, frozen=True):
    """Which clusters, by what their names say."""

    name: str = ""
    port: int = 0
    service: str = ""
    subset: str = ""


class Patch(msgspec.Struct, frozen=True, cache_hash=True):
    """One patch. ``value`` is JSON of the Envoy message that ``apply_to`` names, empty for none."""

    apply_to: str
    operation: str
    value: str
    origin: Origin
    context: str = ANY_CONTEXT
    filter_class: str = ""
    listener: ListenerPlace = ListenerPlace()
    routes: RoutePlace = RoutePlace()
    cluster: ClusterPlace = ClusterPlace()
