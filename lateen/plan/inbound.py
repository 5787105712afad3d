"""The inbound side of a sidecar: what calls the application.

Comes in: the proxy, its network, the policies that select it. Goes out: listeners, and the clusters that lead to the
application. With redirected traffic one listener catches all; in the loopback network each port has one of its own.
"""

from __future__ import annotations

import msgspec

from lateen.findings import Finding, warning
from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.members import LOOPBACK_INBOUND
from lateen.mesh.model import MeshSnapshot, Service
from lateen.mesh.security_policy import MtlsMode, PeerPolicy, peer_policy
from lateen.mesh.sidecar_scope import SidecarScope
from lateen.plan import names
from lateen.plan.access.model import AccessPolicy
from lateen.plan.clusters import Cluster, Discovery, Endpoint, EndpointSet, LoadBalancing, LocalityEndpoints
from lateen.plan.destinations import connection_pool, service_tags
from lateen.plan.inbound_chains import ChainNames, ChainParts, foreign_chains, inbound_chains
from lateen.plan.inbound_ports import UNIX, InboundPort, inbound_ports
from lateen.plan.listener_draft import http_protocols
from lateen.plan.matching import RouteMatch
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import ANY, Bind, LoopbackNetwork, NamespacesNetwork, Proxy, mesh_netns, workload_netns
from lateen.plan.routes import Forward, RetryPolicy, Route, RouteTable, VirtualHost, WeightedCluster
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE, SecretRef, ServerTls
from lateen.resources.gateway import usable_ciphers
from lateen.values.names import BUILT_IN
from lateen.values.protocol import Protocol, speaks_first

SPOKEN_ALPN = ("h2", "http/1.1")  # chosen by the server: by any other name Envoy takes HTTP/2 for HTTP/1.1
LOOPBACK_APP = "255.1"
INBOUND_SOURCE = "127.0.0.6"
DEFAULT_RETRY = RetryPolicy(attempts=2, retry_on=("reset-before-request",), avoid_previous_hosts=False)


class InboundParts(msgspec.Struct, frozen=True):
    """What the inbound side adds to a plan."""

    listeners: tuple[Listener, ...]
    clusters: tuple[Cluster, ...]
    endpoints: tuple[EndpointSet, ...]
    findings: tuple[Finding, ...] = ()
    secrets: tuple[SecretRef, ...] = ()


def inbound(
    snapshot: MeshSnapshot,
    proxy: Proxy,
    scope: SidecarScope,
    services: tuple[Service, ...],
    access: AccessPolicy,
    telemetry: Telemetry,
) -> InboundParts:
    """What reaches the application. ``services`` are those that the workload is a member of, oldest first."""
    return _Inbound(snapshot, proxy, scope, access, telemetry).parts(services)


