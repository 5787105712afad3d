"""ServiceEntry and WorkloadEntry."""

from __future__ import annotations

from lateen.resources.checks import (
    UNIX_PATH,
    Report,
    check_export_to,
    check_labels,
    check_port,
    is_protocol,
    is_unix_path,
)
from lateen.resources.checks.selection import check_label_selector
from lateen.resources.service_entry import ServiceEntrySpec
from lateen.resources.workload_entry import WorkloadEntrySpec
from lateen.values.network import is_cidr, is_host, is_ip, is_label, is_partial_wildcard, is_wildcard_host
from lateen.values.protocol import Protocol, parse_protocol

MAX_HOSTS = 256
MAX_ADDRESS = 256
MAX_LOCALITY = 2048
MAX_ACCOUNT = 253
MAX_ENDPOINTS = 4096
DYNAMIC = frozenset({Protocol.HTTP, Protocol.TLS, Protocol.GRPC, Protocol.HTTP2, Protocol.HTTPS})


def check_service_entry(report: Report) -> None:
    spec: ServiceEntrySpec = report.resource.spec
    if not 1 <= len(spec.hosts) <= MAX_HOSTS:
        report.error("spec.hosts", f"a ServiceEntry needs 1 to {MAX_HOSTS} hosts", code="missing-field")
    for index, host in enumerate(spec.hosts):
        if host == "*":
            report.error(f"spec.hosts[{index}]", "the host * would take every name", "name the host")
        elif not is_wildcard_host(host):
            report.error(f"spec.hosts[{index}]", f"{host!r} is not a host name")
        elif is_partial_wildcard(host):
            message = f"the wildcard of {host} is only a part of its first label"
            report.warn(f"spec.hosts[{index}]", message, "such as *.example.com")
    if len(spec.addresses) > MAX_HOSTS:
        report.error("spec.addresses", f"there are more than {MAX_HOSTS} addresses")
    for index, address in enumerate(spec.addresses):
        field = f"spec.addresses[{index}]"
        if not is_cidr(address):
            report.error(field, f"{address!r} is no address or address range")
        elif "/" in address and spec.resolution not in ("NONE", "STATIC"):
            report.error(field, f"address ranges do not go with resolution {spec.resolution}", "give single addresses")
    check_export_to(report, spec.export_to)
    if spec.workload_selector is not None:
        check_label_selector(report, "spec.workloadSelector", spec.workload_selector)
        if spec.endpoints:
            report.error("spec.endpoints", "endpoints and workloadSelector exclude each other", "keep one of them")
        if spec.resolution in ("NONE", "DNS", "DNS_ROUND_ROBIN"):
            message = f"with resolution {spec.resolution} nothing is selected"
            report.warn("spec.workloadSelector", message, "use STATIC")
    _check_ports(report, spec)
    _check_resolution(report, spec)


def _check_ports(report: Report, spec: ServiceEntrySpec) -> None:
    names: set[str] = set()
    numbers: set[int] = set()
    gets_address = spec.resolution != "NONE" and not any("*" in host for host in spec.hosts)
    for index, port in enumerate(spec.ports):
        field = f"spec.ports[{index}]"
        check_port(report, f"{field}.number", port.number)
        if port.target_port:
            check_port(report, f"{field}.targetPort", port.target_port)
            if spec.resolution == "NONE":
                report.warn(f"{field}.targetPort", "with resolution NONE a targetPort has no effect", "leave it out")
        if not port.name:
            report.error(field, "the port needs a name", code="missing-field")
        elif not is_label(port.name.lower()):
            report.error(f"{field}.name", f"{port.name!r} is no name of a port")
        if port.name in names:
            report.error(f"{field}.name", f"port name {port.name} stands twice", "give each its own name")
        if port.number in numbers:
            report.error(f"{field}.number", f"port {port.number} stands twice")
        names.add(port.name)
        numbers.add(port.number)
        protocol = port.protocol or ""
        if protocol and not is_protocol(protocol):
            report.error(f"{field}.protocol", f"{protocol!r} is no protocol", "such as HTTP, TLS or TCP")
        elif protocol in ("", "TCP") and not spec.addresses and not gets_address and spec.resolution != "DYNAMIC_DNS":
            message = f"port {port.number} without addresses takes this port's traffic to any address"
            report.warn(field, message, "give spec.addresses")


