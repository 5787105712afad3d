"""Clusters and their endpoints: what a client does towards each service, port and subset.

Comes in: the snapshot and the client's view of it. Goes out: ``Cluster`` and ``EndpointSet`` values, equal for all
clients with the same view, so that their bytes are made and held once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from lateen.mesh.members import member_port
from lateen.mesh.model import Labels, Member, MeshSnapshot, Resolution, Service, ServicePort
from lateen.mesh.security_policy import MtlsMode, peer_policy
from lateen.mesh.traffic_policy import DestinationPolicy, PolicyBlocks, Subset, blocks_for
from lateen.mesh.visibility import selects
from lateen.plan.balancing import balancing, hash_policy, health_check, retry_budget, ring_size, table_size, warmup
from lateen.plan.client_tls import client_tls
from lateen.plan.clusters import (
    SERVICE_TAGS,
    Cluster,
    ConnectionPool,
    Discovery,
    Endpoint,
    EndpointSet,
    LoadBalancing,
    OutlierDetection,
    TcpKeepalive,
)
from lateen.plan.localities import NEAREST, Located, Place, grouped, setting_in_force, weighs
from lateen.plan.names import member_cluster, outbound_cluster
from lateen.plan.proxy import Bind
from lateen.resources.destination_rule import (
    ConnectionPoolSettings,
    OutlierDetection as OutlierSettings,
)
from lateen.values.canonical import special_names
from lateen.values.protocol import Protocol

OUTSIDE = Bind("")
"""Leave from wherever the machine would: what does not stay within the mesh, by IPv4 or IPv6."""
_DISCOVERY = {
    Resolution.NONE: Discovery.EDS,
    Resolution.STATIC: Discovery.EDS,
    Resolution.DNS: Discovery.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: Discovery.LOGICAL_DNS,
    Resolution.DYNAMIC_DNS: Discovery.DYNAMIC_DNS,
}
_ANYWHERE = (Resolution.NONE, Resolution.DYNAMIC_DNS)


def plan_destinations(
    snapshot: MeshSnapshot,
    service: Service,
    policy: DestinationPolicy | None,
    client_namespace: str,
    *,
    sniffs: bool = True,
    place: Place = Place(),  # noqa: B008 - a frozen value
) -> tuple[list[Cluster], list[EndpointSet]]:
    """The clusters of one service: one for each port, and one more for each subset of it.

    ``sniffs``: the client tells HTTP from other bytes where a port's protocol is not declared, as sidecars do.
    ``place`` is where the client stands.
    """
    clusters: list[Cluster] = []
    endpoints: list[EndpointSet] = []
    members = snapshot.members.get(service.hostname, ())
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        for subset in (None, *(policy.subsets if policy else ())):
            blocks = with_mesh_policy(blocks_for(policy, port.number, subset.name if subset else ""), snapshot)
            cluster = _cluster(snapshot, service, port, subset, policy, blocks, client_namespace, sniffs)
            setting = setting_in_force(
                blocks.load_balancer, snapshot.mesh_config.locality_lb_setting, prefers_close=service.prefers_close
            )
            fails_over = cluster.outlier is not None or cluster.health_check is not None or setting is NEAREST
            is_weighed = weighs(setting, place, fails_over=fails_over)
            clusters.append(msgspec.structs.replace(cluster, weighs_localities=True) if is_weighed else cluster)
            if cluster.discovery not in (Discovery.ORIGINAL_DST, Discovery.DYNAMIC_DNS):
                located = _located(snapshot, service, port, subset, members)
                groups = grouped(located, place, setting, fails_over=fails_over)
                endpoints.append(EndpointSet(cluster.name, groups, cluster.told_service))
            if service.headless and subset is None and sniffs:
                clusters.append(_member_cluster(snapshot, cluster, port, members, service.hostname))
    return clusters, endpoints


def _member_cluster(
    snapshot: MeshSnapshot, cluster: Cluster, port: ServicePort, members: tuple[Member, ...], hostname: str
) -> Cluster:
    """The member whose address was called. Nothing tells members apart here, so mesh TLS is for all or none."""
    numbered = [(member, member_port(port, member)) for member in members]
    speak = bool(numbered) and all(
        number is not None and _endpoint(snapshot, member, number).mesh_tls for member, number in numbered
    )
    tls = cluster.tls
    if tls is not None and tls.automatic:
        tls = replace(tls, automatic=False) if speak else None
    name = member_cluster(port.number, hostname)
    return replace(cluster, name=name, discovery=Discovery.ORIGINAL_DST, load_balancing=LoadBalancing.PROVIDED, tls=tls)


def _cluster(
    snapshot: MeshSnapshot,
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    policy: DestinationPolicy | None,
    blocks: PolicyBlocks,
    client_namespace: str,
    sniffs: bool,
) -> Cluster:
    subset_name = subset.name if subset else ""
    protocol = _upstream_protocol(port, blocks.connection_pool, sniffs, upgrades=snapshot.settings.h2_upgrade)
    algorithm = balancing(blocks.load_balancer)
    discovery = Discovery.ORIGINAL_DST if algorithm is LoadBalancing.PROVIDED else _DISCOVERY[service.resolution]
    if service.resolution is Resolution.NONE and sniffs:
        discovery = Discovery.ORIGINAL_DST  # what calls a gateway means the gateway
    origin = subset.origin if subset else (policy.origin if policy else service.origin)
    pool = blocks.connection_pool
    timeout = pool.tcp.connect_timeout if pool and pool.tcp and pool.tcp.connect_timeout else None
    hostname = service.hostname
    holds_credentials = not sniffs or (policy is not None and policy.for_workloads)
    tls = client_tls(
        snapshot,
        service,
        port,
        subset_name,
        blocks.tls,
        origin,
        protocol,
        client_namespace,
        holds_credentials=holds_credentials,
    )
    return Cluster(
        name=outbound_cluster(port.number, subset_name, hostname),
        discovery=discovery,
        origin=origin,
        protocol=protocol,
        connect_timeout=timeout or snapshot.settings.connect_timeout,
        load_balancing=algorithm,
        minimum_ring_size=ring_size(blocks.load_balancer),
        maglev_table_size=table_size(blocks.load_balancer),
        hash_policy=hash_policy(blocks.load_balancer),
        warmup=warmup(blocks.load_balancer),
        retry_budget=retry_budget(blocks.retry_budget),
        health_check=health_check(policy.health_check) if policy is not None else None,
        proxy_protocol=(blocks.proxy_protocol.version or "V1") if blocks.proxy_protocol is not None else "",
        pool=with_mesh_keepalive(connection_pool(pool), snapshot),
        dns_refresh=snapshot.settings.dns_refresh,
        outlier=outlier_detection(blocks.outlier_detection),
        tls=tls,
        source=OUTSIDE if service.external or service.resolution in _ANYWHERE else None,
        tags=service_tags(service),
    )


def _upstream_protocol(port: ServicePort, pool: ConnectionPoolSettings | None, sniffs: bool, *, upgrades: bool) -> str:
    """The pool says whether HTTP/1.1 is upgraded, else the mesh does (``upgrades``).

    Where the protocol is not declared, as the client spoke; gateways, which cannot know, speak HTTP/1.1 there.
    """
    http = pool.http if pool else None
    undeclared = port.protocol is Protocol.UNSPECIFIED
    if not port.protocol.is_http and not undeclared:
        return "tcp"
    if http is not None and http.use_client_protocol:
        return "client"
    said = http.h2_upgrade_policy if http is not None else None
    upgraded = upgrades if said in (None, "DEFAULT") else said == "UPGRADE"
    if port.protocol.is_http2 or (upgraded and not undeclared):
        return "http2"
    return "client" if undeclared and sniffs else "http1"


def connection_pool(settings: ConnectionPoolSettings | None) -> ConnectionPool:
    """The limits of a pool; 0 means what it means to Istio: not set."""
    if settings is None:
        return ConnectionPool()
    tcp, http = settings.tcp, settings.http
    alive = tcp.tcp_keepalive if tcp else None
    ping = http.http2_keep_alive if http else None
    return ConnectionPool(
        max_connections=(tcp.max_connections or None) if tcp else None,
        max_connection_duration=tcp.max_connection_duration if tcp else None,
        tcp_idle_timeout=tcp.idle_timeout if tcp else None,
        keepalive=TcpKeepalive(alive.probes, alive.time, alive.interval) if alive else None,
        max_pending_requests=(http.http1_max_pending_requests or None) if http else None,
        max_requests=(http.http2_max_requests or None) if http else None,
        max_retries=(http.max_retries or None) if http else None,
        max_requests_per_connection=(http.max_requests_per_connection or None) if http else None,
        http_idle_timeout=(http.idle_timeout if http and http.idle_timeout is not None else None)
        if http
        else (tcp.idle_timeout if tcp else None),
        max_concurrent_streams=(http.max_concurrent_streams or None) if http else None,
        http2_keepalive=(ping.interval, ping.timeout) if ping and ping.interval and ping.timeout else None,
    )


def with_mesh_policy(blocks: PolicyBlocks, snapshot: MeshSnapshot) -> PolicyBlocks:
    """The mesh's baseline in place of each block that no DestinationRule has."""
    mesh = snapshot.mesh_config.default_traffic_policy
    if mesh is None:
        return blocks
    return replace(
        blocks,
        connection_pool=blocks.connection_pool or mesh.connection_pool,
        outlier_detection=blocks.outlier_detection or mesh.outlier_detection,
    )


