"""Routes of one VirtualService, as one client meets them.

Comes in: a VirtualService's ``http`` list and the place where it is read: which gateway, which port, which client.
Goes out: ``Route`` values in order. What depends on the client alone (``sourceLabels``, ``sourceNamespace``,
``gateways``, ``port``) is decided here and never at run time. Nothing is built after a route that catches all.
"""

from __future__ import annotations

import base64

import msgspec

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.routing import MESH_GATEWAY, gateway_names, qualified_gateway
from lateen.mesh.visibility import full_host, selects
from lateen.plan.claims import path_of_claim
from lateen.plan.matching import ClaimMatcher, HeaderMatcher, MatchKind, QueryMatcher, RouteMatch, StringMatcher
from lateen.plan.names import outbound_cluster
from lateen.plan.routes import (
    CorsPolicy,
    DirectResponse,
    Fault,
    FaultAbort,
    FaultDelay,
    Forward,
    HeaderOps,
    Mirror,
    PrefixRewrite,
    Redirect,
    RegexRewrite,
    RetryPolicy,
    Route,
    RouteAction,
    WeightedCluster,
)
from lateen.resources.base import StringMatch
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import (
    CorsPolicy as CorsSettings,
    Destination,
    Headers,
    HttpBody,
    HttpFaultInjection,
    HttpMatchRequest,
    HttpRedirect,
    HttpRetry,
    HttpRoute,
    HttpRouteDestination,
    VirtualServiceSpec,
)
from lateen.values.grpc_status import GRPC_CODES
from lateen.values.names import Origin

DEFAULT_RETRY_ON = ("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes")
DEFAULT_RETRY = RetryPolicy(attempts=2, retry_on=DEFAULT_RETRY_ON)
_AUTHORITY_HEADERS = frozenset({"host", ":authority"})


class Reading(msgspec.Struct, frozen=True):
    """Where routes are read: ``gateway`` is ``mesh`` or ``namespace/name``; ``port`` is the listener's.

    ``scheme`` is ``https`` where the listener ends TLS; ``loopback_prefix`` not 0: the client has no namespace.
    """

    gateway: str
    port: int
    client_namespace: str
    client_labels: Labels
    scheme: str = "http"
    loopback_prefix: int = 0


def build_routes(snapshot: MeshSnapshot, resource: Resource, reading: Reading) -> list[Route]:
    """The routes of a VirtualService that apply in this place."""
    spec: VirtualServiceSpec = resource.spec
    routes: list[Route] = []
    for index, http in enumerate(spec.http):
        field = f"spec.http[{index}]"
        matches = [(number, match) for number, match in enumerate(http.match) if _applies(resource, match, reading)]
        if http.match and not matches:
            continue
        if not http.match and reading.gateway not in gateway_names(resource):
            continue
        action = _action(snapshot, resource, http, reading)
        places: list[tuple[str, HttpMatchRequest | None]] = [
            (f"{field}.match[{number}]", match) for number, match in matches
        ]
        for place, match in places or [(field, None)]:
            route = _route(http, match, action, resource.origin_at(place))
            routes.append(route)
            if route.match.catches_all:
                return routes
    return routes


def default_route(snapshot: MeshSnapshot, cluster: str, origin: Origin) -> Route:
    """What holds for a host without a VirtualService."""
    retry = _retry(snapshot, None)
    return Route("default", RouteMatch(), Forward((WeightedCluster(cluster, 1),), retry=retry), origin)


def _applies(resource: Resource, match: HttpMatchRequest, reading: Reading) -> bool:
    """Decide the parts of a match that the client's place decides."""
    if match.port and match.port != reading.port:
        return False
    if match.gateways:
        named = {qualified_gateway(name, resource.key.namespace) for name in match.gateways}
        return reading.gateway in named
    if reading.gateway not in gateway_names(resource):
        return False
    if reading.gateway != MESH_GATEWAY:
        return True
    if match.source_namespace and match.source_namespace != reading.client_namespace:
        return False
    return selects(match.source_labels, reading.client_labels)


def _route(http: HttpRoute, match: HttpMatchRequest | None, action: RouteAction, origin: Origin) -> Route:
    name = http.name or ""
    if match is not None and match.name:
        name = f"{name}.{match.name}" if name else match.name
    request, _ = _header_ops(http.headers, "request")
    response, _ = _header_ops(http.headers, "response")
    return Route(
        name=name or "default",
        match=_match(match) if match is not None else RouteMatch(),
        action=action,
        origin=origin,
        fault=_fault(http.fault),
        cors=_cors(http.cors_policy),
        request_headers=request,
        response_headers=response,
        stat_prefix=(match.stat_prefix or "") if match is not None else "",
    )


# --- matching --------------------------------------------------------------------------------------------------------


