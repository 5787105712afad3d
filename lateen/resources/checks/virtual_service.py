"""VirtualService: hosts, gateways, and TLS and TCP routes; HTTP routes have a file of their own."""

from __future__ import annotations

import re

from lateen.resources.checks import Report, check_export_to
from lateen.resources.checks.destination import check_gateway_name, check_place, check_weighted
from lateen.resources.checks.http_route import check_http_route, is_claim
from lateen.resources.checks.reach import check_reach
from lateen.resources.virtual_service import L4MatchAttributes, TlsMatchAttributes, VirtualServiceSpec
from lateen.values.network import host_within, hosts_overlap, is_cidr, is_ip, is_wildcard_host

_SNI_HOST = re.compile(r"outbound_\.[0-9]+_\..*")


def check_virtual_service(report: Report) -> None:
    spec: VirtualServiceSpec = report.resource.spec
    _check_hosts(report, spec)
    check_export_to(report, spec.export_to)
    for index, name in enumerate(spec.gateways):
        check_gateway_name(report, f"spec.gateways[{index}]", name)
    if not (spec.http or spec.tls or spec.tcp):
        report.error("spec", "a VirtualService needs http, tls or tcp routes", "add a route")
    if not spec.hosts:
        _check_delegate(report, spec)
    for index, route in enumerate(spec.http):
        check_http_route(report, f"spec.http[{index}]", route, is_delegate=not spec.hosts)
    _check_claims(report, spec)
    check_reach(report, spec)
    for index, tls in enumerate(spec.tls):
        field = f"spec.tls[{index}]"
        if not tls.match:
            report.error(field, "a tls route needs a match", "add match with sniHosts")
        if not tls.route:
            report.error(field, "a tls route needs a destination", "add route")
        for number, match in enumerate(tls.match):
            _check_tls_match(report, f"{field}.match[{number}]", match, spec)
        check_weighted(report, field, tls.route)
    for index, tcp in enumerate(spec.tcp):
        field = f"spec.tcp[{index}]"
        if not tcp.route:
            report.error(field, "a tcp route needs a destination", "add route")
        for number, level4 in enumerate(tcp.match):
            _check_level4(report, f"{field}.match[{number}]", level4)
        check_weighted(report, field, tcp.route)


def _check_hosts(report: Report, spec: VirtualServiceSpec) -> None:
    in_mesh = not spec.gateways or "mesh" in spec.gateways
    by_sni = not in_mesh and any(match.sni_hosts for route in spec.tls for match in route.match)
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*" and in_mesh:
            report.error(field, "the host * is for gateways alone", "name the host, or bind to a gateway")
        elif not is_wildcard_host(host) and not is_ip(host) and not (by_sni and _SNI_HOST.fullmatch(host)):
            report.error(field, f"{host!r} is not a host name")
        for other in spec.hosts[:index]:
            if hosts_overlap(host, other):
                report.error(field, f"{host} is already in {other}", "name each host once", "duplicate-host")
                break


def _check_claims(report: Report, spec: VirtualServiceSpec) -> None:
    """Routing by the claims of a token is for gateways alone."""
    if spec.gateways and "mesh" not in spec.gateways:
        return
    for index, route in enumerate(spec.http):
        for number, match in enumerate(route.match):
            for name in (*match.headers, *match.without_headers):
                if is_claim(name):
                    place = f"spec.http[{index}].match[{number}].headers.{name}"
                    report.error(place, "matching on claims is for gateways alone", "name gateways")


def _check_delegate(report: Report, spec: VirtualServiceSpec) -> None:
    if spec.gateways:
        report.error("spec.gateways", "a VirtualService without hosts is a delegate and takes no gateways")
    if spec.tls or spec.tcp:
        report.error("spec", "a delegate has http routes alone")


def _check_tls_match(report: Report, field: str, match: TlsMatchAttributes, spec: VirtualServiceSpec) -> None:
    at_gateway = bool(spec.gateways) and "mesh" not in spec.gateways
    if not match.sni_hosts:
        report.error(field, "a tls match needs sniHosts")
    for index, name in enumerate(match.sni_hosts):
        place = f"{field}.sniHosts[{index}]"
        if is_ip(name):
            report.warn(place, "clients send no SNI for addresses")
        elif not is_wildcard_host(name) and not (at_gateway and _SNI_HOST.fullmatch(name)):
            report.error(place, f"{name!r} is not a host name")
        elif not any(host_within(name, host) for host in spec.hosts):
            report.error(place, f"{name} lies within none of the hosts", "add it to hosts")
    _check_level4(report, field, match)


def _check_level4(report: Report, field: str, match: TlsMatchAttributes | L4MatchAttributes) -> None:
    for index, subnet in enumerate(match.destination_subnets):
        if not is_cidr(subnet):
            report.error(f"{field}.destinationSubnets[{index}]", f"{subnet!r} is no address or address range")
    if isinstance(match, L4MatchAttributes) and match.source_subnet and not is_cidr(match.source_subnet):
        report.error(f"{field}.sourceSubnet", f"{match.source_subnet!r} is no address or address range")
    check_place(report, field, match)
