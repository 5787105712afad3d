"""The listeners and route tables of a gateway.

Rules: servers of all Gateways that select the workload are joined by port, oldest Gateway first. HTTP servers of one
port share the route table ``http.<port>``; servers that end TLS stand side by side by server name, each with a route
table of its own. A server whose kind does not fit the first on its port, or whose TLS host is taken already, is left
out with a finding.
"""

from __future__ import annotations

import msgspec

from lateen.findings import Finding, error
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.routing import BoundHost, gateway_virtual_services
from lateen.mesh.visibility import selects
from lateen.plan.matching import MatchKind, RouteMatch, StringMatcher
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, Telemetry
from lateen.plan.proxy import Bind, Proxy
from lateen.plan.route_building import Reading, build_routes
from lateen.plan.routes import DirectResponse, Route, RouteTable, VirtualHost
from lateen.plan.tls import SecretRef, ServerTls
from lateen.resources.gateway import GatewaySpec, Server, ServerTlsSettings
from lateen.resources.resource import Resource
from lateen.values.names import BUILT_IN, ResourceKey
from lateen.values.protocol import Protocol, parse_protocol


class _Placed(msgspec.Struct, frozen=True):
    """One server of one Gateway."""

    resource: Resource
    index: int
    server: Server
    protocol: Protocol

    @property
    def port(self) -> int:
        return self.server.port.number

    @property
    def ends_tls(self) -> bool:
        return self.protocol is Protocol.HTTPS

    @property
    def hosts(self) -> tuple[tuple[str, str], ...]:
        """(namespace, host) pairs; ``.`` is the Gateway's own namespace."""
        pairs = []
        for text in self.server.hosts:
            namespace, slash, host = text.rpartition("/")
            namespace = {"": "*", ".": self.resource.key.namespace}.get(namespace, namespace) if slash else "*"
            pairs.append((namespace, host.lower()))
        return tuple(pairs)


def plan_gateway(
    snapshot: MeshSnapshot, proxy: Proxy, bind_address: str, telemetry: Telemetry
) -> tuple[list[Listener], list[RouteTable], list[SecretRef], list[Finding]]:
    """Everything that a gateway's listeners need. ``bind_address`` is where servers without ``bind`` listen."""
    by_port: dict[int, list[_Placed]] = {}
    findings: list[Finding] = []
    for placed in _servers(snapshot, proxy):
        present = by_port.setdefault(placed.port, [])
        if present and present[0].ends_tls != placed.ends_tls:
            findings.append(_conflict(placed, present[0]))
            continue
        present.append(placed)
    listeners, tables, secrets = [], [], []
    for port, servers in sorted(by_port.items()):
        if servers[0].ends_tls:
            chains, own, needed = _tls_chains(snapshot, proxy, servers, telemetry, findings)
            tables.extend(own)
            secrets.extend(needed)
        else:
            name = f"http.{port}"
            tables.append(_route_table(snapshot, proxy, name, servers, "http"))
            chains = [Chain(name, ChainMatch(), _http(name, telemetry, port), servers[0].resource.origin)]
        address = servers[0].server.bind or bind_address
        listeners.append(
            Listener(
                name=f"{address}_{port}",
                bind=Bind(address, port),
                direction="outbound",
                chains=tuple(chains),
                origin=servers[0].resource.origin,
                inspect_tls=servers[0].ends_tls,
            )
        )
    return listeners, tables, secrets, findings


def _servers(snapshot: MeshSnapshot, proxy: Proxy) -> list[_Placed]:
    found = []
    for resource in snapshot.gateways:
        spec: GatewaySpec = resource.spec
        if not selects(spec.selector, proxy.labels):
            continue
        for index, server in enumerate(spec.servers):
            protocol = parse_protocol(server.port.protocol or "") or Protocol.UNSPECIFIED
            if protocol.is_http or protocol is Protocol.HTTPS:
                found.append(_Placed(resource, index, server, protocol))
    return found


def _conflict(placed: _Placed, first: _Placed) -> Finding:
    origin = placed.resource.origin_at(f"spec.servers[{placed.index}].port")
    return error(
        "conflicting-server",
        f"port {placed.port} is already {first.protocol.value} by {first.resource.origin}; "
        f"a {placed.protocol.value} server cannot share it, so this one is left out",
        origin,
        "use another port, or the same protocol",
    )


def _http(route_table: str, telemetry: Telemetry, port: int) -> HttpChain:
    return HttpChain(
        stat_prefix=f"outbound_{port}",
        route_table=route_table,
        telemetry=telemetry,
        forwarded_client_cert="sanitize_set",
        trust_edge=True,
        mesh_headers="add",
        server_name="istio-envoy",
        has_fault=True,
        has_cors=True,
    )


