"""Routes below HTTP: the ``tls`` and ``tcp`` lists of VirtualServices, as one client meets them.

Comes in: the entries of a VirtualService and the place where it is read. Goes out: weighted targets. What depends on
the client alone (``sourceLabels``, ``sourceNamespace``, ``gateways``, ``port``) is decided here and never at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.routing import gateway_names, qualified_gateway
from lateen.mesh.visibility import selects
from lateen.plan.model import TcpTarget
from lateen.plan.route_building import Reading, destination_cluster
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import L4MatchAttributes, L4RouteDestination, TlsMatchAttributes


def targets(
    snapshot: MeshSnapshot, resource: Resource, entries: Sequence[L4RouteDestination], listener_port: int
) -> tuple[TcpTarget, ...]:
    """Where bytes go. A destination alone gets all of them; of several, those without weight get nothing."""
    weighted = entries if len(entries) == 1 else [entry for entry in entries if entry.weight]
    return tuple(
        TcpTarget(
            destination_cluster(snapshot, entry.destination, resource.key.namespace, listener_port),
            (entry.weight or 1) if len(entries) > 1 else 1,
        )
        for entry in weighted
    )


def applies(resource: Resource, match: TlsMatchAttributes | L4MatchAttributes | None, reading: Reading) -> bool:
    """Whether a match holds for this client at this place; no match holds wherever the VirtualService is bound."""
    bound = gateway_names(resource)
    if match is None:
        return reading.gateway in bound
    if match.gateways:
        bound = tuple(qualified_gateway(name, resource.key.namespace) for name in match.gateways)
    return (
        reading.gateway in bound
        and (not match.port or match.port == reading.port)
        and (not match.source_namespace or match.source_namespace == reading.client_namespace)
        and selects(match.source_labels, reading.client_labels)
    )
