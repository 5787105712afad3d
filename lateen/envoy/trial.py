"""A configuration that a spare Envoy is asked about before live ones get it.

Comes in: resources of any proxies, by type. Goes out: one static file for ``envoy --mode validate``, which holds each
of them under a name and a port of its own, so that resources of several proxies stand side by side. Secrets that are
not among them are stood in for by ``stand_in``, and clusters that listeners name by empty ones: tracers look for
theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from lateen.envoy import wire
from lateen.envoy.bootstrap import add_process_settings
from lateen.envoy.http_connection import HTTP_MANAGER
from lateen.envoy.resources import CLUSTER, LISTENER, ROUTE, SECRET, EnvoyResource, EnvoyResources
from lateen.envoy.secrets import translate_secret
from lateen.envoy.static import Embedding
from lateen.plan.tls import SecretRef

JUDGED = (CLUSTER, LISTENER, ROUTE, SECRET)
FIRST_PORT = 1024
ROUTER = "envoy.filters.http.router"
StandIn = tuple[bytes, bytes, bytes]
"""A certificate, its key and a root, as PEM."""


def trial_bootstrap(resources: Iterable[tuple[str, EnvoyResource]], stand_in: StandIn) -> bytes:
    """One file with all of these (type URL, resource) pairs, but for types that are not in ``JUDGED``.

    It is binary (``.pb``): of thousands of resources the text would be tens of megabytes, which take both sides long.
    """
    message = bootstrap_pb2.Bootstrap(node=base_pb2.Node(id="trial", cluster="trial"))
    static = message.static_resources
    embedding = Embedding(EnvoyResources({}))
    own: set[str] = set()
    named: set[str] = set()
    for number, (type_url, resource) in enumerate(resources):
        name = f"trial-{number}"
        if type_url == CLUSTER:
            cluster = embedding.cluster(cluster_pb2.Cluster.FromString(resource.body))
            cluster.name = name
            static.clusters.append(cluster)
        elif type_url == LISTENER:
            named.update(name for kind, name in resource.references if kind == CLUSTER)
            static.listeners.append(_listener(embedding, listener_pb2.Listener.FromString(resource.body), name, number))
        elif type_url == ROUTE:
            routes = route_pb2.RouteConfiguration.FromString(resource.body)
            static.listeners.append(_listener(embedding, _serving(routes), name, number))
        elif type_url == SECRET and resource.name not in own:
            own.add(resource.name)
            static.secrets.append(secret_pb2.Secret.FromString(resource.body))
    static.clusters.extend(cluster_pb2.Cluster(name=name) for name in sorted(named))
    _stand_in(static, embedding, own, stand_in)
    add_process_settings(message, "")
    return bytes(message.SerializeToString(deterministic=True))


def _listener(embedding: Embedding, listener: Any, name: str, number: int) -> Any:
    """The listener by another name; where two stand at one address, Envoy takes the second for a mistake."""
    made = embedding.listener(listener)
    made.name = name
    if made.address.HasField("socket_address"):
        made.address.socket_address.port_value = FIRST_PORT + number % 60000
        made.address.socket_address.ClearField("network_namespace_filepath")
    elif made.address.HasField("pipe"):
        made.address.pipe.path = f"@{name}"
    return made


def _serving(routes: Any) -> Any:
    """A listener that does nothing but serve these routes."""
    routes.validate_clusters.value = False
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="trial", route_config=routes)
    manager.http_filters.add(name=ROUTER, typed_config=wire.pack(router_pb2.Router()))
    listener = listener_pb2.Listener(address=wire.socket_address("127.0.0.1", 1))
    listener.filter_chains.add().filters.add(name=HTTP_MANAGER, typed_config=wire.pack(manager))
    return listener


def _stand_in(static: Any, embedding: Embedding, own: set[str], stand_in: StandIn) -> None:
    certificate, key, roots = stand_in
    for name in sorted((embedding.certificates | embedding.bundles) - own):
        parts = (certificate, key, b"") if name in embedding.certificates else (b"", b"", roots)
        static.secrets.append(secret_pb2.Secret.FromString(translate_secret(SecretRef(name), *parts).body))
