"""Which kinds there are: an explicit table from API group, version and kind to the struct that reads it."""

from __future__ import annotations

import msgspec

from lateen.resources.destination_rule import DestinationRuleSpec
from lateen.resources.gateway import GatewaySpec
from lateen.resources.kubernetes import KubernetesServiceSpec, SecretSpec
from lateen.resources.security import AuthorizationPolicySpec, PeerAuthenticationSpec
from lateen.resources.service_entry import ServiceEntrySpec
from lateen.resources.virtual_service import VirtualServiceSpec
from lateen.resources.workload_entry import WorkloadEntrySpec

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
_NETWORKING_VERSIONS = ("v1", "v1beta1", "v1alpha3")
_SECURITY_VERSIONS = ("v1", "v1beta1")


class Kind(msgspec.Struct, frozen=True):
    """One kind: its group, versions, and the struct of its content. ``flat``: the content stands beside metadata."""

    name: str
    group: str
    versions: tuple[str, ...]
    struct: type[msgspec.Struct]
    flat: bool = False


KINDS: tuple[Kind, ...] = (
    Kind("VirtualService", NETWORKING, _NETWORKING_VERSIONS, VirtualServiceSpec),
    Kind("DestinationRule", NETWORKING, _NETWORKING_VERSIONS, DestinationRuleSpec),
    Kind("Gateway", NETWORKING, _NETWORKING_VERSIONS, GatewaySpec),
    Kind("ServiceEntry", NETWORKING, _NETWORKING_VERSIONS, ServiceEntrySpec),
    Kind("WorkloadEntry", NETWORKING, _NETWORKING_VERSIONS, WorkloadEntrySpec),
    Kind("PeerAuthentication", SECURITY, _SECURITY_VERSIONS, PeerAuthenticationSpec),
    Kind("AuthorizationPolicy", SECURITY, _SECURITY_VERSIONS, AuthorizationPolicySpec),
    Kind("Service", "", ("v1",), KubernetesServiceSpec),
    Kind("Secret", "", ("v1",), SecretSpec, flat=True),
)
BY_GROUP_AND_NAME = {(kind.group, kind.name): kind for kind in KINDS}
ISTIO_GROUPS = frozenset(
    {
        NETWORKING,
        SECURITY,
        "telemetry.istio.io",
        "extensions.istio.io",
        "config.istio.io",
        "rbac.istio.io",
        "authentication.istio.io",
    }
)
