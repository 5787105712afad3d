"""The project: what ``lateen.yaml`` comes to, defaults filled in and every workload spelled out.

Comes in: the file's fields (``lateen.local.fields``), already of the right shape. Goes out: a ``Project``, the value
that the supervisor compares with the running mesh. Rules kept here: a service without versions is one workload of the
service's name; a version ``v1`` of ``reviews`` is the workload ``reviews-v1`` with the labels ``app`` and ``version``;
a workload that says nothing on its readiness is ready once its first port accepts connections.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.values.names import Origin
from lateen.values.protocol import Protocol


class Port(msgspec.Struct, frozen=True):
    """One port of a service; ``target`` is the port that the application itself listens on."""

    name: str
    number: int
    target: int
    protocol: Protocol


class ProbeKind(enum.Enum):
    """How an application is asked whether it is ready."""

    NONE = "none"
    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"


class Probe(msgspec.Struct, frozen=True):
    """A readiness probe. Times in seconds; ``path`` is for HTTP, ``command`` for EXEC, ``port`` for HTTP and TCP."""

    kind: ProbeKind
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()
    interval: float = 5.0
    timeout: float = 1.0
    initial_delay: float = 0.0
    success_threshold: int = 1
    failure_threshold: int = 3


NO_PROBE = Probe(ProbeKind.NONE)


class Application(msgspec.Struct, frozen=True):
    """How the process of a workload is run: what can change without a new proxy or identity."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_dir: str
    probe: Probe


class Workload(msgspec.Struct, frozen=True):
    """One version of one service, or one gateway (``application`` None), and how many of it run.

    ``name`` is unique in the mesh; replica i is the instance ``<name>-<i>``. ``bind`` is the machine's address that a
    gateway listens on.
    """

    name: str
    service: str
    version: str
    namespace: str
    service_account: str
    labels: tuple[tuple[str, str], ...]
    ports: tuple[Port, ...]
    replicas: int = 1
    application: Application | None = None
    bind: str = ""
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def is_gateway(self) -> bool:
        return self.application is None

    def instance_id(self, index: int) -> str:
        return f"{self.name}-{index}"


class Service(msgspec.Struct, frozen=True):
    """One service as clients know it; ``selector`` picks its workloads by their labels."""

    name: str
    namespace: str
    ports: tuple[Port, ...]
    selector: tuple[tuple[str, str], ...]


class CaptureMode(enum.Enum):
    """How traffic comes to pass through the sidecars."""

    AUTO = "auto"
    NAMESPACES = "namespaces"
    LOOPBACK = "loopback"


class CaService(msgspec.Struct, frozen=True):
    """Where the authority is reached over TLS (``host:port``, empty: nowhere), and whose service-account tokens count.

    ``names`` are further ones of the server. ``account_jwks`` is an absolute path.
    """

    listen: str = ""
    listen_mutual: str = ""
    names: tuple[str, ...] = ()
    account_issuer: str = ""
    account_audiences: tuple[str, ...] = ()
    account_jwks: str = ""


class MeshOptions(msgspec.Struct, frozen=True):
    """Options of the whole mesh. ``resources`` None: the files beside ``lateen.yaml`` and the folder ``mesh`` there.

    ``jwks_allow`` are networks that keys of tokens may be fetched from beside the public internet, ``jwks_refresh`` the
    seconds after which they are read again. ``redis`` counts what all proxies count together (empty: the mixer does).
    ``ca`` is the authority's folder, empty for one within the run directory;
    ``certificate_life`` (seconds) and ``workload_key`` (``certificate.KEY_KINDS``) are for workloads.
    """

    capture: CaptureMode = CaptureMode.AUTO
    resources: tuple[str, ...] | None = None
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    outbound_policy: str = "ALLOW_ANY"
    host_ownership: bool = False
    jwks_allow: tuple[str, ...] = ()
    jwks_refresh: float = 1200.0
    redis: str = ""
    ca: str = ""
    service: CaService = CaService()
    certificate_life: float = 86400.0
    workload_key: str = "ec-p256"


class PortPlace(msgspec.Struct, frozen=True):
    """Where in the file a port of a gateway stands. Kept beside the workloads: a line that moves changes nothing."""

    gateway: str
    port: str
    field: str
    line: int


class Project(msgspec.Struct, frozen=True):
    """Everything that a ``lateen.yaml`` says. ``folder`` is absolute; relative paths in the file are relative to it.

    ``written_name`` is what the file calls the mesh, where ``name`` was given by other means.
    """

    name: str
    namespace: str
    folder: str
    file: str
    services: tuple[Service, ...] = ()
    workloads: tuple[Workload, ...] = ()
    options: MeshOptions = MeshOptions()
    places: tuple[PortPlace, ...] = ()
    written_name: str = ""

    def origin_of_port(self, gateway: Workload, port: Port) -> Origin:
        """Where the file says this port of a gateway."""
        origin = Origin("Project", "", self.name, self.file, 1, f"gateways.{gateway.name}.ports")
        found = [one for one in self.places if (one.gateway, one.port) == (gateway.name, port.name)]
        return origin.at(found[0].field, found[0].line) if found else origin

    def workload(self, name: str) -> Workload | None:
        return next((workload for workload in self.workloads if workload.name == name), None)

    @property
    def gateways(self) -> tuple[Workload, ...]:
        return tuple(workload for workload in self.workloads if workload.is_gateway)