class _Inbound:
    def __init__(
        self, snapshot: MeshSnapshot, proxy: Proxy, scope: SidecarScope, access: AccessPolicy, telemetry: Telemetry
    ) -> None:
        self._snapshot, self._proxy, self._scope = snapshot, proxy, scope
        self._access, self._telemetry = access, telemetry
        self._policy: PeerPolicy = peer_policy(snapshot, proxy.namespace, proxy.labels)
        self._sniffed = http_protocols(snapshot.settings)

    def parts(self, services: tuple[Service, ...]) -> InboundParts:
        ports, findings = inbound_ports(self._snapshot, self._proxy, self._scope, self._policy, services)
        if not isinstance(self._proxy.network, LoopbackNetwork):
            findings += [_reserved(port, self._proxy) for port in ports if port.number == names.INBOUND_PORT]
            ports = [port for port in ports if port.number != names.INBOUND_PORT]
        secrets = tuple(ref for port in ports if port.tls is not None for ref in port.tls.secrets if not ref.local)
        clusters = [self._cluster(port) for port in ports]
        endpoints = [self._endpoints(port) for port in ports]
        if isinstance(self._proxy.network, LoopbackNetwork):
            listeners = [self._bound(port) for port in ports]
        else:
            source = Bind(INBOUND_SOURCE, 0, workload_netns(self._proxy))
            passing = Cluster(names.INBOUND_PASSTHROUGH, Discovery.ORIGINAL_DST, BUILT_IN, "client", source=source)
            clusters.append(passing)
            listeners = [self._catching(ports)]
        return InboundParts(tuple(listeners), tuple(clusters), tuple(endpoints), tuple(findings), secrets)

    # --- listeners ---------------------------------------------------------------------------------------------------

    def _bound(self, port: InboundPort) -> Listener:
        prefix = self._proxy.network.prefix if isinstance(self._proxy.network, LoopbackNetwork) else 0
        address = in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", prefix)
        chains = self._port_chains(port)
        return Listener(
            name=f"{address}_{port.number}",
            bind=Bind(address, port.number),
            direction="inbound",
            chains=chains,
            origin=chains[0].origin,
            inspect_tls=self._looks_for_tls(port),
            inspect_http=_sniffs(port),
            sniffing_limit=self._snapshot.settings.protocol_detection_timeout,
            access_log=self._telemetry.access_log,
        )

    def _looks_for_tls(self, port: InboundPort) -> bool:
        """Where nothing is told by TLS, a server that speaks first need not wait for the client's first bytes."""
        plain = self._policy.on(port.number) is MtlsMode.DISABLE and port.tls is None
        return not plain or _sniffs(port)

    def _catching(self, ports: list[InboundPort]) -> Listener:
        """One socket for all that arrives; ports that nothing names pass through under the same policy."""
        address = self._proxy.address if mesh_netns(self._proxy) else ANY
        loop = Chain(
            "virtualInbound-blackhole",
            ChainMatch(destination_port=names.INBOUND_PORT),
            TcpChain(names.BLACK_HOLE, (TcpTarget(names.BLACK_HOLE),)),
            BUILT_IN,
        )
        known = {names.INBOUND_PORT, *(port.number for port in ports)}
        chains = [chain for port in ports for chain in self._port_chains(port)]
        others = [(number, mode) for number, mode in self._policy.ports if number not in known]
        for number, mode in [*others, (None, self._policy.mode)]:
            chains.extend(inbound_chains(self._passing(number), mode))
        return Listener(
            name=names.VIRTUAL_INBOUND,
            bind=Bind(address, names.INBOUND_PORT, mesh_netns(self._proxy)),
            direction="inbound",
            chains=(loop, *chains),
            origin=BUILT_IN,
            original_dst=True,
            inspect_tls=True,
            inspect_http=True,
            tls_uninspected=tuple(sorted(port.number for port in ports if not self._looks_for_tls(port))),
            http_uninspected=tuple(sorted(port.number for port in ports if not _sniffs(port))),
            sniffing_limit=self._snapshot.settings.protocol_detection_timeout,
            access_log=self._telemetry.access_log,
        )

    # --- chains ------------------------------------------------------------------------------------------------------

    def _port_chains(self, port: InboundPort) -> tuple[Chain, ...]:
        cluster = names.inbound_cluster(port.number)
        ends_https = port.tls is not None and port.protocol is Protocol.HTTPS
        speaks_http = port.protocol.is_http or ends_https
        name = f"{port.address}_{port.number}"
        parts = ChainParts(
            ChainNames(name, name),
            port.number,
            port.origin if port.origin != BUILT_IN else self._policy.origin,
            self._mesh_tls(),
            self._sniffed,
            http=self._http(port.service_port, cluster, self._reporting(port), grpc=_upstream_protocol(port) != "http1")
            if speaks_http or _sniffs(port)
            else None,
            tcp=None if speaks_http else self._tcp(port, cluster),
        )
        if port.tls is not None:
            return foreign_chains(parts, port.tls)
        return inbound_chains(parts, self._policy.on(port.number))

    def _passing(self, number: int | None) -> ChainParts:
        passing = names.INBOUND_PASSTHROUGH
        telemetry = self._for_service((("service_name", passing),))
        return ChainParts(
            ChainNames(f"{names.VIRTUAL_INBOUND}-catchall-http", names.VIRTUAL_INBOUND),
            number,
            self._policy.origin,
            self._mesh_tls(),
            self._sniffed,
            http=self._http(0, passing, telemetry),
            tcp=TcpChain(passing, (TcpTarget(passing),), self._access, telemetry),
        )

    def _reporting(self, port: InboundPort) -> Telemetry:
        return self._for_service(service_tags(port.service) if port.service is not None else ())

    def _for_service(self, tags: tuple[tuple[str, str], ...]) -> Telemetry:
        return msgspec.structs.replace(self._telemetry, tags=(*self._telemetry.tags, *tags))

    def _http(self, service_port: int, cluster: str, telemetry: Telemetry, *, grpc: bool = True) -> HttpChain:
        action = Forward((WeightedCluster(cluster, 1),), retry=self._retry())
        host = VirtualHost(
            f"inbound|http|{service_port}",
            ("*",),
            (Route("default", RouteMatch(), action, BUILT_IN),),
            BUILT_IN,
            counts_attempts=False,
        )
        return HttpChain(
            stat_prefix=f"inbound_{cluster.split('|')[1]}" if "|" in cluster else cluster,
            inline=RouteTable(cluster, (host,)),
            access=self._access,
            telemetry=telemetry,
            forwarded_client_cert="append_forward",
            serves_mesh=True,
            server_name="istio-envoy",
            grpc=grpc,
            http10=self._snapshot.settings.http10,
        )

    def _retry(self) -> RetryPolicy | None:
        """What the mesh says of requests that never reached the application; 0 attempts: nothing is tried again."""
        said = self._snapshot.mesh_config.default_inbound_http_retry_policy
        if said is None:
            return DEFAULT_RETRY
        if not said.attempts:
            return None
        words = tuple(word.strip() for word in (said.retry_on or "").split(",") if word.strip())
        return msgspec.structs.replace(
            DEFAULT_RETRY, attempts=said.attempts, retry_on=words or DEFAULT_RETRY.retry_on, backoff=said.backoff
        )

    def _tcp(self, port: InboundPort, cluster: str) -> TcpChain:
        pool = connection_pool(port.pool)
        target = (TcpTarget(cluster),)
        prefix = f"inbound_{port.number}"
        return TcpChain(
            prefix,
            target,
            self._access,
            self._reporting(port),
            idle_timeout=pool.tcp_idle_timeout,
            server_first=speaks_first(port.protocol, port.service_port),
        )

    def _mesh_tls(self) -> ServerTls:
        said = self._snapshot.mesh_config.mesh_mtls
        return ServerTls(
            WORKLOAD_CERTIFICATE,
            self._policy.origin,
            roots=MESH_ROOTS,
            require_client=True,
            client_trust_domains=self._snapshot.settings.client_trust_domains,
            alpn=SPOKEN_ALPN,
            min_version="TLSV1_3" if said is not None and said.min_protocol_version == "TLSV1_3" else "TLSV1_2",
            cipher_suites=usable_ciphers(said.cipher_suites) if said is not None else (),
        )

    # --- the application ---------------------------------------------------------------------------------------------

    def _cluster(self, port: InboundPort) -> Cluster:
        said = port.pool.tcp.connect_timeout if port.pool is not None and port.pool.tcp is not None else None
        direct = isinstance(self._proxy.network, LoopbackNetwork) or port.endpoint[0].startswith(UNIX)
        source = INBOUND_SOURCE if ":" not in port.endpoint[0] else "::1"
        return Cluster(
            names.inbound_cluster(port.number),
            Discovery.STATIC,
            port.origin,
            protocol=_upstream_protocol(port),
            connect_timeout=said or self._snapshot.settings.connect_timeout,
            load_balancing=LoadBalancing.ROUND_ROBIN,
            pool=connection_pool(port.pool),
            source=None if direct else Bind(source, 0, workload_netns(self._proxy)),
        )

    def _endpoints(self, port: InboundPort) -> EndpointSet:
        host, number = port.endpoint
        address = host if host.startswith(UNIX) else self._app_address(host)
        endpoint = Endpoint(address, number)
        return EndpointSet(names.inbound_cluster(port.number), (LocalityEndpoints("", (endpoint,)),))

    def _app_address(self, host: str) -> str:
        """Where the application is. On loopback addresses each application has one, whatever the Sidecar calls it."""
        if isinstance(self._proxy.network, LoopbackNetwork):
            return in_loopback_view(f"0.0.{LOOPBACK_APP}", self._proxy.network.prefix)
        if host:
            return host
        has_own = isinstance(self._proxy.network, NamespacesNetwork) and bool(self._proxy.address)
        passes = self._snapshot.settings.inbound_policy == "PASSTHROUGH" and has_own
        return self._proxy.address if passes else "127.0.0.1"


def _sniffs(port: InboundPort) -> bool:
    return port.protocol is Protocol.UNSPECIFIED and port.tls is None


def _upstream_protocol(port: InboundPort) -> str:
    """How the application is spoken to: as its port says, unless a Sidecar's pool says more."""
    speaks_http = port.protocol.is_http or (port.protocol is Protocol.HTTPS and port.tls is not None)
    if not speaks_http:
        return "client" if _sniffs(port) else "tcp"
    http = port.pool.http if port.pool is not None and port.pool_is_sidecars else None
    if http is not None and http.use_client_protocol:
        return "client"
    upgraded = http is not None and http.h2_upgrade_policy == "UPGRADE"
    return "http2" if port.protocol.is_http2 or upgraded else "http1"


def _reserved(port: InboundPort, proxy: Proxy) -> Finding:
    message = f"port {port.number} is the proxy's own, so {proxy.workload} is not called there"
    origin = port.service.origin if port.service is not None else port.origin
    return warning("reserved-port", message, origin, "let the application listen at another port")
