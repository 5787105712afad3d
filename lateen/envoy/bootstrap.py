"""The bootstrap: all that an Envoy knows before it has spoken to anyone.

Comes in: names, socket paths, a token. Goes out: one JSON file. Everything else comes over the ADS stream.

Without the control plane nothing is lost: the stream is tried again for ever, what was last accepted goes on serving,
and secrets keep coming from the agent. Nothing waits with a limit for its first
answer, because a listener without its routes would be worse than one that is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2, extension_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.metrics.v3 import stats_pb2
from envoy.config.overload.v3 import overload_pb2
from envoy.extensions.filters.http.credential_injector.v3 import credential_injector_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import json_format

from lateen.envoy import wire
from lateen.envoy.tls import SDS_CLUSTER
from lateen.envoy.upstream_protocol import HTTP_OPTIONS
from lateen.plan.proxy import Bind
from lateen.values.patterns import MAX_PROGRAM

XDS_CLUSTER = "xds-grpc"
XDS_BEARER = "xds-bearer"
ADMIN_MODE = 0o600
MAX_DOWNSTREAM_CONNECTIONS = 50_000
OWN_FILES = 128
FILES_FOR_A_CONNECTION = 2
"""A connection has another one to the server; ``OWN_FILES`` is what Envoy has open beside them."""
STATS_FLUSH = 1.0
STATS_EVICTION = 1800.0
"""A series for which nothing is counted for so long is dropped, at the latest after twice that time."""
KEEPALIVE_INTERVAL = 30.0
KEEPALIVE_TIMEOUT = 10.0
DNS_QUERY_SECONDS = 2
DNS_TRIES = 2
DURATION_BUCKETS = (
    0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
)  # fmt: skip
"""Istio's buckets in milliseconds, and 2.5: most of a mesh's answers take between 1 and 5."""


def bootstrap(
    proxy_id: str,
    *,
    node_cluster: str,
    xds_socket: str,
    sds_socket: str | None,
    admin_socket: str,
    token: str,
    node_metadata: Mapping[str, str] | None = None,
    upstream_source: Bind | None = None,
    open_files: int = 0,
) -> bytes:
    """The JSON bootstrap of one proxy.

    The sockets are paths (under 100 bytes). ``open_files`` is how many the process may have, 0: as many as it likes.
    ``upstream_source`` is where connections leave from unless their cluster
    says otherwise: it keeps the clusters of all proxies alike.
    """
    message = bootstrap_pb2.Bootstrap(
        node=base_pb2.Node(id=proxy_id, cluster=node_cluster, metadata=wire.text_struct((node_metadata or {}).items())),
        dynamic_resources=_dynamic(),
    )
    message.static_resources.secrets.append(_token_secret(token))
    clusters = [_grpc_cluster(XDS_CLUSTER, xds_socket, [_token_bearer(), _codec()])]
    if sds_socket is not None:
        clusters.append(_grpc_cluster(SDS_CLUSTER, sds_socket))
    message.static_resources.clusters.extend(clusters)
    if upstream_source is not None:
        message.cluster_manager.upstream_bind_config.CopyFrom(wire.source_binding(upstream_source))
    add_process_settings(message, admin_socket, connection_limit(open_files))
    return to_json_bytes(message)


def connection_limit(open_files: int) -> int:
    """How many clients may be connected: a process that is out of files could not answer its administrator either."""
    if not open_files:
        return MAX_DOWNSTREAM_CONNECTIONS
    return max(1, min(MAX_DOWNSTREAM_CONNECTIONS, (open_files - OWN_FILES) // FILES_FOR_A_CONNECTION))


def add_process_settings(message: Any, admin_socket: str, connections: int = MAX_DOWNSTREAM_CONNECTIONS) -> None:
    """What holds for the process whatever it serves: admin, limits, statistics, name resolution."""
    if admin_socket:
        message.admin.address.pipe.path = admin_socket
        message.admin.address.pipe.mode = ADMIN_MODE
        message.admin.ignore_global_conn_limit = True
    message.stats_flush_interval.CopyFrom(wire.duration(STATS_FLUSH))
    message.stats_eviction_interval.CopyFrom(wire.duration(STATS_EVICTION))
    message.stats_config.CopyFrom(_stats_config())
    message.overload_manager.CopyFrom(_overload_manager(connections))
    message.typed_dns_resolver_config.CopyFrom(_dns_resolver())
    message.layered_runtime.CopyFrom(_runtime())


def _runtime() -> Any:
    """Patterns may be as large as Istio lets them be; what the administrator changes comes above."""
    fixed = bootstrap_pb2.RuntimeLayer(name="fixed")
    fixed.static_layer.update({"re2.max_program_size.error_level": MAX_PROGRAM})
    changed = bootstrap_pb2.RuntimeLayer(name="admin", admin_layer=bootstrap_pb2.RuntimeLayer.AdminLayer())
    return bootstrap_pb2.LayeredRuntime(layers=[fixed, changed])


def to_json_bytes(message: Any) -> bytes:
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=1, sort_keys=True).encode()


def _dynamic() -> Any:
    service = wire.local_grpc(XDS_CLUSTER)
    return bootstrap_pb2.Bootstrap.DynamicResources(
        ads_config=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.DELTA_GRPC,
            transport_api_version=config_source_pb2.V3,
            grpc_services=[service],
            set_node_on_first_message_only=True,
        ),
        cds_config=wire.over_ads(),
        lds_config=wire.over_ads(),
    )


def _token_secret(token: str) -> Any:
    """The token as a secret, which Envoy's dumps leave out; metadata of the stream would stand in them."""
    secret = base_pb2.DataSource(inline_string=f"Bearer {token}")
    return secret_pb2.Secret(name=XDS_BEARER, generic_secret=secret_pb2.GenericSecret(secret=secret))