def string_matcher(match: StringMatch | None, *, ignore_case: bool = False) -> StringMatcher:
    """A StringMatch; one that says nothing, or the old way of it, ``regex: "*"``, asks only that the value is there."""
    if match is None or match.regex == "*":
        return StringMatcher(MatchKind.PRESENT)
    if match.exact is not None:
        return StringMatcher(MatchKind.EXACT, match.exact, ignore_case)
    if match.prefix is not None:
        return StringMatcher(MatchKind.PREFIX, match.prefix, ignore_case)
    if match.regex is not None:
        return StringMatcher(MatchKind.REGEX, match.regex)
    return StringMatcher(MatchKind.PRESENT)


def _match(match: HttpMatchRequest) -> RouteMatch:
    path = StringMatcher(MatchKind.PREFIX, "/")
    if match.uri is not None:
        path = string_matcher(match.uri, ignore_case=bool(match.ignore_uri_case))
        if path.kind is MatchKind.PRESENT or path == StringMatcher(MatchKind.REGEX, ".*"):
            path = StringMatcher(MatchKind.PREFIX, "/")
    claims: list[ClaimMatcher] = []
    headers: list[HeaderMatcher] = []
    for name, value in sorted(match.headers.items()):
        if path_of_claim(name):
            claims.append(ClaimMatcher(path_of_claim(name), string_matcher(value)))
        else:
            headers.append(HeaderMatcher(name.lower(), string_matcher(value)))
    for name, value in sorted(match.without_headers.items()):
        if path_of_claim(name):
            claims.append(ClaimMatcher(path_of_claim(name), string_matcher(value), invert=True))
            continue
        wanted = string_matcher(value)
        present = wanted.kind is MatchKind.PRESENT
        headers.append(HeaderMatcher(name.lower(), wanted, invert=True, missing_as_empty=not present))
    for name, pseudo in ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme)):
        if pseudo is not None:
            headers.append(HeaderMatcher(name, string_matcher(pseudo)))
    query = [QueryMatcher(name, string_matcher(value)) for name, value in sorted(match.query_params.items())]
    return RouteMatch(path, tuple(headers), tuple(query), tuple(claims))


# --- actions ---------------------------------------------------------------------------------------------------------


def _action(snapshot: MeshSnapshot, resource: Resource, http: HttpRoute, reading: Reading) -> RouteAction:
    if http.redirect is not None:
        return _redirect(http.redirect, reading)
    if http.direct_response is not None:
        return DirectResponse(http.direct_response.status, _body(http.direct_response.body))
    _, authority = _header_ops(http.headers, "request")
    rewrite = http.rewrite
    weighted = [_weighted(snapshot, resource, entry, reading) for entry in http.route]
    if len(weighted) > 1:
        weighted = [entry for entry in weighted if entry.weight > 0]
    else:
        weighted = [msgspec.structs.replace(entry, weight=1) for entry in weighted]
    return Forward(
        clusters=tuple(weighted),
        timeout=http.timeout or 0.0,
        retry=_retry(snapshot, http.retries),
        path_rewrite=_path_rewrite(http),
        host_rewrite=(rewrite.authority or "") if rewrite is not None and rewrite.authority else authority,
        mirrors=_mirrors(snapshot, resource, http, reading),
    )


def _body(body: HttpBody | None) -> bytes:
    """A body given as text, or as base64 (checked before)."""
    if body is None:
        return b""
    return base64.b64decode(body.bytes) if body.bytes is not None else (body.string or "").encode()


def _path_rewrite(http: HttpRoute) -> PrefixRewrite | RegexRewrite | None:
    rewrite = http.rewrite
    if rewrite is None:
        return None
    if rewrite.uri_regex_rewrite is not None:
        return RegexRewrite(rewrite.uri_regex_rewrite.match, rewrite.uri_regex_rewrite.rewrite)
    return PrefixRewrite(rewrite.uri) if rewrite.uri else None


def _weighted(
    snapshot: MeshSnapshot, resource: Resource, entry: HttpRouteDestination, reading: Reading
) -> WeightedCluster:
    request, authority = _header_ops(entry.headers, "request")
    response, _ = _header_ops(entry.headers, "response")
    return WeightedCluster(
        cluster=destination_cluster(snapshot, entry.destination, resource.key.namespace, reading.port),
        weight=entry.weight or 0,
        request_headers=request,
        response_headers=response,
        host_rewrite=authority,
    )


def destination_cluster(snapshot: MeshSnapshot, destination: Destination, namespace: str, listener_port: int) -> str:
    """The cluster of a destination. Its port: the one said, else the service's only one, else the listener's."""
    host = snapshot.concrete(full_host(destination.host, namespace, snapshot.settings.domain))
    service = snapshot.services.get(host)
    if destination.port is not None and destination.port.number:
        port = destination.port.number
    elif service is not None and len(service.ports) == 1:
        port = service.ports[0].number
    else:
        port = listener_port
    return outbound_cluster(port, destination.subset or "", host)


