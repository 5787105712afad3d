"""Which kinds there are: an explicit table from API group, version and kind to the struct that reads it."""

from __future__ import annotations

import msgspec

from lateen.resources.destination_rule import DestinationRuleSpec
from lateen.resources.envoy_filter import EnvoyFilterSpec
from lateen.resources.extensions import TrafficExtensionSpec, WasmPluginSpec
from lateen.resources.gateway import GatewaySpec
from lateen.resources.ingress import IngressClassSpec, IngressSpec
from lateen.resources.kubernetes import KubernetesServiceSpec, SecretSpec
from lateen.resources.kubernetes_endpoints import EndpointsContent, EndpointSliceContent, NodeContent, PodContent
from lateen.resources.legacy_access import RbacConfigSpec, ServiceRoleBindingSpec, ServiceRoleSpec
from lateen.resources.legacy_authentication import AuthenticationPolicySpec
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.mesh_networks import MeshNetworksSpec
from lateen.resources.mixer.adapters import ADAPTERS, UnreadParams
from lateen.resources.mixer.bound import (
    AttributeManifestSpec,
    DescriptorSpec,
    HttpApiSpecBindingSpec,
    HttpApiSpecSpec,
    QuotaSpecBindingSpec,
    QuotaSpecSpec,
)
from lateen.resources.mixer.kinds import HandlerSpec, InstanceSpec, RuleSpec
from lateen.resources.mixer.templates import TEMPLATES
from lateen.resources.proxy_config import ProxyConfigSpec
from lateen.resources.rate_limit import RateLimitSpec
from lateen.resources.request_authentication import RequestAuthenticationSpec
from lateen.resources.security import AuthorizationPolicySpec, PeerAuthenticationSpec
from lateen.resources.service_entry import ServiceEntrySpec
from lateen.resources.sidecar import SidecarSpec
from lateen.resources.telemetry import TelemetrySpec
from lateen.resources.virtual_service import VirtualServiceSpec
from lateen.resources.workload_entry import WorkloadEntrySpec
from lateen.resources.workload_group import WorkloadGroupSpec

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
RBAC = "rbac.istio.io"
AUTHENTICATION = "authentication.istio.io"
MIXER = "config.istio.io"
TELEMETRY = "telemetry.istio.io"
EXTENSIONS = "extensions.istio.io"
MESH = "mesh.istio.io"
LATEEN = "lateen.io"
KUBERNETES_NETWORKING = "networking.k8s.io"
DISCOVERY = "discovery.k8s.io"
_NETWORKING_VERSIONS = ("v1", "v1beta1", "v1alpha3")
_SECURITY_VERSIONS = ("v1", "v1beta1")
_MIXER_VERSIONS = ("v1alpha2",)