def with_mesh_keepalive(pool: ConnectionPool, snapshot: MeshSnapshot) -> ConnectionPool:
    """The mesh's TCP keepalive where no DestinationRule has one."""
    alive = snapshot.mesh_config.tcp_keepalive
    if pool.keepalive is not None or alive is None:
        return pool
    return replace(pool, keepalive=TcpKeepalive(alive.probes, alive.time, alive.interval))


def outlier_detection(settings: OutlierSettings | None) -> OutlierDetection | None:
    if settings is None:
        return None
    gateway_errors = settings.consecutive_gateway_errors
    return OutlierDetection(
        consecutive_5xx=settings.consecutive_5xx_errors,
        consecutive_gateway_errors=gateway_errors if gateway_errors is not None else settings.consecutive_errors,
        split_local_origin=bool(settings.split_external_local_origin_errors),
        consecutive_local_origin_failures=settings.consecutive_local_origin_failures,
        interval=settings.interval,
        base_ejection_time=settings.base_ejection_time,
        max_ejection_percent=settings.max_ejection_percent,
        min_health_percent=settings.min_health_percent,
        http_error_codes=tuple(settings.outlier_detection_http_error_codes),
    )


# --- endpoints -----------------------------------------------------------------------------------------------------


def _located(
    snapshot: MeshSnapshot, service: Service, port: ServicePort, subset: Subset | None, members: Iterable[Member]
) -> Iterator[Located]:
    for member in members:
        number = member_port(port, member)
        chosen = subset is None or selects(subset.labels, member.labels)
        if number is None or not chosen or not (member.healthy or service.publishes_all):
            continue
        yield Located(_endpoint(snapshot, member, number), member.locality, member.labels)


def _endpoint(snapshot: MeshSnapshot, member: Member, number: int) -> Endpoint:
    mode = peer_policy(snapshot, member.namespace, member.labels).on(number)
    return Endpoint(
        address=member.address,
        port=0 if member.address.startswith("unix://") else number,
        weight=member.weight,
        mesh_tls=member.mesh_tls and mode is not MtlsMode.DISABLE,
        workload=member.workload,
        tags=workload_tags(member.namespace, member.workload, member.labels, member.service_account),
    )


def service_tags(service: Service) -> tuple[tuple[str, str], ...]:
    """What telemetry calls a service."""
    name = service.hostname if service.external else service.name
    return tuple(zip(SERVICE_TAGS, (service.hostname, name, service.namespace), strict=True))


def workload_tags(namespace: str, workload: str, labels: Labels, service_account: str) -> tuple[tuple[str, str], ...]:
    """What telemetry calls one workload: workload, namespace, app, version, service_account.

    Its canonical service and revision are there where they are not its app and its version.
    """
    named = dict(labels)
    return (
        ("workload", workload),
        ("namespace", namespace),
        ("app", named.get("app", "")),
        ("version", named.get("version", "")),
        ("service_account", service_account),
        *special_names(workload, named),
    )
