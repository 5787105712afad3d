"""MeshNetworks: addresses and gateways of each network."""

from __future__ import annotations

from lateen.resources.checks import Report, check_port
from lateen.resources.mesh_networks import MeshNetworksSpec, NetworkGateway
from lateen.values.network import is_cidr, is_host, is_ip, is_label


def check_mesh_networks(report: Report) -> None:
    spec: MeshNetworksSpec = report.resource.spec
    for name, network in spec.networks.items():
        for index, endpoints in enumerate(network.endpoints):
            field = f"networks.{name}.endpoints[{index}]"
            if endpoints.from_cidr is not None and endpoints.from_registry is not None:
                report.error(field, "fromCidr and fromRegistry exclude each other", "keep one of them")
            if endpoints.from_cidr is not None and not is_cidr(endpoints.from_cidr):
                report.error(f"{field}.fromCidr", f"{endpoints.from_cidr!r} is no address or address range")
            if endpoints.from_registry is not None and not is_label(endpoints.from_registry):
                report.error(f"{field}.fromRegistry", f"{endpoints.from_registry!r} is no name of a registry")
        for index, gateway in enumerate(network.gateways):
            _check_gateway(report, f"networks.{name}.gateways[{index}]", gateway)


def _check_gateway(report: Report, field: str, gateway: NetworkGateway) -> None:
    service, address = gateway.registry_service_name, gateway.address
    if service is not None and address is not None:
        report.error(field, "registryServiceName and address exclude each other", "keep one of them")
    if service is not None and not is_host(service):
        report.error(f"{field}.registryServiceName", f"{service!r} is not a host name")
    if address is not None and not is_ip(address) and not is_host(address):
        report.error(f"{field}.address", f"{address!r} is no address and no host name")
    check_port(report, f"{field}.port", gateway.port)
