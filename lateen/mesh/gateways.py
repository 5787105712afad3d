"""Which servers a gateway workload runs, and on which sockets.

Comes in: the snapshot and who the workload is. Goes out: the servers of each socket in order of precedence, and a
finding for each that has no place. Rules:

- A Gateway holds for a workload whose labels its selector selects (no selector: for all gateways), in any namespace,
  unless the mesh scopes Gateways to their own namespace. The annotation ``internal.istio.io/gateway-service`` binds it
  to the Services that it names instead, and then the server's port has to be one of theirs.
- The port of a server is a Service's port where a Service selects the workload: the socket is then at its target port.
  Else it is a port of the workload itself, where that has one of this number, with its own target.
- Gateways are taken oldest first. Plain HTTP servers share a socket by host; servers in TLS by server name; one plain
  TCP server has a socket for itself. Whatever does not fit what stands already is left out.
- A server name in TLS belongs to the first server that names it. An address takes a port from ``0.0.0.0`` on it, and
  the other way round, as the machine has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from lateen.findings import Finding, error
from lateen.mesh.members import all_members, member_port
from lateen.mesh.model import Labels, MeshSnapshot, Service
from lateen.mesh.visibility import selects
from lateen.resources.gateway import GatewaySpec, Server
from lateen.resources.resource import Resource
from lateen.values.names import Origin
from lateen.values.protocol import Protocol, parse_protocol

SERVICE_ANNOTATION = "internal.istio.io/gateway-service"
WILDCARD_BINDS = frozenset({"0.0.0.0", "::"})  # noqa: S104
PASSING_MODES = frozenset({"PASSTHROUGH", "AUTO_PASSTHROUGH"})


class GatewayWorkload(msgspec.Struct, frozen=True):
    """Who asks: ``instance`` is its id, ``bind`` the address at which servers listen that do not say."""

    instance: str
    namespace: str
    labels: Labels
    address: str
    bind: str


class PlacedServer(msgspec.Struct, frozen=True):
    """One server of one Gateway on one socket. ``names`` are the server names that are its own, in TLS."""

    resource: Resource
    index: int
    server: Server
    protocol: Protocol
    bind: str
    listen_port: int
    names: tuple[str, ...] = ()

    @property
    def port(self) -> int:
        """The port by which callers and routes know it: a Service's, which may differ from the socket's."""
        return self.server.port.number

    @property
    def tls_mode(self) -> str:
        """Istio's name of the TLS mode, empty for a server without TLS."""
        if not self.protocol.is_tls:
            return ""
        return (self.server.tls.mode if self.server.tls else None) or "PASSTHROUGH"

    @property
    def ends_tls(self) -> bool:
        return bool(self.tls_mode) and self.tls_mode not in PASSING_MODES

    @property
    def speaks_http(self) -> bool:
        return self.protocol.is_http or (self.protocol is Protocol.HTTPS and self.ends_tls)

    @property
    def kind(self) -> str:
        """What may share its socket: ``http``, ``tls`` or ``tcp``."""
        return "tls" if self.tls_mode else ("http" if self.protocol.is_http else "tcp")

    @property
    def gateway(self) -> str:
        """``namespace/name`` of the Gateway, as VirtualServices name it."""
        return f"{self.resource.key.namespace}/{self.resource.key.name}"

    @property
    def hosts(self) -> tuple[tuple[str, str], ...]:
        """(namespace, host) pairs; ``.`` is the Gateway's own namespace and ``*`` every one."""
        pairs = []
        for text in self.server.hosts:
            namespace, slash, host = text.rpartition("/")
            namespace = {"": "*", ".": self.resource.key.namespace}.get(namespace, namespace) if slash else "*"
            pairs.append((namespace, host.lower()))
        return tuple(pairs)

    def origin(self, field: str = "") -> Origin:
        """The server in its resource, or one field of it (``port``, ``tls.mode``)."""
        return self.resource.origin_at(f"spec.servers[{self.index}]{'.' if field else ''}{field}")


class Socket(msgspec.Struct, frozen=True):
    """One listening socket and who shares it, oldest first; never empty."""

    bind: str
    port: int
    servers: tuple[PlacedServer, ...]


def gateway_sockets(snapshot: MeshSnapshot, workload: GatewayWorkload) -> tuple[tuple[Socket, ...], list[Finding]]:
    """The sockets of a gateway in order of port and address, and what is wrong with the servers that have none."""
    merge = _Merge()
    for placed in _servers(snapshot, workload):
        merge.add(placed)
    sockets = tuple(Socket(bind, port, tuple(found)) for (port, bind), found in sorted(merge.servers.items()))
    return sockets, merge.findings


def passes_by_name(gateways: Iterable[Resource]) -> bool:
    """Whether some server anywhere is in mode AUTO_PASSTHROUGH."""
    specs: Iterator[GatewaySpec] = (resource.spec for resource in gateways)
    return any(server.tls and server.tls.mode == "AUTO_PASSTHROUGH" for spec in specs for server in spec.servers)


