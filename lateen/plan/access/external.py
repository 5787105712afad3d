"""Who is asked about requests: the servers that MeshConfig's ``extensionProviders`` name, and how a proxy reaches them.

Comes in: the name of a provider. Goes out: an ``ExternalAuthorizer`` (None where there is none, so that what should ask
it is denied), and the clusters of those that a proxy would not otherwise know: the mesh names them, so every proxy
reaches them, whatever its Sidecar imports.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.findings import Finding, error, warning
from lateen.mesh.model import Labels, MeshSnapshot, Service
from lateen.mesh.traffic_policy import destination_policy
from lateen.plan.access.conditions import mini_syntax
from lateen.plan.access.model import AccessPolicy, ExternalAuthorizer
from lateen.plan.clusters import Cluster, EndpointSet
from lateen.plan.destinations import plan_destinations
from lateen.plan.localities import place_of
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.names import outbound_cluster
from lateen.resources.mesh_config import ExtAuthzGrpc, ExtAuthzHttp, RequestBody
from lateen.resources.resource import Resource

DEFAULT_TIMEOUT = 600.0
DEFAULT_STATUS = 403
_ANY_NAMESPACE = ("", "*")


def find_authorizer(
    snapshot: MeshSnapshot, name: str, policy: Resource
) -> tuple[ExternalAuthorizer | None, list[Finding]]:
    """The authorizer that a policy of action CUSTOM names, as this snapshot's clients see it."""
    origin = policy.origin_at("spec.provider.name")
    denied = "until it is there, what these rules match is denied"
    said = _provider(snapshot, name)
    if said is None:
        message = f"no provider {name} for external authorisation is in extensionProviders of a MeshConfig; {denied}"
        return None, [error("unknown-provider", message, origin, "add it, or correct the name")]
    service = _service(snapshot, said.service)
    port = next((one for one in service.ports if one.number == said.port), None) if service is not None else None
    if service is None or port is None:
        message = f"provider {name} is port {said.port} of {said.service}, which the mesh does not have; {denied}"
        return None, [error("unknown-provider-service", message, origin, "correct service or port of the provider")]
    findings = []
    if not isinstance(said, ExtAuthzHttp) and not port.protocol.is_http2:
        message = f"provider {name} is asked over gRPC, but port {said.port} of {service.hostname} is not declared so"
        findings.append(warning("provider-protocol", message, origin, "name the port grpc, or set appProtocol: grpc"))
    return _authorizer(name, said, service), findings


def authorizer_hosts(snapshot: MeshSnapshot) -> frozenset[str]:
    """The services that can be asked, whoever sees them."""
    said = (
        provider.envoy_ext_authz_http or provider.envoy_ext_authz_grpc
        for provider in snapshot.mesh_config.extension_providers
    )
    found = (_service(snapshot, provider.service) for provider in said if provider is not None)
    return frozenset(service.hostname for service in found if service is not None)


def external_destinations(
    snapshot: MeshSnapshot, access: AccessPolicy, known: Iterable[Cluster], namespace: str, labels: Labels
) -> tuple[tuple[Cluster, ...], tuple[EndpointSet, ...]]:
    """Clusters and endpoints of authorizers that are not among the ``known`` clusters."""
    if not access.external:
        return (), ()
    missing = {check.authorizer.cluster for check in access.external} - {cluster.name for cluster in known}
    clusters: list[Cluster] = []
    endpoints: list[EndpointSet] = []
    for host in sorted({name.rpartition("|")[2] for name in missing}):
        service = snapshot.services[host]
        policy = destination_policy(snapshot, namespace, labels, service)
        made, members = plan_destinations(snapshot, service, policy, namespace, place=place_of(labels))
        clusters.extend(cluster for cluster in made if cluster.name in missing)
        endpoints.extend(found for found in members if found.cluster in missing)
    return tuple(clusters), tuple(endpoints)


def _provider(snapshot: MeshSnapshot, name: str) -> ExtAuthzGrpc | None:
    for provider in snapshot.mesh_config.extension_providers:
        if provider.name == name:
            return provider.envoy_ext_authz_http or provider.envoy_ext_authz_grpc
    return None


def _service(snapshot: MeshSnapshot, text: str) -> Service | None:
    """The service of ``host`` or ``namespace/host``."""
    namespace, slash, host = text.partition("/")
    found = snapshot.services.get(host if slash else text)
    if found is None or (slash and namespace not in (*_ANY_NAMESPACE, found.namespace)):
        return None
    return found


def _authorizer(name: str, said: ExtAuthzGrpc, service: Service) -> ExternalAuthorizer:
    body = said.include_request_body_in_check or RequestBody()
    http = said if isinstance(said, ExtAuthzHttp) else ExtAuthzHttp()
    return ExternalAuthorizer(
        name=name,
        protocol="http" if isinstance(said, ExtAuthzHttp) else "grpc",
        cluster=outbound_cluster(said.port, "", service.hostname),
        authority=service.hostname,
        timeout=DEFAULT_TIMEOUT if said.timeout is None else float(said.timeout),
        fail_open=bool(said.fail_open),
        routes_anew=bool(said.clear_route_cache),
        status_on_error=int(said.status_on_error or DEFAULT_STATUS),
        body_limit=body.max_request_bytes,
        partial_body=bool(body.allow_partial_message),
        body_as_bytes=bool(body.pack_as_bytes),
        path_prefix=http.path_prefix,
        shown_headers=_names(http.include_request_headers_in_check or http.include_headers_in_check),
        added_headers=tuple(sorted(http.include_additional_headers_in_check.items())),
        headers_on_allow=_names(http.headers_to_upstream_on_allow),
        answer_headers_on_deny=_names(http.headers_to_downstream_on_deny),
        answer_headers_on_allow=_names(http.headers_to_downstream_on_allow),
    )


def _names(texts: Iterable[str]) -> tuple[StringMatcher, ...]:
    """Names of headers, in any case: exact, ``prefix*``, ``*suffix`` or ``*``."""
    matchers = (mini_syntax(text) for text in texts)
    return tuple(
        StringMatcher(MatchKind.REGEX, ".*")
        if matcher.kind is MatchKind.PRESENT
        else StringMatcher(matcher.kind, matcher.value, ignore_case=True)
        for matcher in matchers
    )
