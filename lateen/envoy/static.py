"""Everything of one proxy in a single file, and its resources as readable JSON.

Comes in: a plan and its ``EnvoyResources``. Goes out: a bootstrap that needs no control plane and no agent (for
``envoy --mode validate``, offline inspection and tests), or the protobuf JSON of each resource.

It takes the very bytes that a proxy would get and moves into them what they would have fetched: endpoints into
clusters, route tables into connection managers, secrets beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from google.protobuf import json_format

from lateen.envoy import wire
from lateen.envoy.bootstrap import add_process_settings, to_json_bytes
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResources
from lateen.envoy.secrets import translate_secret
from lateen.envoy.tls import PROXY_SOCKET, TLS_SOCKET
from lateen.plan.model import ProxyPlan
from lateen.plan.proxy import Bind
from lateen.plan.tls import SecretRef

_MESSAGES: dict[str, tuple[str, Any]] = {
    LISTENER: ("listeners", listener_pb2.Listener),
    ROUTE: ("routes", route_pb2.RouteConfiguration),
    CLUSTER: ("clusters", cluster_pb2.Cluster),
    ENDPOINT: ("endpoints", endpoint_pb2.ClusterLoadAssignment),
    SECRET: ("secrets", secret_pb2.Secret),
}


def to_json(resources: EnvoyResources) -> dict[str, list[dict[str, Any]]]:
    """``{"listeners", "routes", "clusters", "endpoints", "secrets"}``, each a list of protobuf JSON, by name.

    Private keys are left out.
    """
    readable: dict[str, list[dict[str, Any]]] = {key: [] for key, _ in _MESSAGES.values()}
    for type_url, (key, message) in _MESSAGES.items():
        for _, resource in sorted(resources.by_type.get(type_url, {}).items()):
            parsed = message.FromString(resource.body)
            if type_url == SECRET and parsed.HasField("tls_certificate"):
                parsed.tls_certificate.private_key.inline_string = "(redacted)"
            readable[key].append(json_format.MessageToDict(parsed))
    return readable


def static_bootstrap(
    plan: ProxyPlan,
    resources: EnvoyResources,
    *,
    certificate: bytes,
    key: bytes,
    roots: bytes,
    admin_socket: str = "",
    upstream_source: Bind | None = None,
) -> bytes:
    """One JSON file that Envoy runs or validates by itself.

    ``certificate``, ``key`` and ``roots`` (PEM) stand in for every secret that ``resources`` do not hold.
    """
    message = bootstrap_pb2.Bootstrap(node=base_pb2.Node(id=plan.proxy.id, cluster=plan.proxy.workload))
    embedding = Embedding(resources)
    static = message.static_resources
    for resource in resources.by_type.get(CLUSTER, {}).values():
        static.clusters.append(embedding.cluster(cluster_pb2.Cluster.FromString(resource.body)))
    for resource in resources.by_type.get(LISTENER, {}).values():
        static.listeners.append(embedding.listener(listener_pb2.Listener.FromString(resource.body)))
    held = resources.by_type.get(SECRET, {})
    for name in sorted(embedding.certificates | embedding.bundles):
        if name in held:
            static.secrets.append(secret_pb2.Secret.FromString(held[name].body))
        else:
            own = (certificate, key, b"") if name in embedding.certificates else (b"", b"", roots)
            static.secrets.append(secret_pb2.Secret.FromString(translate_secret(SecretRef(name), *own).body))
    if upstream_source is not None:
        message.cluster_manager.upstream_bind_config.CopyFrom(wire.source_binding(upstream_source))
    add_process_settings(message, admin_socket)
    return to_json_bytes(message)


class Embedding:
    """Rewrites messages in place, and collects the names of the secrets that they need."""

    def __init__(self, resources: EnvoyResources) -> None:
        self._resources = resources
        self.certificates: set[str] = set()
        self.bundles: set[str] = set()

    def cluster(self, message: Any) -> Any:
        if message.type == cluster_pb2.Cluster.EDS:
            message.type = cluster_pb2.Cluster.STATIC
            message.ClearField("eds_cluster_config")
            known = self._resources.by_type.get(ENDPOINT, {}).get(message.name)
            message.load_assignment.cluster_name = message.name
            if known is not None:
                message.load_assignment.MergeFromString(known.body)
        for match in message.transport_socket_matches:
            self._socket(match.transport_socket)
        if message.HasField("transport_socket"):
            self._socket(message.transport_socket)
        return message

    def listener(self, message: Any) -> Any:
        for chain in _filter_chains(message):
            if chain.HasField("transport_socket"):
                self._socket(chain.transport_socket)
            for network_filter in chain.filters:
                if network_filter.typed_config.Is(http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR):
                    self._routes(network_filter)
        return message

    def _routes(self, network_filter: Any) -> None:
        manager = _unpacked(network_filter.typed_config, http_connection_manager_pb2.HttpConnectionManager)
        if not manager.HasField("rds"):
            return
        table = self._resources.by_type.get(ROUTE, {}).get(manager.rds.route_config_name)
        name = manager.rds.route_config_name
        manager.route_config.CopyFrom(
            route_pb2.RouteConfiguration.FromString(table.body) if table else route_pb2.RouteConfiguration(name=name)
        )
        network_filter.typed_config.CopyFrom(wire.pack(manager))

    def _socket(self, socket: Any) -> None:
        if socket.name == PROXY_SOCKET:
            outer = _unpacked(socket.typed_config, upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport)
            self._socket(outer.transport_socket)
            socket.typed_config.CopyFrom(wire.pack(outer))
        if socket.name != TLS_SOCKET:
            return
        server = socket.typed_config.Is(tls_pb2.DownstreamTlsContext.DESCRIPTOR)
        kind = tls_pb2.DownstreamTlsContext if server else tls_pb2.UpstreamTlsContext
        context = _unpacked(socket.typed_config, kind)
        for secret in context.common_tls_context.tls_certificate_sds_secret_configs:
            self.certificates.add(secret.name)
            secret.ClearField("sds_config")
        if context.common_tls_context.HasField("combined_validation_context"):
            roots = context.common_tls_context.combined_validation_context.validation_context_sds_secret_config
            self.bundles.add(roots.name)
            roots.ClearField("sds_config")
        socket.typed_config.CopyFrom(wire.pack(context))


def _filter_chains(message: Any) -> Iterator[Any]:
    yield from message.filter_chains
    if message.HasField("default_filter_chain"):
        yield message.default_filter_chain


def _unpacked(packed: Any, kind: Any) -> Any:
    return kind.FromString(packed.value)
