"""HTTP at a gateway: the connection managers and route tables of its servers.

Comes in: servers that share a socket, or one that ends TLS. Goes out: ``HttpChain`` and ``RouteTable``. Rules: all
VirtualServices that are bound to a server are joined host by host, oldest first, with routes that catch all at the end.
A host is called by the port of its server, which a Service may have translated for the socket. A server without any
routes answers 404.
"""

from __future__ import annotations

from lateen.mesh.gateways import PlacedServer
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.routing import BoundHost, gateway_virtual_services
from lateen.plan.model import HttpChain, Telemetry
from lateen.plan.proxy import Proxy
from lateen.plan.route_building import Reading, build_routes
from lateen.plan.routes import Route, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN


def table_name(placed: PlacedServer) -> str:
    """``http.PORT`` for plain servers of one socket, ``https.PORT.NAME.GATEWAY.NAMESPACE`` for each that ends TLS."""
    if placed.ends_tls:
        key = placed.resource.key
        return f"https.{placed.listen_port}.{placed.server.port.name}.{key.name}.{key.namespace}"
    bind = placed.server.bind or ""
    return f"http.{placed.listen_port}{'.' if bind else ''}{bind}"


def edge_http(route_table: str, telemetry: Telemetry, port: int, name: str = "") -> HttpChain:
    """How a gateway speaks HTTP with whoever calls it. ``name`` is what its statistics are called, if not by port."""
    return HttpChain(
        stat_prefix=name or f"outbound_{port}",
        route_table=route_table,
        telemetry=telemetry,
        forwarded_client_cert="sanitize_set",
        trust_edge=True,
        server_name="istio-envoy",
    )


def route_table(snapshot: MeshSnapshot, proxy: Proxy, servers: tuple[PlacedServer, ...]) -> RouteTable:
    """The route table of servers that share one, joined host by host."""
    joined = _Joined(snapshot, proxy)
    for placed in servers:
        joined.add(placed)
    port = servers[0].port
    return RouteTable(table_name(servers[0]), joined.hosts() or (_black_hole(port),), ignore_port_in_host=True)


class _Joined:
    """Collects the routes of each host, over servers and VirtualServices."""

    def __init__(self, snapshot: MeshSnapshot, proxy: Proxy) -> None:
        self._snapshot = snapshot
        self._proxy = proxy
        self._routes: dict[str, list[Route]] = {}
        self._owners: dict[str, BoundHost] = {}
        self._servers: dict[str, PlacedServer] = {}
        self._redirected: set[str] = set()
        self._seen: set[tuple[str, str]] = set()

    def add(self, placed: PlacedServer) -> None:
        scheme = "https" if placed.ends_tls else "http"
        reading = Reading(placed.gateway, placed.port, self._proxy.namespace, self._proxy.labels, scheme)
        redirect = bool(placed.server.tls and placed.server.tls.https_redirect) and not placed.ends_tls
        for bound in gateway_virtual_services(self._snapshot, placed.resource, placed.hosts):
            self._owners.setdefault(bound.host, bound)
            self._servers.setdefault(bound.host, placed)
            if redirect:
                self._redirected.add(bound.host)
            mark = (bound.host, str(bound.resource.key))
            if mark not in self._seen:
                self._seen.add(mark)
                self._routes.setdefault(bound.host, []).extend(build_routes(self._snapshot, bound.resource, reading))
        if redirect:
            for _, host in placed.hosts:
                self._routes.setdefault(host, [])
                self._servers.setdefault(host, placed)
                self._redirected.add(host)

    def hosts(self) -> tuple[VirtualHost, ...]:
        return tuple(
            VirtualHost(
                name=f"{host}:{self._servers[host].port}",
                domains=("*",) if host == "*" else (host,),
                routes=tuple(sorted(found, key=lambda route: route.match.catches_all)),
                origin=self._owners[host].resource.origin if host in self._owners else self._servers[host].origin(),
                require_tls=host in self._redirected,
            )
            for host, found in sorted(self._routes.items())
            if found or host in self._redirected
        )


def _black_hole(port: int) -> VirtualHost:
    """What a port has for which no VirtualService stands: no route, which is 404."""
    return VirtualHost(f"blackhole:{port}", ("*",), (), BUILT_IN)
