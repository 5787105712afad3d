"""Endpoints: the members of a cluster, by locality and priority.

Comes in: ``EndpointSet``. Goes out: ``ClusterLoadAssignment``. Each endpoint carries what telemetry says about its
workload and whether it speaks mesh TLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from lateen.envoy import wire
from lateen.plan.clusters import Endpoint, EndpointSet, LocalityEndpoints
from lateen.values.packed_labels import UNKNOWN
from lateen.values.told_names import joined

TLS_MATCH_NAMESPACE = "envoy.transport_socket_match"


def load_assignment(endpoints: EndpointSet) -> Any:
    """The message of one cluster's endpoints."""
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=endpoints.cluster,
        endpoints=[_locality(group, endpoints.service) for group in endpoints.localities],
    )


def _locality(group: LocalityEndpoints, service: str) -> Any:
    region, zone, subzone = (*group.locality.split("/"), "", "")[:3]
    locality = base_pb2.Locality(region=region, zone=zone, sub_zone=subzone) if group.locality else None
    return endpoint_components_pb2.LocalityLbEndpoints(
        locality=locality,
        lb_endpoints=[_endpoint(endpoint, service) for endpoint in group.endpoints],
        load_balancing_weight=wire.uint32(group.weight) if group.weight is not None else None,
        priority=group.priority,
    )


def _endpoint(endpoint: Endpoint, service: str) -> Any:
    address = wire.socket_address(endpoint.address, endpoint.port)
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address),
        health_status=health_check_pb2.UNKNOWN if endpoint.healthy else health_check_pb2.UNHEALTHY,
        load_balancing_weight=wire.uint32(max(endpoint.weight, 1)),
        metadata=_metadata(endpoint, service),
    )


def _metadata(endpoint: Endpoint, service: str) -> Any:
    tags = dict(endpoint.tags)
    if endpoint.workload:
        tags["workload"] = endpoint.workload
    metadata = base_pb2.Metadata()
    if tags:
        entries = [*((name, value or UNKNOWN) for name, value in tags.items()), (wire.TOLD, _told(service, tags))]
        described = wire.text_struct(entries)
        metadata.filter_metadata[wire.METADATA_NAMESPACE].CopyFrom(described)
    if endpoint.mesh_tls:
        metadata.filter_metadata[TLS_MATCH_NAMESPACE].CopyFrom(wire.text_struct([("tlsMode", "istio")]))
    return metadata


def _told(service: str, tags: Mapping[str, str]) -> str:
    """The names of the service, the namespace of a workload, and its names."""
    app, version = tags.get("app", ""), tags.get("version", "")
    canonical, revision = tags.get("canonical_service") or app, tags.get("canonical_revision") or version
    names = (tags.get("namespace", ""), tags.get("workload", ""), app, version, canonical, revision)
    return f"{service}/{joined(names)}"
