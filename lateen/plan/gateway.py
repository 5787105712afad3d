"""Everything that a gateway's listeners need.

Comes in: the snapshot and the gateway. Goes out: listeners, route tables, names of secrets, findings. Which servers
there are and who shares a socket is decided in ``mesh/gateways``; here each becomes chains, all of them guarded by the
AuthorizationPolicies that select the gateway. A server whose certificate is missing or wrong closes its connections and
leaves those of the others alone.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from lateen.findings import Finding, error
from lateen.mesh.credentials import CredentialError
from lateen.mesh.gateways import GatewayWorkload, PlacedServer, Socket, gateway_sockets
from lateen.mesh.model import MeshSnapshot
from lateen.plan import names
from lateen.plan.access.model import AccessPolicy
from lateen.plan.client_view import ClientView
from lateen.plan.clusters import Cluster, EndpointSet
from lateen.plan.gateway_http import edge_http, route_table, table_name
from lateen.plan.gateway_tcp import TakenNames, TcpGateway
from lateen.plan.model import Chain, ChainMatch, Listener, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import Bind, Proxy, mesh_netns
from lateen.plan.routes import RouteTable
from lateen.plan.server_tls import server_tls
from lateen.plan.sni_passthrough import passing_chain, passing_clusters, passing_endpoints
from lateen.plan.tls import SecretRef, ServerTls
from lateen.resources.gateway import ServerTlsSettings
from lateen.values.names import BUILT_IN
from lateen.values.protocol import speaks_first

_CLOSING = TcpChain(names.BLACK_HOLE, (TcpTarget(names.BLACK_HOLE),))


class GatewayParts(msgspec.Struct):
    """What is gathered while the sockets of one gateway are planned."""

    listeners: list[Listener] = []
    tables: list[RouteTable] = []
    secrets: list[SecretRef] = []
    findings: list[Finding] = []
    clusters: dict[str, Cluster] = {}
    endpoints: dict[str, EndpointSet] = {}


def plan_gateway(
    snapshot: MeshSnapshot,
    proxy: Proxy,
    view: ClientView,
    bind_address: str,
    access: AccessPolicy,
    telemetry: Telemetry,
) -> GatewayParts:
    """Plan every socket of a gateway that sees ``view``. ``bind_address`` is where servers without ``bind`` listen;
    ``access`` holds for whatever arrives.

    With namespaces these listen at the gateway's address within the mesh too, as egress gateways are called from there.
    """
    workload = GatewayWorkload(proxy.id, proxy.namespace, proxy.labels, proxy.address, bind_address)
    sockets, findings = gateway_sockets(snapshot, workload)
    planning = _Planning(snapshot, proxy, view, bind_address, access, telemetry)
    planning.parts.findings.extend(findings)
    for socket in sockets:
        planning.add(socket)
    if any(not listener.bind_to_port for listener in planning.parts.listeners):
        planning.parts.listeners.append(_from_inside(proxy))
    return planning.parts


def _from_inside(proxy: Proxy) -> Listener:
    """Where the mesh's network brings connections to a gateway's own address, whatever their port."""
    nowhere = Chain("virtualInbound-blackhole", ChainMatch(), _CLOSING, BUILT_IN)
    return Listener(
        name=names.VIRTUAL_INBOUND,
        bind=Bind(proxy.address, names.INBOUND_PORT, mesh_netns(proxy)),
        direction="inbound",
        chains=(),
        origin=BUILT_IN,
        default_chain=nowhere,
        use_original_dst=True,
    )


class _Planning:
    def __init__(
        self,
        snapshot: MeshSnapshot,
        proxy: Proxy,
        view: ClientView,
        bind_address: str,
        access: AccessPolicy,
        telemetry: Telemetry,
    ) -> None:
        self.parts = GatewayParts()
        self._view = view
        self._bind_address = bind_address
        self._access = access
        self._snapshot = snapshot
        self._proxy = proxy
        self._telemetry = telemetry
        self._tcp = TcpGateway(snapshot, proxy, telemetry, self.parts.findings)

    def add(self, socket: Socket) -> None:
        first = socket.servers[0]
        chains = {"http": self._http, "tls": self._tls, "tcp": self._plain_tcp}[first.kind](socket)
        if not chains:
            return
        in_file = socket.bind.startswith("unix://")
        listener = Listener(
            name=socket.bind if in_file else f"{socket.bind}_{socket.port}",
            bind=Bind(socket.bind, socket.port),
            direction="outbound",
            chains=tuple(self._guarded(chain, first) for chain in chains),
            origin=first.resource.origin,
            inspect_tls=first.kind == "tls",
            at_edge=True,
            access_log=self._telemetry.access_log,
        )
        self.parts.listeners.append(listener)
        inside = mesh_netns(self._proxy)
        if inside and socket.bind == self._bind_address:
            name, bind = f"{self._proxy.address}_{socket.port}", Bind(self._proxy.address, socket.port, inside)
            self.parts.listeners.append(replace(listener, name=name, bind=bind, bind_to_port=False))

    def _guarded(self, chain: Chain, placed: PlacedServer) -> Chain:
        action = replace(chain.action, access=self._access)
        if isinstance(action, TcpChain):
            action = replace(action, server_first=speaks_first(placed.protocol, placed.port))
        return replace(chain, action=action)

    def _http(self, socket: Socket) -> list[Chain]:
        first = socket.servers[0]
        name = table_name(first)
        self.parts.tables.append(route_table(self._snapshot, self._proxy, socket.servers))
        return [
            Chain(
                name,
                ChainMatch(),
                edge_http(name, self._telemetry, socket.port, first.server.name or ""),
                first.resource.origin,
            )
        ]

    def _plain_tcp(self, socket: Socket) -> list[Chain]:
        return self._tcp.tcp_chain(socket.servers[0], ChainMatch())

    def _tls(self, socket: Socket) -> list[Chain]:
        """Chains by server name. Names of servers that end TLS are theirs, whatever a wildcard lets through."""
        taken: TakenNames = {
            name: placed.origin() for placed in socket.servers if placed.ends_tls for name in placed.names
        }
        chains: list[Chain] = []
        for placed in socket.servers:
            if placed.ends_tls:
                chains.extend(self._ending(placed))
            elif placed.tls_mode == "AUTO_PASSTHROUGH":
                chains.extend(self._passing_by_name(placed, taken))
            else:
                chains.extend(self._tcp.passing_chains(placed, taken))
        return chains

    def _passing_by_name(self, placed: PlacedServer, taken: TakenNames) -> list[Chain]:
        chains = []
        for cluster in passing_clusters(placed, self._view.services, self._view.destinations.clusters):
            if taken.setdefault(cluster.name, placed.origin()) == placed.origin():
                self.parts.clusters[cluster.name] = cluster
                chains.append(passing_chain(placed, cluster, self._telemetry))
        for found in map(passing_endpoints, self._view.destinations.endpoints):
            if found.cluster in self.parts.clusters:
                self.parts.endpoints[found.cluster] = found
        return chains

    def _ending(self, placed: PlacedServer) -> list[Chain]:
        match = ChainMatch(server_names=() if "*" in placed.names else placed.names, transport_protocol="tls")
        settings = placed.server.tls or ServerTlsSettings()
        try:
            tls = self._server_tls(placed, settings)
        except CredentialError as problem:
            message = f"{problem}; this server of gateway {self._proxy.workload} refuses its connections until it does"
            origin = placed.origin("tls.credentialName" if settings.credential_name else "tls")
            self.parts.findings.append(error(problem.code, message, origin, problem.remedy))
            return [_refusing(placed, match)]
        self.parts.secrets.extend(ref for ref in tls.secrets if not ref.local)
        if not placed.speaks_http:
            return self._tcp.tcp_chain(placed, match, tls)
        name = table_name(placed)
        self.parts.tables.append(route_table(self._snapshot, self._proxy, (placed,)))
        http = edge_http(name, self._telemetry, placed.listen_port, placed.server.name or "")
        return [Chain(name, match, http, placed.origin(), tls)]

    def _server_tls(self, placed: PlacedServer, settings: ServerTlsSettings) -> ServerTls:
        return server_tls(
            self._snapshot,
            settings,
            self._proxy.namespace,
            placed.origin("tls"),
            speaks_http=placed.speaks_http,
        )


def _refusing(placed: PlacedServer, match: ChainMatch) -> Chain:
    """Takes the connections of a server that cannot answer, so that no wildcard answers for it, and closes them."""
    return Chain(f"refused.{placed.server.port.name}.{placed.gateway}", match, _CLOSING, placed.origin("tls"))
