"""VirtualService (networking.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Duration, Int32, Percent, Spec, StringMatch, Uint32


class PortSelector(Spec, frozen=True):
    number: Uint32 = 0


class Destination(Spec, frozen=True):
    host: str = ""
    subset: str | None = None
    port: PortSelector | None = None


class HeaderOperations(Spec, frozen=True):
    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Spec, frozen=True):
    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HttpRouteDestination(Spec, frozen=True):
    destination: Destination = Destination()
    weight: Int32 | None = None
    headers: Headers | None = None


class HttpMatchRequest(Spec, frozen=True):
    name: str | None = None
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch | None] = {}
    without_headers: dict[str, StringMatch | None] = {}
    port: Uint32 | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str | None = None
    gateways: tuple[str, ...] = ()
    query_params: dict[str, StringMatch | None] = {}
    ignore_uri_case: bool | None = None
    stat_prefix: str | None = None


class HttpRedirect(Spec, frozen=True):
    uri: str | None = None
    prefix_rewrite: str | None = None
    authority: str | None = None
    port: Uint32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str | None = None
    redirect_code: Uint32 | None = None


class HttpBody(Spec, frozen=True):
    string: str | None = None
    bytes: str | None = None


class HttpDirectResponse(Spec, frozen=True):
    status: Uint32 = 0
    body: HttpBody | None = None


class Delegate(Spec, frozen=True):
    name: str | None = None
    namespace: str | None = None


class RegexRewrite(Spec, frozen=True):
    match: str = ""
    rewrite: str = ""


class HttpRewrite(Spec, frozen=True):
    uri: str | None = None
    authority: str | None = None
    uri_regex_rewrite: RegexRewrite | None = None


class HttpRetry(Spec, frozen=True):
    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str | None = None
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class FaultDelay(Spec, frozen=True):
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None
    percent: Int32 | None = None


class FaultAbort(Spec, frozen=True):
    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HttpFaultInjection(Spec, frozen=True):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HttpMirrorPolicy(Spec, frozen=True):
    destination: Destination = Destination()
    percentage: Percent | None = None


class CorsPolicy(Spec, frozen=True):
    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] | None = None


class HttpRoute(Spec, frozen=True):
    name: str | None = None
    match: tuple[HttpMatchRequest, ...] = ()
    route: tuple[HttpRouteDestination, ...] = ()
    redirect: HttpRedirect | None = None
    direct_response: HttpDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HttpRewrite | None = None
    timeout: Duration | None = None
    retries: HttpRetry | None = None
    fault: HttpFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HttpMirrorPolicy, ...] = ()
    mirror_percent: Uint32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class L4RouteDestination(Spec, frozen=True):
    destination: Destination = Destination()
    weight: Int32 | None = None


class TlsMatchAttributes(Spec, frozen=True):
    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: Uint32 | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str | None = None
    gateways: tuple[str, ...] = ()


class TlsRoute(Spec, frozen=True):
    match: tuple[TlsMatchAttributes, ...] = ()
    route: tuple[L4RouteDestination, ...] = ()


class L4MatchAttributes(Spec, frozen=True):
    destination_subnets: tuple[str, ...] = ()
    port: Uint32 | None = None
    source_subnet: str | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str | None = None
    gateways: tuple[str, ...] = ()


class TcpRoute(Spec, frozen=True):
    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[L4RouteDestination, ...] = ()


class VirtualServiceSpec(Spec, frozen=True):
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[TlsRoute, ...] = ()
    tcp: tuple[TcpRoute, ...] = ()
    export_to: tuple[str, ...] = ()
