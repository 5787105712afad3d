"""What Lateen does not do yet: fields that are understood and refused, so that none is accepted and ignored.

Comes in: a decoded resource. Goes out: an error for each field in it that has no effect yet.
"""

from __future__ import annotations

from collections.abc import Callable

from lateen.findings import Finding, error, warning
from lateen.resources.checks.mixer import OLDER_INSTANCES
from lateen.resources.fields import set_fields
from lateen.resources.legacy_support import AUTHENTICATION_FIELDS, unusable_rules
from lateen.resources.mesh_support import DEFAULT_CONFIG, PROXY_CONFIG, REFUSED, WITHOUT_EFFECT
from lateen.resources.mixer.adapters import ADAPTERS
from lateen.resources.patch_support import PATCH_FIELDS, unusable_patches
from lateen.resources.registry import BARE
from lateen.resources.request_authentication import LONGEST_TIMEOUT_S
from lateen.resources.resource import Resource
from lateen.resources.telemetry_support import TELEMETRY_FIELDS, unusable_telemetry
from lateen.values.network import is_resource_name
from lateen.values.protocol import Protocol, parse_protocol
from lateen.values.proxy_variables import FOR_PROXIES, is_seen

ADAPTERS_HERE = tuple(name for name, kind in ADAPTERS.items() if kind.params is not None)
REFUSED_ALREADY = ADAPTERS.keys() - {*ADAPTERS_HERE}
"""Kinds of adapters that Lateen does not have: validation says what does their job."""
_TRAFFIC_POLICY = ("loadBalancer.zoneAwareLbSetting",)

UNSUPPORTED: dict[str, frozenset[str]] = {
    "VirtualService": frozenset({"http[].fault.abort.http2Error", "http[].fault.delay.exponentialDelay"}),
    "DestinationRule": frozenset(
        {
            f"{place}.{field}"
            for place in ("trafficPolicy", "subsets[].trafficPolicy")
            for field in (
                *_TRAFFIC_POLICY,
                "retryBudget.budgetInterval",
                *(f"portLevelSettings[].{policy}" for policy in _TRAFFIC_POLICY),
            )
        }
    ),
    "Gateway": frozenset({"servers[].port.targetPort", "servers[].defaultEndpoint"}),
    "ServiceEntry": frozenset({"endpoints[].network"}),
    "WorkloadEntry": frozenset({"network"}),
    "PeerAuthentication": frozenset(),
    "RequestAuthentication": frozenset({"targetRef", "targetRefs"}),
    "ServiceRole": frozenset(),
    "ServiceRoleBinding": frozenset(),
    "RbacConfig": frozenset(),
    "ClusterRbacConfig": frozenset(),
    "Policy": AUTHENTICATION_FIELDS,
    "MeshPolicy": AUTHENTICATION_FIELDS,
    **dict.fromkeys(
        (
            "handler",
            "instance",
            "rule",
            "attributemanifest",
            "QuotaSpec",
            "QuotaSpecBinding",
            "HTTPAPISpec",
            "HTTPAPISpecBinding",
            "adapter",
            "template",
            *ADAPTERS_HERE,
            *OLDER_INSTANCES,
        ),
        frozenset(),
    ),
    "Sidecar": frozenset(),
    "ProxyConfig": frozenset(),
    "EnvoyFilter": PATCH_FIELDS,
    "RateLimit": frozenset(),
    "Telemetry": TELEMETRY_FIELDS,
    "AuthorizationPolicy": frozenset(
        {
            "targetRef",
            "targetRefs",
        }
    ),
}

UNSUPPORTED["MeshConfig"] = frozenset(REFUSED)

WITHOUT_MEANING = {
    "WorkloadGroup": (
        "no workload registers itself here, so nothing is made of a WorkloadGroup",
        "write a WorkloadEntry for each workload",
    ),
}
"""Kinds that cannot have an effect here: why, and what to write instead."""
REMEDIES = dict.fromkeys(
    ("targetRef", "targetRefs"), "there is no Gateway API and no waypoint here: name the workloads by selector"
)
"""What to write in place of a field, where it is not enough to leave it out."""
KUBERNETES = frozenset({"Service", "Secret", "Pod", "Node", "Endpoints", "EndpointSlice", "Ingress", "IngressClass"})
REVISION = "istio.io/rev"
REDIRECTS = (301, 302, 303, 307, 308)


