"""Pod, EndpointSlice and Endpoints, as far as they say where a service's members are."""

from __future__ import annotations

from lateen.resources.checks import Report, check_port
from lateen.resources.kubernetes_endpoints import EndpointPort, EndpointsContent, EndpointSliceContent, PodContent
from lateen.values.network import is_host, is_ip

ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
SERVICE_LABEL = "kubernetes.io/service-name"


def check_pod(report: Report) -> None:
    content: PodContent = report.resource.spec
    address = content.status.pod_ip
    if not address:
        message = "a Pod without status.podIP runs nowhere, so it is no member of any service"
        report.note("status.podIP", message, "write it as the cluster shows it", "without-effect")
    elif not is_ip(address):
        report.error("status.podIP", f"{address!r} is no address")


def check_endpoint_slice(report: Report) -> None:
    content: EndpointSliceContent = report.resource.spec
    if content.address_type not in ADDRESS_TYPES:
        report.error("addressType", f"{content.address_type!r} is no type", f"write {' or '.join(ADDRESS_TYPES)}")
    if not report.resource.labels.get(SERVICE_LABEL):
        message = f"without the label {SERVICE_LABEL} the EndpointSlice belongs to no Service"
        report.warn("metadata.labels", message, "name the Service")
    for index, endpoint in enumerate(content.endpoints):
        field = f"endpoints[{index}].addresses"
        if not endpoint.addresses:
            report.error(field, "an endpoint needs an address", code="missing-field")
        for address in endpoint.addresses:
            wanted = is_host if content.address_type == "FQDN" else is_ip
            if not wanted(address):
                report.error(field, f"{address!r} is no address of type {content.address_type}")
    _check_ports(report, "ports", content.ports)


def check_endpoints(report: Report) -> None:
    content: EndpointsContent = report.resource.spec
    for index, subset in enumerate(content.subsets):
        field = f"subsets[{index}]"
        for name, addresses in (("addresses", subset.addresses), ("notReadyAddresses", subset.not_ready_addresses)):
            for place, address in enumerate(addresses):
                if not is_ip(address.ip):
                    report.error(f"{field}.{name}[{place}].ip", f"{address.ip!r} is no address")
        _check_ports(report, f"{field}.ports", subset.ports)


def _check_ports(report: Report, field: str, ports: tuple[EndpointPort, ...]) -> None:
    for index, port in enumerate(ports):
        check_port(report, f"{field}[{index}].port", port.port)