def _check_resolution(report: Report, spec: ServiceEntrySpec) -> None:
    known = {port.name for port in spec.ports}
    if len(spec.endpoints) > MAX_ENDPOINTS:
        report.error("spec.endpoints", f"there are more than {MAX_ENDPOINTS} endpoints")
    for index, endpoint in enumerate(spec.endpoints):
        field = f"spec.endpoints[{index}]"
        check_endpoint(report, field, endpoint)
        for name in endpoint.ports:
            if name not in known:
                report.error(f"{field}.ports.{name}", f"the ServiceEntry has no port {name}", "name one of its ports")
        in_socket = endpoint.address.startswith("unix://")
        if in_socket and (spec.resolution != "STATIC" or len(spec.ports) != 1):
            report.error(f"{field}.address", "a Unix socket needs resolution STATIC and exactly one port")
        if spec.resolution == "STATIC" and endpoint.address and not in_socket and not is_ip(endpoint.address):
            report.error(f"{field}.address", f"{endpoint.address!r} is no address", "use an address, or resolution DNS")
        if spec.resolution.startswith("DNS") and in_socket:
            report.error(f"{field}.address", "a Unix socket does not go with resolution DNS")
        if spec.resolution.startswith("DNS") and not endpoint.address:
            report.error(field, "with resolution DNS an endpoint needs an address", code="missing-field")
    if spec.resolution == "NONE" and spec.endpoints:
        report.error("spec.endpoints", "resolution NONE takes no endpoints", "use STATIC")
    if spec.resolution in ("DNS", "DNS_ROUND_ROBIN"):
        _check_dns(report, spec)
    if spec.resolution in ("STATIC", "DNS", "DNS_ROUND_ROBIN") and len(spec.hosts) > 1:
        _check_shared_ports(report, spec)
    if spec.resolution == "DYNAMIC_DNS":
        _check_dynamic(report, spec)


def _check_dns(report: Report, spec: ServiceEntrySpec) -> None:
    if not spec.endpoints:
        for index, host in enumerate(spec.hosts):
            if host.startswith("*"):
                report.error(
                    f"spec.hosts[{index}]", "a wildcard cannot be resolved", "give endpoints, or name the host"
                )
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        report.error("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint at most", "use DNS")


def _check_shared_ports(report: Report, spec: ServiceEntrySpec) -> None:
    for index, port in enumerate(spec.ports):
        if not _has_names(port.protocol):
            message = f"port {port.number} cannot tell its hosts apart: only HTTP and TLS carry the host's name"
            report.error(f"spec.ports[{index}]", message, "write one entry a host")


def _has_names(protocol: str | None) -> bool:
    known = parse_protocol(protocol or "")
    return known is not None and (known.is_http or known.is_tls)


def _check_dynamic(report: Report, spec: ServiceEntrySpec) -> None:
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            report.error(f"spec.hosts[{index}]", "DYNAMIC_DNS is for wildcard hosts", "use DNS")
    if spec.addresses:
        report.error("spec.addresses", "DYNAMIC_DNS takes no addresses")
    if spec.endpoints or spec.workload_selector is not None:
        report.error("spec.endpoints", "DYNAMIC_DNS takes no endpoints")
    for index, port in enumerate(spec.ports):
        if parse_protocol(port.protocol or "") not in DYNAMIC:
            report.error(f"spec.ports[{index}].protocol", "DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS")


def check_workload_entry(report: Report) -> None:
    check_endpoint(report, "spec", report.resource.spec)


def check_endpoint(report: Report, field: str, entry: WorkloadEntrySpec) -> None:
    """One address behind a service: a WorkloadEntry of its own, or an endpoint of a ServiceEntry."""
    address = entry.address
    if not address:
        if entry.network:
            report.warn(f"{field}.address", "without an address only the network's gateway can reach it")
        else:
            report.error(field, "an endpoint needs an address", code="missing-field")
    elif address.startswith("unix://"):
        path = address.removeprefix("unix://")
        if not is_unix_path(path):
            report.error(f"{field}.address", UNIX_PATH, "write unix:///path")
        if entry.ports:
            report.error(f"{field}.ports", "a Unix socket has no ports", "leave ports out")
    elif not is_ip(address) and not is_host(address):
        report.error(f"{field}.address", f"{address!r} is no address and no host name")
    for name, number in entry.ports.items():
        if not is_label(name.lower()):
            report.error(f"{field}.ports.{name}", f"{name!r} is no name of a port")
        check_port(report, f"{field}.ports.{name}", number)
    check_labels(report, f"{field}.labels", entry.labels)
    for name, text, most in (
        ("address", address, MAX_ADDRESS),
        ("locality", entry.locality or "", MAX_LOCALITY),
        ("network", entry.network or "", MAX_LOCALITY),
        ("serviceAccount", entry.service_account or "", MAX_ACCOUNT),
    ):
        if len(text) > most:
            report.error(f"{field}.{name}", f"{name} has at most {most} characters")