# --- selection and ports ---------------------------------------------------------------------------------------------


def _servers(snapshot: MeshSnapshot, workload: GatewayWorkload) -> Iterator[PlacedServer]:
    own = _own_services(snapshot, workload)
    running = snapshot.workloads.get(workload.instance)
    own_ports = {port.number: port.target for port in running.ports} if running is not None else {}
    for resource in snapshot.gateways:
        spec: GatewaySpec = resource.spec
        if snapshot.settings.scope_gateways and resource.key.namespace != workload.namespace:
            continue
        named = [name.strip() for name in resource.annotations.get(SERVICE_ANNOTATION, "").split(",") if name.strip()]
        services = own
        if named:
            services = [
                (service, ports)
                for service, ports in own
                if service.hostname in named and service.namespace == resource.key.namespace
            ]
        elif not selects(spec.selector, workload.labels):
            continue
        for index, server in enumerate(spec.servers):
            protocol = parse_protocol(server.port.protocol or "") or Protocol.UNSPECIFIED
            for port in _listen_ports(server, services, own_ports, must_be_named=bool(named)):
                yield PlacedServer(resource, index, server, protocol, server.bind or workload.bind, port)


def _own_services(snapshot: MeshSnapshot, workload: GatewayWorkload) -> list[tuple[Service, dict[int, int]]]:
    """The Services that this workload is a member of, each with its ports and where they are served."""
    found = []
    for service, members in all_members(snapshot):
        for member in members:
            if member.instance != workload.instance and not (workload.address and member.address == workload.address):
                continue
            ports = {port.number: target for port in service.ports if (target := member_port(port, member))}
            found.append((service, ports))
            break
    return found


def _listen_ports(
    server: Server,
    services: Iterable[tuple[Service, dict[int, int]]],
    own_ports: dict[int, int],
    *,
    must_be_named: bool,
) -> tuple[int, ...]:
    number = server.port.number
    if (server.bind or "").startswith("unix://"):
        return (number,)
    targets = {
        ports[number]
        for service, ports in services
        if number in ports and (must_be_named or service.translates_gateway_ports)
    }
    return tuple(sorted(targets)) or (() if must_be_named else (own_ports.get(number, number),))


# --- who shares a socket ---------------------------------------------------------------------------------------------


class _Merge:
    """Takes servers in order of precedence and gives each its place."""

    def __init__(self) -> None:
        self.servers: dict[tuple[int, str], list[PlacedServer]] = {}
        self.findings: list[Finding] = []
        self._tls_names: dict[tuple[int, str], dict[str, PlacedServer]] = {}

    def add(self, placed: PlacedServer) -> None:
        address = (placed.listen_port, placed.bind)
        present = self.servers.get(address)
        rival = present[0] if present else self._overlapping(placed)
        if rival is not None and (rival.bind != placed.bind or rival.kind != placed.kind or placed.kind == "tcp"):
            self.findings.append(_conflict(placed, rival))
            return
        if placed.kind == "tls":
            names = self._claim(placed, self._tls_names.setdefault(address, {}))
            if not names:
                return
            placed = msgspec.structs.replace(placed, names=names)
        self.servers.setdefault(address, []).append(placed)

    def _overlapping(self, placed: PlacedServer) -> PlacedServer | None:
        """A server whose socket takes the port at another address too, or has it at one of this one's addresses."""
        if placed.bind.startswith("unix://"):
            return None
        for (port, bind), found in self.servers.items():
            if port == placed.listen_port and (bind in WILDCARD_BINDS or placed.bind in WILDCARD_BINDS):
                return found[0]
        return None

    def _claim(self, placed: PlacedServer, taken: dict[str, PlacedServer]) -> tuple[str, ...]:
        names = []
        for index, (_, host) in enumerate(placed.hosts):
            owner = taken.setdefault(host, placed)
            if owner is placed:
                names.append(host)
                continue
            message = (
                f"{host} is already served with TLS on port {placed.port} by {owner.origin()}; it is left out here"
            )
            origin = placed.origin(f"hosts[{index}]")
            self.findings.append(error("duplicate-tls-host", message, origin, "keep each host in one server of a port"))
        return tuple(dict.fromkeys(names))


def _conflict(placed: PlacedServer, rival: PlacedServer) -> Finding:
    if rival.bind != placed.bind:
        why = f"is taken at {rival.bind}"
    elif rival.kind == placed.kind:
        why = "is taken, and a TCP server shares with no other"
    else:
        why = f"already speaks {rival.protocol.value}, which {placed.protocol.value} cannot share"
    return error(
        "conflicting-server",
        f"port {placed.listen_port} {why}, by {rival.origin()}; this server is left out",
        placed.origin("port"),
        "use another port, or the same protocol",
    )