def check_support(resource: Resource) -> tuple[Finding, ...]:
    """An error for each field of a resource that Lateen does not do yet, or one for the whole of it."""
    kind = resource.key.kind
    if kind in REFUSED_ALREADY:
        return ()
    if kind not in UNSUPPORTED and kind not in KUBERNETES:
        message = f"Lateen does not support {kind} yet, so the resource is not used"
        message, remedy = WITHOUT_MEANING.get(kind, (message, "remove it"))
        return (error("unsupported-kind", message, resource.origin_at("kind"), remedy),)
    refused = UNSUPPORTED.get(kind, frozenset())
    prefix = "" if kind in BARE else "spec"
    found = [
        _refusal(resource, path, path.removeprefix("spec."), REMEDIES.get(shape, "leave it out"))
        for path, shape, _ in set_fields(resource.spec, prefix)
        if shape in refused
    ]
    extra = _VALUES.get(kind)
    return (*found, *_metadata(resource), *(extra(resource) if extra else ()))


def _metadata(resource: Resource) -> list[Finding]:
    """A resource for another revision must not simply take effect."""
    found = []
    revision = resource.labels.get(REVISION, "default")
    if revision not in ("", "default"):
        found.append(_refusal(resource, f"metadata.labels.{REVISION}", f"revision {revision}", "remove the label"))
    return found


def _refusal(resource: Resource, path: str, what: str, remedy: str = "leave it out") -> Finding:
    message = f"Lateen does not support {what} yet, so the resource is not used"
    return error("unsupported-field", message, resource.origin_at(path), remedy)


def _gateway(resource: Resource) -> list[Finding]:
    found = []
    for index, server in enumerate(resource.spec.servers):
        place = f"spec.servers[{index}]"
        protocol = server.port.protocol.upper()
        if parse_protocol(protocol) in (None, Protocol.UDP):
            found.append(_refusal(resource, f"{place}.port.protocol", f"protocol {protocol} at gateways", "use TCP"))
        tls = server.tls
        if tls is None:
            continue
        names = (tls.credential_name, *tls.credential_names, tls.ca_cert_credential_name)
        for name in names:
            if name and not is_resource_name(name.removeprefix("kubernetes://")):
                what = f"the credential {name}, which is no Secret of the gateway's own namespace,"
                found.append(_refusal(resource, f"{place}.tls", what, "name a Secret, without a namespace"))
    return found


def _ingress(resource: Resource) -> list[Finding]:
    found = [
        _refusal(resource, path.removesuffix(".resource"), "backends that are not Services", "name a service")
        for path, shape, _ in set_fields(resource.spec)
        if shape in ("defaultBackend.resource", "rules[].http.paths[].backend.resource")
    ]
    for index, tls in enumerate(resource.spec.tls):
        if not is_resource_name(tls.secret_name):
            what = "TLS without a Secret of the gateway's namespace"
            found.append(_refusal(resource, f"spec.tls[{index}]", what, "give secretName"))
    return found


def _virtual_service(resource: Resource) -> list[Finding]:
    return [
        _refusal(resource, path, f"redirects with status {value}", "use 301, 302, 303, 307 or 308")
        for path, shape, value in set_fields(resource.spec)
        if shape == "http[].redirect.redirectCode" and value not in (0, *REDIRECTS)
    ]


def _request_authentication(resource: Resource) -> list[Finding]:
    """Warnings on times that are not taken as they are written."""
    found = []
    for index, rule in enumerate(resource.spec.jwt_rules):
        if rule.timeout is None or (rule.timeout <= LONGEST_TIMEOUT_S and not rule.jwks):
            continue
        message = f"keys are fetched within {LONGEST_TIMEOUT_S:g} s at most"
        if rule.jwks:
            message = "timeout is for fetching keys, and these stand in jwks"
        origin = resource.origin_at(f"spec.jwtRules[{index}].timeout")
        found.append(warning("without-effect", message, origin, "leave it out"))
    return found