def _token_bearer() -> Any:
    """Puts the token into the calls of its cluster."""
    source = generic_pb2.Generic(credential=secret_pb2.SdsSecretConfig(name=XDS_BEARER))
    credential = extension_pb2.TypedExtensionConfig(
        name="envoy.http.injected_credentials.generic", typed_config=wire.pack(source)
    )
    injector = credential_injector_pb2.CredentialInjector(credential=credential, overwrite=True)
    return hcm_pb2.HttpFilter(name="envoy.filters.http.credential_injector", typed_config=wire.pack(injector))


def _codec() -> Any:
    """What ends the filters of a cluster."""
    return hcm_pb2.HttpFilter(
        name="envoy.filters.http.upstream_codec", typed_config=wire.pack(upstream_codec_pb2.UpstreamCodec())
    )


def _grpc_cluster(name: str, socket: str, filters: Sequence[Any] = ()) -> Any:
    """A gRPC server behind a Unix socket; pings tell a dead one from a silent one."""
    options = http_protocol_options_pb2.HttpProtocolOptions()
    http2 = protocol_pb2.Http2ProtocolOptions(
        connection_keepalive=protocol_pb2.KeepaliveSettings(
            interval=wire.duration(KEEPALIVE_INTERVAL), timeout=wire.duration(KEEPALIVE_TIMEOUT)
        )
    )
    options.explicit_http_config.http2_protocol_options.CopyFrom(http2)
    options.http_filters.extend(filters)
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(wire.socket_address(f"unix://{socket}", 0))
    cluster = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=wire.duration(1),
        load_assignment=assignment,
    )
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(wire.pack(options))
    return cluster


def _stats_config() -> Any:
    return stats_pb2.StatsConfig(
        histogram_bucket_settings=[
            stats_pb2.HistogramBucketSettings(
                match=string_pb2.StringMatcher(prefix="istio.request_duration_milliseconds"),
                buckets=DURATION_BUCKETS,
            )
        ]
    )


def _overload_manager(connections: int) -> Any:
    limit = downstream_connections_pb2.DownstreamConnectionsConfig(max_active_downstream_connections=connections)
    return overload_pb2.OverloadManager(
        resource_monitors=[
            overload_pb2.ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections", typed_config=wire.pack(limit)
            )
        ]
    )


def _dns_resolver() -> Any:
    """Clusters wait for their first lookup: a server that does not answer holds a start up for 9 s, not for ever."""
    config = cares_dns_resolver_pb2.CaresDnsResolverConfig(
        query_timeout_seconds=wire.uint64(DNS_QUERY_SECONDS), query_tries=wire.uint32(DNS_TRIES)
    )
    return extension_pb2.TypedExtensionConfig(name="envoy.network.dns_resolver.cares", typed_config=wire.pack(config))