class Kind(msgspec.Struct, frozen=True):
    """One kind: its group, versions, and the struct of its content.

    ``flat``: the content stands beside metadata. ``bare``: it is a document of its own form, which needs neither
    apiVersion nor metadata.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    struct: type[msgspec.Struct]
    flat: bool = False
    bare: bool = False


KINDS: tuple[Kind, ...] = (
    Kind("VirtualService", NETWORKING, _NETWORKING_VERSIONS, VirtualServiceSpec),
    Kind("DestinationRule", NETWORKING, _NETWORKING_VERSIONS, DestinationRuleSpec),
    Kind("Gateway", NETWORKING, _NETWORKING_VERSIONS, GatewaySpec),
    Kind("ServiceEntry", NETWORKING, _NETWORKING_VERSIONS, ServiceEntrySpec),
    Kind("WorkloadEntry", NETWORKING, _NETWORKING_VERSIONS, WorkloadEntrySpec),
    Kind("PeerAuthentication", SECURITY, _SECURITY_VERSIONS, PeerAuthenticationSpec),
    Kind("AuthorizationPolicy", SECURITY, _SECURITY_VERSIONS, AuthorizationPolicySpec),
    Kind("RequestAuthentication", SECURITY, _SECURITY_VERSIONS, RequestAuthenticationSpec),
    Kind("ServiceRole", RBAC, ("v1alpha1",), ServiceRoleSpec),
    Kind("ServiceRoleBinding", RBAC, ("v1alpha1",), ServiceRoleBindingSpec),
    Kind("RbacConfig", RBAC, ("v1alpha1",), RbacConfigSpec),
    Kind("ClusterRbacConfig", RBAC, ("v1alpha1",), RbacConfigSpec),
    Kind("Policy", AUTHENTICATION, ("v1alpha1",), AuthenticationPolicySpec),
    Kind("MeshPolicy", AUTHENTICATION, ("v1alpha1",), AuthenticationPolicySpec),
    Kind("handler", MIXER, _MIXER_VERSIONS, HandlerSpec),
    Kind("instance", MIXER, _MIXER_VERSIONS, InstanceSpec),
    Kind("rule", MIXER, _MIXER_VERSIONS, RuleSpec),
    Kind("attributemanifest", MIXER, _MIXER_VERSIONS, AttributeManifestSpec),
    Kind("QuotaSpec", MIXER, _MIXER_VERSIONS, QuotaSpecSpec),
    Kind("QuotaSpecBinding", MIXER, _MIXER_VERSIONS, QuotaSpecBindingSpec),
    Kind("HTTPAPISpec", MIXER, _MIXER_VERSIONS, HttpApiSpecSpec),
    Kind("HTTPAPISpecBinding", MIXER, _MIXER_VERSIONS, HttpApiSpecBindingSpec),
    Kind("adapter", MIXER, _MIXER_VERSIONS, DescriptorSpec),
    Kind("template", MIXER, _MIXER_VERSIONS, DescriptorSpec),
    *(Kind(one.name, MIXER, _MIXER_VERSIONS, one.params or UnreadParams) for one in ADAPTERS.values()),
    *(Kind(one.name, MIXER, _MIXER_VERSIONS, one.params) for one in TEMPLATES.values()),
    Kind("WorkloadGroup", NETWORKING, _NETWORKING_VERSIONS, WorkloadGroupSpec),
    Kind("Sidecar", NETWORKING, _NETWORKING_VERSIONS, SidecarSpec),
    Kind("EnvoyFilter", NETWORKING, ("v1alpha3",), EnvoyFilterSpec),
    Kind("ProxyConfig", NETWORKING, ("v1beta1",), ProxyConfigSpec),
    Kind("Telemetry", TELEMETRY, ("v1", "v1alpha1"), TelemetrySpec),
    Kind("WasmPlugin", EXTENSIONS, ("v1alpha1",), WasmPluginSpec),
    Kind("TrafficExtension", EXTENSIONS, ("v1alpha1",), TrafficExtensionSpec),
    Kind("RateLimit", LATEEN, ("v1alpha1",), RateLimitSpec),
    Kind("MeshConfig", MESH, ("v1alpha1",), MeshConfigSpec, flat=True, bare=True),
    Kind("MeshNetworks", MESH, ("v1alpha1",), MeshNetworksSpec, flat=True, bare=True),
    Kind("Service", "", ("v1",), KubernetesServiceSpec),
    Kind("Secret", "", ("v1",), SecretSpec, flat=True),
    Kind("Pod", "", ("v1",), PodContent, flat=True),
    Kind("Node", "", ("v1",), NodeContent, flat=True),
    Kind("Endpoints", "", ("v1",), EndpointsContent, flat=True),
    Kind("EndpointSlice", DISCOVERY, ("v1",), EndpointSliceContent, flat=True),
    Kind("Ingress", KUBERNETES_NETWORKING, ("v1",), IngressSpec),
    Kind("IngressClass", KUBERNETES_NETWORKING, ("v1",), IngressClassSpec),
)
BARE = {kind.name: kind for kind in KINDS if kind.bare}
BY_GROUP_AND_NAME = {(kind.group, kind.name): kind for kind in KINDS}
KNOWN_GROUPS = frozenset(
    {
        NETWORKING,
        SECURITY,
        TELEMETRY,
        EXTENSIONS,
        MESH,
        MIXER,
        RBAC,
        AUTHENTICATION,
        LATEEN,
    }
)
