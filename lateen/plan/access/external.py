"""Who is asked about requests: the servers that MeshConfig's ``extensionProviders`` name, and how a proxy reaches them.

Comes in: the name of a provider. Goes out: an ``ExternalAuthorizer`` (None where there is none, so that what should ask
it is denied).
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.findings import Finding, error, warning
from lateen.mesh.model import MeshSnapshot, Service
from lateen.mesh.providers import content_of, provider_named, service_behind
from lateen.plan.access.conditions import mini_syntax
from lateen.plan.access.model import AccessPolicy, ExternalAuthorizer
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.names import outbound_cluster
from lateen.resources.mesh_config import ExtAuthzGrpc, ExtAuthzHttp, RequestBody
from lateen.resources.resource import Resource

DEFAULT_TIMEOUT = 600.0
DEFAULT_STATUS = 403


def find_authorizer(
    snapshot: MeshSnapshot, name: str, policy: Resource
) -> tuple[ExternalAuthorizer | None, list[Finding]]:
    """The authorizer that a policy of action CUSTOM names, as this snapshot's clients see it."""
    origin = policy.origin_at("spec.provider.name")
    denied = "until it is there, what these rules match is denied"
    said = _said(snapshot, name)
    if said is None:
        message = f"no provider {name} for external authorisation is in extensionProviders of a MeshConfig; {denied}"
        return None, [error("unknown-provider", message, origin, "add it, or correct the name")]
    service = service_behind(snapshot.services, said)
    if service is None:
        message = f"provider {name} is port {said.port} of {said.service}, which the mesh does not have; {denied}"
        return None, [error("unknown-provider-service", message, origin, "correct service or port of the provider")]
    findings = []
    port = next(one for one in service.ports if one.number == said.port)
    if not isinstance(said, ExtAuthzHttp) and not port.protocol.is_http2:
        message = f"provider {name} is asked over gRPC, but port {said.port} of {service.hostname} is not declared so"
        findings.append(warning("provider-protocol", message, origin, "name the port grpc, or set appProtocol: grpc"))
    return _authorizer(name, said, service), findings


def asked_clusters(access: AccessPolicy) -> frozenset[str]:
    """The clusters of those who are asked."""
    return frozenset(check.authorizer.cluster for check in access.external)


def _said(snapshot: MeshSnapshot, name: str) -> ExtAuthzGrpc | None:
    provider = provider_named(snapshot.mesh_config, name)
    content = None if provider is None else content_of(provider)
    return content if isinstance(content, ExtAuthzGrpc) else None


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
