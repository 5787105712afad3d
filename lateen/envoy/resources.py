"""What one proxy gets: serialised Envoy resources with their versions, by type and name.

Comes in: messages that this room built. Goes out: frozen values that the xDS server sends as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lateen.values.names import Origin

_PREFIX = "type.googleapis.com/"
CLUSTER = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
ENDPOINT = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = f"{_PREFIX}envoy.config.listener.v3.Listener"
ROUTE = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"
SECRET = f"{_PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret"


class EnvoyResource(msgspec.Struct, frozen=True, cache_hash=True):
    """One resource: ``body`` is the serialised message, ``version`` the hex BLAKE2b-128 of it.

    ``references`` are the (type URL, name) pairs that a proxy needs before this one, a route's clusters for instance.
    """

    name: str
    version: str
    body: bytes
    origin: Origin | None = None
    references: tuple[tuple[str, str], ...] = ()


class EnvoyResources(msgspec.Struct, frozen=True):
    """All resources of one proxy: type URL -> name -> resource. Not to be changed.

    ``applied``: where the patches stand that changed something in them.
    """

    by_type: Mapping[str, Mapping[str, EnvoyResource]]
    applied: frozenset[Origin] = frozenset()
