"""Semantic checks of one resource, judged by itself: what Istio's own validation refuses, and what it warns of.

Comes in: a decoded resource. Goes out: findings. Patterns that users write are measured with RE2 alone.
"""

from __future__ import annotations

from collections.abc import Callable

from lateen.findings import Finding
from lateen.resources.checks import Report
from lateen.resources.checks.envoy_filter import check_envoy_filter
from lateen.resources.checks.extensions import check_traffic_extension, check_wasm_plugin
from lateen.resources.checks.gateway import check_gateway
from lateen.resources.checks.ingress import check_ingress, check_ingress_class
from lateen.resources.checks.kubernetes import check_secret, check_service
from lateen.resources.checks.kubernetes_endpoints import check_endpoint_slice, check_endpoints, check_pod
from lateen.resources.checks.legacy_access import check_rbac_config, check_service_role, check_service_role_binding
from lateen.resources.checks.legacy_authentication import check_authentication_policy
from lateen.resources.checks.mesh_config import check_mesh_config
from lateen.resources.checks.mesh_networks import check_mesh_networks
from lateen.resources.checks.metadata import check_metadata
from lateen.resources.checks.mixer import OLDER_HANDLERS, OLDER_INSTANCES, check_handler, check_instance, check_rule
from lateen.resources.checks.mixer_bound import (
    check_api_binding,
    check_api_spec,
    check_manifest,
    check_quota_binding,
    check_quota_spec,
)
from lateen.resources.checks.mixer_outside import check_adapter, check_template
from lateen.resources.checks.rate_limit import check_rate_limit
from lateen.resources.checks.request_authentication import check_request_authentication
from lateen.resources.checks.security import check_authorization_policy, check_peer_authentication
from lateen.resources.checks.service_entry import check_service_entry, check_workload_entry
from lateen.resources.checks.sidecar import check_sidecar
from lateen.resources.checks.telemetry import check_telemetry
from lateen.resources.checks.traffic_policy import check_destination_rule
from lateen.resources.checks.virtual_service import check_virtual_service
from lateen.resources.checks.workload_group import check_proxy_config, check_workload_group
from lateen.resources.resource import Resource

CHECKS: dict[str, Callable[[Report], None]] = {
    "VirtualService": check_virtual_service,
    "DestinationRule": check_destination_rule,
    "Gateway": check_gateway,
    "ServiceEntry": check_service_entry,
    "WorkloadEntry": check_workload_entry,
    "PeerAuthentication": check_peer_authentication,
    "AuthorizationPolicy": check_authorization_policy,
    "RequestAuthentication": check_request_authentication,
    "ServiceRole": check_service_role,
    "ServiceRoleBinding": check_service_role_binding,
    "RbacConfig": check_rbac_config,
    "ClusterRbacConfig": check_rbac_config,
    "Policy": check_authentication_policy,
    "MeshPolicy": check_authentication_policy,
    "handler": check_handler,
    "instance": check_instance,
    "rule": check_rule,
    "attributemanifest": check_manifest,
    "QuotaSpec": check_quota_spec,
    "QuotaSpecBinding": check_quota_binding,
    "adapter": check_adapter,
    "template": check_template,
    "HTTPAPISpec": check_api_spec,
    "HTTPAPISpecBinding": check_api_binding,
    **dict.fromkeys(OLDER_HANDLERS, check_handler),
    **dict.fromkeys(OLDER_INSTANCES, check_instance),
    "Sidecar": check_sidecar,
    "EnvoyFilter": check_envoy_filter,
    "Telemetry": check_telemetry,
    "WasmPlugin": check_wasm_plugin,
    "TrafficExtension": check_traffic_extension,
    "WorkloadGroup": check_workload_group,
    "ProxyConfig": check_proxy_config,
    "MeshConfig": check_mesh_config,
    "MeshNetworks": check_mesh_networks,
    "RateLimit": check_rate_limit,
    "Service": check_service,
    "Secret": check_secret,
    "Pod": check_pod,
    "Endpoints": check_endpoints,
    "EndpointSlice": check_endpoint_slice,
    "Ingress": check_ingress,
    "IngressClass": check_ingress_class,
}


def validate_resource(resource: Resource) -> tuple[Finding, ...]:
    """Everything that is wrong with what a resource says."""
    report = Report(resource)
    check_metadata(report)
    check = CHECKS.get(resource.key.kind)
    if check is not None:
        check(report)
    return tuple(report.findings)