def _proxy_config(resource: Resource) -> list[Finding]:
    """Warnings on fields that have nothing to change here."""
    return [
        warning(
            "without-effect",
            f"{shape} has no effect here: {PROXY_CONFIG[shape]}",
            resource.origin_at(path),
            "leave it out",
        )
        for path, shape, _ in set_fields(resource.spec)
        if shape in PROXY_CONFIG
    ]


def _sidecar(resource: Resource) -> list[Finding]:
    found = []
    for index, arriving in enumerate(resource.spec.ingress):
        place = f"spec.ingress[{index}]"
        if arriving.capture_mode == "NONE":
            found.append(_refusal(resource, f"{place}.captureMode", "inbound traffic that is not captured"))
        if arriving.bind:
            message = "everything that arrives at a workload is captured, so the address to bind has no effect"
            found.append(warning("without-effect", message, resource.origin_at(f"{place}.bind"), "leave it out"))
    for index, leaving in enumerate(resource.spec.egress):
        if leaving.capture_mode == "NONE" and leaving.port is None:
            found.append(_refusal(resource, f"spec.egress[{index}].captureMode", "NONE without a port", "give port"))
        if leaving.bind.startswith("unix://@"):
            found.append(_refusal(resource, f"spec.egress[{index}].bind", "abstract Unix sockets", "give a path"))
    return found


def _envoy_filter(resource: Resource) -> list[Finding]:
    return [_refusal(resource, path, what, remedy) for path, what, remedy in unusable_patches(resource.spec)]


def _mesh_config(resource: Resource) -> list[Finding]:
    """Warnings on fields that have nothing to change here: the rest of the document holds."""
    found = []
    reasons = {**WITHOUT_EFFECT, **{f"defaultConfig.{name}": why for name, why in DEFAULT_CONFIG.items()}}
    for path, shape, _ in set_fields(resource.spec, ""):
        if shape in reasons:
            message = f"{shape} has no effect here: {reasons[shape]}"
            found.append(warning("without-effect", message, resource.origin_at(path), "leave it out"))
    return found + _unseen_variables(resource, "")


def _legacy_access(resource: Resource) -> list[Finding]:
    return [_refusal(resource, path, what, remedy) for path, what, remedy in unusable_rules(resource.spec)]


def _destination_rule(resource: Resource) -> list[Finding]:
    if resource.spec.workload_selector is not None:
        return []
    message = "a credential holds at gateways; sidecars verify by the machine's roots and show no certificate"
    remedy = "add a workloadSelector for sidecars"
    return [
        warning("credential-at-gateways", message, resource.origin_at(path), remedy)
        for path, shape, _ in set_fields(resource.spec)
        if shape.endswith("tls.credentialName")
    ]


def _telemetry(resource: Resource) -> list[Finding]:
    refused = [_refusal(resource, path, what, remedy) for path, what, remedy in unusable_telemetry(resource.spec)]
    return refused + _unseen_variables(resource, "spec")


def _unseen_variables(resource: Resource, prefix: str) -> list[Finding]:
    """Warnings on variables of the environment that proxies do not see."""
    return [
        warning(
            "unseen-variable",
            f"proxies do not see the variable {name}: they are given those that begin with {FOR_PROXIES}",
            resource.origin_at(path),
            f"call it {FOR_PROXIES}{name.upper()}",
        )
        for path, shape, name in set_fields(resource.spec, prefix)
        if shape.endswith((".environment.name", ".envName")) and not is_seen(name)
    ]


_VALUES: dict[str, Callable[[Resource], list[Finding]]] = {
    "DestinationRule": _destination_rule,
    "EnvoyFilter": _envoy_filter,
    "Gateway": _gateway,
    "Ingress": _ingress,
    "MeshConfig": _mesh_config,
    "ProxyConfig": _proxy_config,
    "ServiceRole": _legacy_access,
    "ServiceRoleBinding": _legacy_access,
    "Sidecar": _sidecar,
    "Telemetry": _telemetry,
    "RequestAuthentication": _request_authentication,
    "VirtualService": _virtual_service,
}
