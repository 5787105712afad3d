"""What HTTP, TLS and TCP routes share: where they lead, with which weights, and where their matches hold."""

from __future__ import annotations

from collections.abc import Sequence

from lateen.resources.checks import Report, check_labels, check_port
from lateen.resources.virtual_service import (
    Destination,
    HttpMatchRequest,
    HttpRouteDestination,
    L4MatchAttributes,
    L4RouteDestination,
    TlsMatchAttributes,
)
from lateen.values.network import is_host, is_label, is_wildcard_host


def check_gateway_name(report: Report, field: str, name: str) -> None:
    """``gateways``: ``mesh``, the name of a Gateway, or namespace/name."""
    namespace, slash, rest = name.rpartition("/")
    if slash and not (is_label(namespace) and is_label(rest)):
        report.error(field, f"{name!r} is not namespace/name")
    elif not slash and not is_host(name):
        report.error(field, f"{name!r} is no name of a gateway")
    elif not slash and "." in name:
        report.warn(field, f"{name} is the old form of a gateway's name", "write namespace/name")


def check_place(report: Report, field: str, match: HttpMatchRequest | TlsMatchAttributes | L4MatchAttributes) -> None:
    """Where a match holds: the port, the client's labels and namespace, the gateways."""
    check_port(report, f"{field}.port", match.port or None)
    check_labels(report, f"{field}.sourceLabels", match.source_labels)
    if match.source_namespace and not is_label(match.source_namespace):
        report.error(f"{field}.sourceNamespace", f"{match.source_namespace!r} is no namespace")
    for index, name in enumerate(match.gateways):
        check_gateway_name(report, f"{field}.gateways[{index}]", name)


def check_weighted(report: Report, field: str, routes: Sequence[HttpRouteDestination | L4RouteDestination]) -> None:
    """``route``: where to, and how the shares are divided."""
    weights = []
    for index, entry in enumerate(routes):
        place = f"{field}.route[{index}]"
        check_destination(report, f"{place}.destination", entry.destination)
        weight = entry.weight or 0
        if weight < 0:
            report.error(f"{place}.weight", "a weight cannot be negative")
        weights.append(weight)
    if len(weights) > 1 and sum(weights) == 0:
        report.error(f"{field}.route", "the weights add up to 0, so no destination is ever chosen", "give weights")


def check_destination(report: Report, field: str, destination: Destination) -> None:
    """One destination: host, subset and port."""
    if not destination.host:
        report.error(field, "a destination needs a host", "write host: with the service's name", "missing-field")
    elif destination.host == "*":
        report.error(f"{field}.host", "a destination is one host; * means nothing here")
    elif not is_wildcard_host(destination.host):
        report.error(f"{field}.host", f"{destination.host!r} is not a host name")
    if destination.subset is not None and destination.subset and not is_label(destination.subset):
        report.error(f"{field}.subset", f"{destination.subset!r} is no name of a subset")
    if destination.port is not None:
        check_port(report, f"{field}.port.number", destination.port.number)