def _tls_chains(
    snapshot: MeshSnapshot, proxy: Proxy, servers: list[_Placed], telemetry: Telemetry, findings: list[Finding]
) -> tuple[list[Chain], list[RouteTable], list[SecretRef]]:
    chains: list[Chain] = []
    tables: list[RouteTable] = []
    secrets: list[SecretRef] = []
    taken: set[str] = set()
    for placed in servers:
        resource, server = placed.resource, placed.server
        names = tuple(host for _, host in placed.hosts if host not in taken)
        origin = resource.origin_at(f"spec.servers[{placed.index}]")
        if not names:
            message = f"every host of this server is already served with TLS on port {placed.port}; it is left out"
            findings.append(error("duplicate-tls-host", message, origin, "keep each host in one server of a port"))
            continue
        taken.update(names)
        table = f"https.{placed.port}.{server.port.name}.{resource.key.name}.{resource.key.namespace}"
        tables.append(_route_table(snapshot, proxy, table, [placed], "https"))
        certificate = _certificate(proxy, server.tls)
        secrets.append(certificate)
        settings = server.tls
        tls = ServerTls(
            certificate=certificate,
            origin=resource.origin_at(f"spec.servers[{placed.index}].tls"),
            alpn=("h2", "http/1.1"),
            min_version=_version(settings.min_protocol_version if settings else None) or "TLSV1_2",
            max_version=_version(settings.max_protocol_version if settings else None),
            cipher_suites=tuple(settings.cipher_suites) if settings else (),
        )
        match = ChainMatch(server_names=() if "*" in names else names, transport_protocol="tls")
        chains.append(Chain(table, match, _http(table, telemetry, placed.port), origin, tls))
    return chains, tables, secrets


def _version(text: str | None) -> str:
    return "" if text in (None, "", "TLS_AUTO") else str(text)


def _certificate(proxy: Proxy, settings: ServerTlsSettings | None) -> SecretRef:
    """The server's certificate: a Secret of the gateway's own namespace, or files."""
    if settings is not None and settings.credential_name:
        name = settings.credential_name.removeprefix("kubernetes://")
        return SecretRef(f"kubernetes://{name}", source=ResourceKey("Secret", proxy.namespace, name))
    certificate = (settings.server_certificate or "") if settings else ""
    key = (settings.private_key or "") if settings else ""
    return SecretRef(f"file-cert:{certificate}~{key}", certificate_file=certificate, key_file=key)


# --- routes ----------------------------------------------------------------------------------------------------------


def _route_table(snapshot: MeshSnapshot, proxy: Proxy, name: str, servers: list[_Placed], scheme: str) -> RouteTable:
    """Join the routes of every VirtualService that is bound to the servers, host by host."""
    port = servers[0].port
    routes: dict[str, list[Route]] = {}
    owners: dict[str, BoundHost] = {}
    redirected: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for placed in servers:
        gateway = f"{placed.resource.key.namespace}/{placed.resource.key.name}"
        reading = Reading(gateway, port, proxy.namespace, proxy.labels, scheme)
        redirect = bool(placed.server.tls and placed.server.tls.https_redirect) and not placed.ends_tls
        for bound in gateway_virtual_services(snapshot, placed.resource, placed.hosts):
            owners.setdefault(bound.host, bound)
            if redirect:
                redirected.add(bound.host)
            mark = (bound.host, str(bound.resource.key))
            if mark not in seen:
                seen.add(mark)
                routes.setdefault(bound.host, []).extend(build_routes(snapshot, bound.resource, reading))
        if redirect:
            for _, host in placed.hosts:
                routes.setdefault(host, [])
                redirected.add(host)
    hosts = [
        VirtualHost(
            name=f"{host}:{port}",
            domains=("*",) if host == "*" else (host,),
            routes=tuple(sorted(found, key=lambda route: route.match.catches_all)) or _nothing(),
            origin=owners[host].resource.origin if host in owners else servers[0].resource.origin,
            require_tls=host in redirected,
        )
        for host, found in sorted(routes.items())
        if found or host in redirected
    ]
    return RouteTable(name, tuple(hosts) or (_black_hole(port),), ignore_port_in_host=True)


def _nothing() -> tuple[Route, ...]:
    match = RouteMatch(StringMatcher(MatchKind.PREFIX, "/"))
    return (Route("none", match, DirectResponse(404), BUILT_IN),)


def _black_hole(port: int) -> VirtualHost:
    """What a port answers for which no VirtualService stands: 404."""
    return VirtualHost(f"blackhole:{port}", ("*",), _nothing(), BUILT_IN)