def _redirect(settings: HttpRedirect, reading: Reading) -> Redirect:
    port = settings.port or None
    scheme = settings.scheme or reading.scheme
    if settings.derive_port == "FROM_REQUEST_PORT":
        port = reading.port
    if (port, scheme) in ((80, "http"), (443, "https")):
        port = None
    return Redirect(
        code=settings.redirect_code or 301,
        path=settings.uri or "",
        prefix=settings.prefix_rewrite or "",
        authority=settings.authority or "",
        scheme=settings.scheme or "",
        port=port,
    )


def _retry(snapshot: MeshSnapshot, said: HttpRetry | None) -> RetryPolicy | None:
    """The mesh's policy where nothing is said; none at all where attempts are 0, as in ``retries: {}``."""
    settings = said if said is not None else snapshot.mesh_config.default_http_retry_policy
    if settings is None:
        return DEFAULT_RETRY
    if not settings.attempts:
        return None
    tokens = [token.strip() for token in (settings.retry_on or "").split(",") if token.strip()]
    codes = tuple(int(token) for token in tokens if token.isdigit())
    words = [token for token in tokens if not token.isdigit()] if tokens else list(DEFAULT_RETRY_ON)
    if codes and "retriable-status-codes" not in words:
        words.append("retriable-status-codes")
    return RetryPolicy(
        attempts=settings.attempts,
        retry_on=tuple(words),
        retriable_status_codes=codes,
        per_try_timeout=settings.per_try_timeout,
        backoff=settings.backoff,
        avoid_previous_hosts=settings.retry_ignore_previous_hosts is not False,
        previous_priorities=bool(settings.retry_remote_localities),
    )


def _mirrors(snapshot: MeshSnapshot, resource: Resource, http: HttpRoute, reading: Reading) -> tuple[Mirror, ...]:
    """All mirrors; a percentage that is not given is 100."""
    namespace = resource.key.namespace
    found = []
    if http.mirror is not None:
        percentage: float = 100.0
        if http.mirror_percentage is not None:
            percentage = http.mirror_percentage.value or 0.0
        elif http.mirror_percent is not None:
            percentage = float(http.mirror_percent)
        found.append(Mirror(destination_cluster(snapshot, http.mirror, namespace, reading.port), percentage))
    for mirror in http.mirrors:
        share = 100.0 if mirror.percentage is None else (mirror.percentage.value or 0.0)
        found.append(Mirror(destination_cluster(snapshot, mirror.destination, namespace, reading.port), share))
    return tuple(mirror for mirror in found if mirror.percentage > 0)


def _fault(settings: HttpFaultInjection | None) -> Fault | None:
    """Fault injection; a percentage that is not given is 0."""
    if settings is None:
        return None
    delay = abort = None
    if settings.delay is not None and settings.delay.fixed_delay:
        share = settings.delay.percentage.value or 0.0 if settings.delay.percentage else (settings.delay.percent or 0)
        delay = FaultDelay(settings.delay.fixed_delay, float(share))
    if settings.abort is not None and (settings.abort.http_status is not None or settings.abort.grpc_status):
        share = settings.abort.percentage.value or 0.0 if settings.abort.percentage else 0.0
        grpc = settings.abort.grpc_status
        abort = FaultAbort(float(share), settings.abort.http_status, GRPC_CODES.index(grpc) if grpc else None)
    return Fault(delay, abort)


def _cors(settings: CorsSettings | None) -> CorsPolicy | None:
    if settings is None:
        return None
    origins = [string_matcher(match) for match in settings.allow_origins]
    for plain in settings.allow_origin if not origins else ():
        everyone = StringMatcher(MatchKind.REGEX, ".*")
        origins.append(everyone if plain == "*" else StringMatcher(MatchKind.EXACT, plain))
    return CorsPolicy(
        allow_origins=tuple(origins),
        allow_methods=tuple(settings.allow_methods),
        allow_headers=tuple(settings.allow_headers),
        expose_headers=tuple(settings.expose_headers),
        max_age=str(int(settings.max_age)) if settings.max_age is not None else "",
        allow_credentials=settings.allow_credentials,
        forward_unmatched_preflights=settings.unmatched_preflights != "IGNORE",
    )


def _header_ops(headers: Headers | None, side: str) -> tuple[HeaderOps, str]:
    """The operations of one side, and the authority that ``Host`` was set to (``set`` beats ``add``)."""
    operations = getattr(headers, side) if headers is not None else None
    if operations is None:
        return HeaderOps(), ""
    authority = ""
    kept: dict[str, list[tuple[str, str]]] = {"set": [], "add": []}
    for verb, pairs in (("add", operations.add), ("set", operations.set)):
        for name, value in pairs.items():
            if side == "request" and name.lower() in _AUTHORITY_HEADERS:
                authority = value
            elif not name.startswith(":"):
                kept[verb].append((name, value))
    remove = tuple(name for name in operations.remove if not name.startswith(":") and name.lower() != "host")
    return HeaderOps(tuple(kept["set"]), tuple(kept["add"]), remove), authority
