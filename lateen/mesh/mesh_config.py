"""What a MeshConfig makes of the settings.

Precedence: a field of the MeshConfig, then ``mesh:`` in ``lateen.yaml``, then the default.
A MeshConfig is one document of the resources, a file of its own (``--mesh-config``) or ``meshConfig:`` in
``lateen.yaml``; of several the first file holds, and the others are findings. Fields that are single values become part
of ``Settings``; blocks (``localityLbSetting``, ``defaultHttpRetryPolicy``...) are read from ``snapshot.mesh_config``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lateen.findings import Finding, error
from lateen.mesh.federation import federation
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.resource import Resource
from lateen.settings import Settings


def with_mesh_config(settings: Settings, resource: Resource | None) -> tuple[Settings, list[Finding]]:
    """The settings that hold with a MeshConfig, and what of it cannot hold."""
    if resource is None:
        return settings, []
    spec: MeshConfigSpec = resource.spec
    changes = {name: value for name, value in _changes(spec).items() if value not in (None, (), "")}
    findings: list[Finding] = []
    if settings.trust_domain_is_fixed and changes.get("trust_domain", settings.trust_domain) != settings.trust_domain:
        del changes["trust_domain"]
        findings.append(
            error(
                "fixed-trust-domain",
                f"the certificates of this mesh are of {settings.trust_domain}; the trust domain stays while it runs",
                resource.origin_at("trustDomain"),
                "set it in lateen.yaml and start the mesh again",
            )
        )
    return msgspec.structs.replace(settings, **changes), findings


def _changes(spec: MeshConfigSpec) -> dict[str, Any]:
    outbound, inbound = spec.outbound_traffic_policy, spec.inbound_traffic_policy
    normalization = spec.path_normalization.normalization if spec.path_normalization else None
    return {
        # as in protobuf, an outbound policy without a mode is the first of the enumeration
        "outbound_policy": (outbound.mode or "REGISTRY_ONLY") if outbound else None,
        "inbound_policy": (inbound.mode or "PASSTHROUGH") if inbound else None,
        "connect_timeout": None if spec.connect_timeout is None else float(spec.connect_timeout),
        "protocol_detection_timeout": None
        if spec.protocol_detection_timeout is None
        else float(spec.protocol_detection_timeout),
        "dns_refresh": None if spec.dns_refresh_rate is None else float(spec.dns_refresh_rate),
        "auto_mtls": spec.enable_auto_mtls,
        "h2_upgrade": spec.h2_upgrade_policy == "UPGRADE" if spec.h2_upgrade_policy else None,
        "path_normalization": "BASE" if normalization == "DEFAULT" else normalization,
        "trust_domain": spec.trust_domain or None,
        "trust_domain_aliases": spec.trust_domain_aliases,
        "federated_domains": federation(spec, (spec.trust_domain or "", *spec.trust_domain_aliases)).names,
        "root_namespace": spec.root_namespace or None,
        "service_export_to": spec.default_service_export_to,
        "virtual_service_export_to": spec.default_virtual_service_export_to,
        "destination_rule_export_to": spec.default_destination_rule_export_to,
        "ingress_mode": None if spec.ingress_controller_mode == "UNSPECIFIED" else spec.ingress_controller_mode,
        "ingress_class": spec.ingress_class or None,
        "ingress_gateway": spec.ingress_selector or _ingress_service(spec.ingress_service),
    }


def _ingress_service(name: str | None) -> str | None:
    """The label that goes with a name of the gateways' Service, where that is not the usual one."""
    return name if name != "istio-ingressgateway" else None
