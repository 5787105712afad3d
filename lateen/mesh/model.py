"""The snapshot: everything that the mesh is at one moment, indexed for planning.

Comes in: typed resources and running workloads, through ``build.build_snapshot``. Goes out: frozen values; a change
makes a new snapshot. Lookups that hold a rule of precedence live beside this file, one file per rule set.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from lateen.findings import Finding
from lateen.mesh.mixer.model import MixerRules
from lateen.mesh.token_keys import NO_KEYS, TokenKeys
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.names import Origin, ResourceKey
from lateen.values.protocol import Protocol

Labels = tuple[tuple[str, str], ...]


class Resolution(enum.Enum):
    """How a service's endpoints are found; NONE: wherever the client meant to go; DYNAMIC_DNS: the host it asks for."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


class ServicePort(msgspec.Struct, frozen=True):
    """One port of a service; ``target`` is a workload's port number, or the name of one."""

    name: str
    number: int
    protocol: Protocol
    target: int | str


class Member(msgspec.Struct, frozen=True):
    """One endpoint of a service before ports are chosen.

    ``ports`` maps port names to numbers that replace the service's target; ``named_ports`` is what a target that is
    a name means there. ``mesh_tls``: a sidecar answers there. ``workload`` names what runs there, for telemetry;
    ``instance`` is the id of a replica that runs here. ``hostname``: its own name below that of a headless service.
    ``ports_are_all``: it serves no other port than ``ports``.
    """

    address: str
    ports: tuple[tuple[str, int], ...] = ()
    named_ports: tuple[tuple[str, int], ...] = ()
    labels: Labels = ()
    locality: str = ""
    weight: int = 1
    service_account: str = ""
    namespace: str = ""
    mesh_tls: bool = False
    healthy: bool = True
    workload: str = ""
    instance: str = ""
    hostname: str = ""
    ports_are_all: bool = False

    def label(self, name: str) -> str:
        return dict(self.labels).get(name, "")


class Alias(msgspec.Struct, frozen=True):
    """Another name of a service: a Service of type ExternalName."""

    hostname: str
    namespace: str
    export_to: tuple[str, ...]


class Service(msgspec.Struct, frozen=True):
    """A name that workloads call. ``address`` is its stable virtual address; ``addresses`` those that the user gave.

    ``headless``: its name stands for the addresses of its members, of which the client chooses one.
    ``prefers_close``: clients take the nearest members. ``publishes_all``: members count that are not ready.
    ``aliases`` are further names of it.
    ``translates_gateway_ports``: servers of a gateway behind it listen at its target ports.
    """

    hostname: str
    namespace: str
    name: str
    ports: tuple[ServicePort, ...]
    origin: Origin
    address: str = ""
    addresses: tuple[str, ...] = ()
    selector: Labels = ()
    resolution: Resolution = Resolution.STATIC
    external: bool = False
    export_to: tuple[str, ...] = ("*",)
    creation: str = ""
    sans: tuple[str, ...] = ()
    translates_gateway_ports: bool = True
    headless: bool = False
    publishes_all: bool = False
    prefers_close: bool = False
    aliases: tuple[Alias, ...] = ()

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


class WorkloadPort(msgspec.Struct, frozen=True):
    """A port of a running workload: the service port, its name, and where the application listens."""

    name: str
    number: int
    target: int
    protocol: Protocol


class Workload(msgspec.Struct, frozen=True):
    """One running replica with a proxy beside it, or one gateway (``is_gateway``), which listens on ``bind``."""

    id: str
    namespace: str
    name: str
    labels: Labels
    service_account: str
    address: str
    is_gateway: bool = False
    ports: tuple[WorkloadPort, ...] = ()
    ready: bool = False
    network: str = "pod"
    prefix: int = 0
    workload_netns: str = ""
    mesh_netns: str = ""
    bind: str = ""
    annotations: Labels = ()


class Contender(msgspec.Struct, frozen=True):
    """One of several definitions of a host, in different namespaces, with its members."""

    service: Service
    members: tuple[Member, ...] = ()


class TokenDemand(msgspec.Struct, frozen=True):
    """What a Policy of the first generation asks of the tokens of requests to a service, with all that it says.

    ``ports`` are those of workloads (empty: all); ``at_ports``: its tokens are looked at there alone, as other ports
    have a Policy of their own.
    """

    policy: Resource
    namespace: str
    service: str
    selector: Labels
    ports: tuple[int, ...] = ()
    at_ports: bool = False


class LegacySecurity(msgspec.Struct, frozen=True):
    """What resources of the first generation of security come to, as resources of the present kinds.

    They hold where no resource of the present kinds does. ``access`` are AuthorizationPolicies of roles, ``peers``
    PeerAuthentications. ``origins`` are what holds of tokens; ``tokens`` and ``demands`` say as much of it as
    RequestAuthentications and AuthorizationPolicies can.
    """

    access: tuple[Resource, ...] = ()
    peers: tuple[Resource, ...] = ()
    tokens: tuple[Resource, ...] = ()
    demands: tuple[Resource, ...] = ()
    origins: tuple[TokenDemand, ...] = ()


class MeshSnapshot(msgspec.Struct, frozen=True):
    """The whole mesh.

    ``contested`` holds all definitions of each host that has several; ``services`` and ``members`` have the first of
    them, but as one client sees the mesh (``mesh/seen.py``) the one that it takes.
    ``aliases`` holds the host that each name of a Service of type ExternalName stands for.
    ``services`` by hostname, ``members`` (endpoints) by hostname, ``workloads`` by id, ``envoy_filters`` and
    ``destination_rules`` by namespace. Resource tuples stand in order of precedence: oldest first, then by name, then
    by namespace. ``settings`` has the MeshConfig's values in it; ``mesh_config`` holds its blocks. ``token_keys`` are
    those that have been fetched for rules on tokens. ``legacy``: security of the first generation.
    ``mixer``: Mixer's rules.
    """

    settings: Settings
    services: Mapping[str, Service]
    members: Mapping[str, tuple[Member, ...]]
    workloads: Mapping[str, Workload]
    virtual_services: tuple[Resource, ...]
    destination_rules: Mapping[str, tuple[Resource, ...]]
    gateways: tuple[Resource, ...]
    peer_authentications: tuple[Resource, ...]
    authorization_policies: tuple[Resource, ...]
    secrets: Mapping[ResourceKey, Resource]
    findings: tuple[Finding, ...] = ()
    mesh_config: MeshConfigSpec = MeshConfigSpec()
    sidecars: tuple[Resource, ...] = ()
    request_authentications: tuple[Resource, ...] = ()
    envoy_filters: Mapping[str, tuple[Resource, ...]] = {}
    proxy_configs: tuple[Resource, ...] = ()
    rate_limits: tuple[Resource, ...] = ()
    telemetries: tuple[Resource, ...] = ()
    aliases: Mapping[str, str] = {}
    contested: Mapping[str, tuple[Contender, ...]] = {}
    token_keys: TokenKeys = NO_KEYS
    legacy: LegacySecurity = LegacySecurity()
    mixer: MixerRules = MixerRules()

    def concrete(self, host: str) -> str:
        """The host that a name stands for, which mostly is itself."""
        return self.aliases.get(host, host)
