"""Semantic checks of one resource, judged by itself: what Istio's own validation refuses, and what it warns of.

Comes in: a decoded resource. Goes out: findings. Patterns that users write are measured with RE2 alone.
"""

from __future__ import annotations

from collections.abc import Callable

from lateen.findings import Finding
from lateen.resources.checks import Report
from lateen.resources.checks.gateway import check_gateway
from lateen.resources.checks.security import check_authorization_policy, check_peer_authentication
from lateen.resources.checks.service_entry import check_service_entry, check_workload_entry
from lateen.resources.checks.traffic_policy import check_destination_rule
from lateen.resources.checks.virtual_service import check_virtual_service
from lateen.resources.resource import Resource

CHECKS: dict[str, Callable[[Report], None]] = {
    "VirtualService": check_virtual_service,
    "DestinationRule": check_destination_rule,
    "Gateway": check_gateway,
    "ServiceEntry": check_service_entry,
    "WorkloadEntry": check_workload_entry,
    "PeerAuthentication": check_peer_authentication,
    "AuthorizationPolicy": check_authorization_policy,
}


def validate_resource(resource: Resource) -> tuple[Finding, ...]:
    """Everything that is wrong with what a resource says."""
    check = CHECKS.get(resource.key.kind)
    if check is None:
        return ()
    report = Report(resource)
    check(report)
    return tuple(report.findings)
