"""Where a proxy's metrics leave for collectors of OTLP: a socket of the proxy's own for each, which leads to it.

Comes in: the snapshot, the proxy and its folder. Goes out: listeners, and the clusters that they lead to. The
supervisor reads each proxy's metrics and hands them to that socket, so that they reach the collector as all that the
proxy sends: found by the registry, over the mesh's own TLS, under the workload's identity.
"""

from __future__ import annotations

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.providers import content_of, provider_named, service_behind
from lateen.mesh.telemetry_policy import metric_providers, reporting_interval
from lateen.plan.clusters import Cluster, Discovery, Endpoint, EndpointSet, LocalityEndpoints
from lateen.plan.matching import MatchKind, RouteMatch, StringMatcher
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener
from lateen.plan.names import AGENT_CLUSTER, outbound_cluster
from lateen.plan.proxy import Bind, Proxy
from lateen.plan.routes import Forward, HeaderOps, PrefixRewrite, Route, RouteTable, VirtualHost, WeightedCluster
from lateen.plan.trace_rules import OTLP_TIMEOUT_S, otlp_headers, otlp_timeout
from lateen.resources.mesh_config import OpentelemetryProvider
from lateen.values.names import BUILT_IN

PREFIX = "metrics-otlp-"
AGENT_SOCKET = "sds.sock"
METRICS_PATH = "/v1/metrics"
EXPORT_PATH = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_TRACES, _METRICS = "/traces", "/metrics"


def export_listeners(snapshot: MeshSnapshot, proxy: Proxy, folder: str) -> tuple[tuple[Listener, ...], frozenset[str]]:
    """One for each collector that the proxy's metrics go to, and the clusters of these."""
    listeners: list[Listener] = []
    clusters: set[str] = set()
    for name in metric_providers(snapshot, proxy.namespace, proxy.labels) if folder else ():
        provider = provider_named(snapshot.mesh_config, name)
        said = None if provider is None else content_of(provider)
        if not isinstance(said, OpentelemetryProvider):
            continue
        service = service_behind(snapshot.services, said)
        if service is not None:
            cluster = outbound_cluster(said.port, "", service.hostname)
            clusters.add(cluster)
            host = f"{service.hostname}:{said.port}"
            listeners.append(_listener(len(listeners), said, cluster, host, folder))
    return tuple(listeners), frozenset(clusters)


def agent_destination(
    snapshot: MeshSnapshot, proxy: Proxy, folder: str
) -> tuple[tuple[Cluster, ...], tuple[EndpointSet, ...]]:
    """The agent of the proxy, where it is to be told of connections while they go on."""
    if not folder or reporting_interval(snapshot, proxy.namespace, proxy.labels) is None:
        return (), ()
    cluster = Cluster(AGENT_CLUSTER, Discovery.STATIC, BUILT_IN, protocol="http2")
    members = (Endpoint(f"unix://{folder}/{AGENT_SOCKET}", 0),)
    return (cluster,), (EndpointSet(AGENT_CLUSTER, (LocalityEndpoints("", members),)),)


def socket_name(index: int, *, over_http: bool) -> str:
    """The file of a socket: what it says is all that the supervisor needs to know."""
    return f"{PREFIX}{'http' if over_http else 'grpc'}-{index}.sock"


def _listener(index: int, said: OpentelemetryProvider, cluster: str, host: str, folder: str) -> Listener:
    socket = socket_name(index, over_http=said.http is not None)
    timeout = otlp_timeout(said)
    name = socket.removesuffix(".sock")
    route = Route(
        "metrics",
        RouteMatch(path=StringMatcher(MatchKind.EXACT, METRICS_PATH if said.http is not None else EXPORT_PATH)),
        Forward(
            (WeightedCluster(cluster, 1),),
            timeout=OTLP_TIMEOUT_S if timeout is None else timeout,
            path_rewrite=PrefixRewrite(_path(said.http.path)) if said.http is not None and said.http.path else None,
            host_rewrite=host,
        ),
        BUILT_IN,
        request_headers=HeaderOps(set=otlp_headers(said)),
    )
    table = RouteTable(name, (VirtualHost(name, ("*",), (route,), BUILT_IN),))
    action = HttpChain(stat_prefix=name, inline=table, websocket=False, grpc=False)
    return Listener(
        name, Bind(f"unix://{folder}/{socket}"), "outbound", (Chain(name, ChainMatch(), action, BUILT_IN),), BUILT_IN
    )


def _path(said: str) -> str:
    """A provider's path is that of traces; the other signal stands beside it."""
    return said.removesuffix(_TRACES) + _METRICS if said.endswith(_TRACES) else said
