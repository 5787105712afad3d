"""Routes below HTTP: the ``tls`` and ``tcp`` lists of VirtualServices, as one client meets them.

Comes in: the entries of a VirtualService and the place where it is read. Goes out: weighted targets, and what a chain
of bytes does with them. What depends on the client alone (``sourceLabels``, ``sourceNamespace``, ``gateways``,
``port``) is decided here and never at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lateen.mesh.model import MeshSnapshot, Service, ServicePort
from lateen.mesh.routing import gateway_names, qualified_gateway
from lateen.mesh.traffic_policy import PolicyBlocks, blocks_for, destination_policy
from lateen.mesh.visibility import selects
from lateen.plan import names
from lateen.plan.model import TcpChain, TcpTarget, Telemetry, Tunnel
from lateen.plan.route_building import Reading, destination_cluster
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import L4MatchAttributes, L4RouteDestination, TlsMatchAttributes
from lateen.values.protocol import Protocol

OPAQUE_ALPN = ("istio",)
"""What mesh TLS offers for bytes towards a port whose protocol is not declared: the server must not look for HTTP."""


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


def stat_prefix(found: tuple[TcpTarget, ...], resource: Resource) -> str:
    """What statistics of a route are kept under: its only cluster, or the VirtualService."""
    return found[0].cluster if len(found) == 1 else f"{resource.key.name}.{resource.key.namespace}"


def passing(
    snapshot: MeshSnapshot, found: tuple[TcpTarget, ...], stat_prefix: str, reading: Reading, telemetry: Telemetry
) -> TcpChain:
    """Pass bytes on. What the first destination's policy says of connections holds for all of them."""
    towards = [_towards(snapshot, target.cluster, reading) for target in found]
    first = towards[0].blocks if towards else PolicyBlocks()
    pool, balancer = first.connection_pool, first.load_balancer
    hashing = balancer.consistent_hash if balancer else None
    return TcpChain(
        stat_prefix,
        found,
        telemetry=telemetry,
        idle_timeout=pool.tcp.idle_timeout if pool and pool.tcp else None,
        upstream_alpn=OPAQUE_ALPN if any(one.is_sniffed_in_mesh for one in towards) else (),
        hash_source_ip=bool(hashing and hashing.use_source_ip),
        tunnel=_tunnel(first),
    )


def _tunnel(blocks: PolicyBlocks) -> Tunnel | None:
    settings = blocks.tunnel
    if settings is None:
        return None
    host = f"[{settings.target_host}]" if ":" in settings.target_host else settings.target_host
    return Tunnel((settings.protocol or "CONNECT").upper(), f"{host}:{settings.target_port}")


class _Towards(msgspec.Struct, frozen=True):
    """One destination: its service, its port (None: unknown here) and the policy that holds for calls to it."""

    service: Service | None = None
    port: ServicePort | None = None
    blocks: PolicyBlocks = PolicyBlocks()

    @property
    def is_sniffed_in_mesh(self) -> bool:
        """Whether a sidecar there would look for HTTP in what comes over mesh TLS."""
        if self.service is None or self.port is None or self.port.protocol is not Protocol.UNSPECIFIED:
            return False
        tls = self.blocks.tls
        return tls.mode == "ISTIO_MUTUAL" if tls is not None else not self.service.external


def _towards(snapshot: MeshSnapshot, cluster: str, reading: Reading) -> _Towards:
    number, subset, host = names.outbound_parts(cluster)
    service = snapshot.services.get(host)
    if service is None:
        return _Towards()
    policy = destination_policy(snapshot, reading.client_namespace, reading.client_labels, service)
    return _Towards(service, service.port(number), blocks_for(policy, number, subset))
