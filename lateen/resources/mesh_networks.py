"""MeshNetworks: which addresses belong to which network, and through which gateways a network is reached."""

from __future__ import annotations

from lateen.resources.base import Spec, Uint32


class NetworkEndpoints(Spec, frozen=True):
    from_cidr: str | None = None
    from_registry: str | None = None


class NetworkGateway(Spec, frozen=True):
    registry_service_name: str | None = None
    address: str | None = None
    port: Uint32 = 0
    locality: str = ""


class Network(Spec, frozen=True):
    endpoints: tuple[NetworkEndpoints, ...] = ()
    gateways: tuple[NetworkGateway, ...] = ()


class MeshNetworksSpec(Spec, frozen=True):
    networks: dict[str, Network] = {}
