"""VirtualService: what one of them can say."""

from __future__ import annotations

import base64
import binascii

import msgspec

from lateen.resources.checks import (
    Report,
    check_duration,
    check_export_to,
    check_labels,
    check_pattern,
    check_percentage,
    check_port,
    check_string_match,
    is_cidr,
    is_header,
    is_host,
    is_ip,
    is_label,
    is_wildcard_host,
)
from lateen.resources.virtual_service import (
    CorsPolicy,
    Destination,
    Headers,
    HttpFaultInjection,
    HttpMatchRequest,
    HttpRetry,
    HttpRoute,
    VirtualServiceSpec,
)
from lateen.values.grpc_status import GRPC_CODES

RETRY_WORDS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
MAX_BODY = 1_000_000
LARGE_BODY = 100_000


def check_virtual_service(report: Report) -> None:
    spec: VirtualServiceSpec = report.resource.spec
    _check_hosts(report, spec)
    check_export_to(report, spec.export_to)
    for index, name in enumerate(spec.gateways):
        check_gateway_name(report, f"spec.gateways[{index}]", name)
    if not (spec.http or spec.tls or spec.tcp):
        report.error("spec", "a VirtualService needs http, tls or tcp routes", "add a route")
    if not spec.hosts:
        _check_delegate(report, spec)
    for index, route in enumerate(spec.http):
        _check_http(report, f"spec.http[{index}]", route, is_delegate=not spec.hosts)
    _check_reach(report, spec)
    for index, tls in enumerate(spec.tls):
        field = f"spec.tls[{index}]"
        if not tls.match:
            report.error(field, "a tls route needs a match", "add match with sniHosts")
        if not tls.route:
            report.error(field, "a tls route needs a destination", "add route")
        for number, match in enumerate(tls.match):
            _check_tls_match(report, f"{field}.match[{number}]", match, spec.hosts)
        _check_weighted(report, field, tls.route)
    for index, tcp in enumerate(spec.tcp):
        field = f"spec.tcp[{index}]"
        if not tcp.route:
            report.error(field, "a tcp route needs a destination", "add route")
        for number, level4 in enumerate(tcp.match):
            _check_level4(report, f"{field}.match[{number}]", level4)
        _check_weighted(report, field, tcp.route)


def check_gateway_name(report: Report, field: str, name: str) -> None:
    namespace, slash, rest = name.rpartition("/")
    if slash and not (is_label(namespace) and rest and is_host(rest)):
        report.error(field, f"{name!r} is not namespace/name")
    elif not slash and not is_host(name):
        report.error(field, f"{name!r} is no name of a gateway")
    elif not slash and "." in name:
        report.warn(field, f"{name} is the old form of a gateway's name", "write namespace/name")


def _check_hosts(report: Report, spec: VirtualServiceSpec) -> None:
    seen: set[str] = set()
    in_mesh = not spec.gateways or "mesh" in spec.gateways
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*" and in_mesh:
            report.error(field, "the host * is for gateways alone", "name the host, or bind to a gateway")
        elif is_ip(host):
            if in_mesh and spec.http and not spec.gateways:
                report.error(field, "an address as host is for gateways alone", "use the service's name")
        elif not is_wildcard_host(host):
            report.error(field, f"{host!r} is not a host name")
        elif "." not in host and host != "*" and not in_mesh:
            report.error(field, "a short name means nothing at a gateway", "write the full name", "short-name")
        if host.lower() in seen:
            report.error(field, f"{host} stands twice", "name each host once", "duplicate-host")
        seen.add(host.lower())


def _check_delegate(report: Report, spec: VirtualServiceSpec) -> None:
    if spec.gateways:
        report.error("spec.gateways", "a VirtualService without hosts is a delegate and takes no gateways")
    if spec.tls or spec.tcp:
        report.error("spec", "a delegate has http routes alone")


def _check_http(report: Report, field: str, route: HttpRoute, *, is_delegate: bool) -> None:
    actions = [
        name
        for name, present in (
            ("route", bool(route.route)),
            ("redirect", route.redirect is not None),
            ("directResponse", route.direct_response is not None),
            ("delegate", route.delegate is not None),
        )
        if present
    ]
    if len(actions) > 1:
        report.error(field, f"{' and '.join(actions)} exclude each other", "keep one of them")
    if not actions:
        report.error(field, "a route needs route, redirect, directResponse or delegate")
    if is_delegate and route.delegate is not None:
        report.error(f"{field}.delegate", "a delegate cannot delegate further")
    for index, match in enumerate(route.match):
        _check_http_match(report, f"{field}.match[{index}]", match)
    _check_http_action(report, field, route)
    _check_headers(report, f"{field}.headers", route.headers)
    check_duration(report, f"{field}.timeout", route.timeout, zero_allowed=True)
    if route.retries is not None:
        _check_retries(report, f"{field}.retries", route.retries)
    if route.fault is not None:
        _check_fault(report, f"{field}.fault", route.fault, route)
    _check_mirrors(report, field, route)
    if route.cors_policy is not None:
        _check_cors(report, f"{field}.corsPolicy", route.cors_policy)
    for index, entry in enumerate(route.route):
        _check_headers(report, f"{field}.route[{index}].headers", entry.headers)
    _check_weighted(report, field, route.route)


def _check_http_action(report: Report, field: str, route: HttpRoute) -> None:
    redirect, rewrite, direct = route.redirect, route.rewrite, route.direct_response
    if redirect is not None:
        parts = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.scheme, redirect.port)
        if not any(parts) and redirect.derive_port is None:
            report.error(f"{field}.redirect", "a redirect needs uri, prefixRewrite, authority, scheme or port")
        if redirect.uri and redirect.prefix_rewrite:
            report.error(f"{field}.redirect", "uri and prefixRewrite exclude each other", "keep one of them")
        if redirect.prefix_rewrite and not all(match.uri and match.uri.prefix for match in route.match):
            report.error(f"{field}.redirect.prefixRewrite", "prefixRewrite needs prefix matches", "match uri.prefix")
        if redirect.scheme and redirect.scheme not in ("http", "https"):
            report.error(f"{field}.redirect.scheme", f"{redirect.scheme!r} is neither http nor https")
        if redirect.redirect_code is not None and not 300 <= redirect.redirect_code <= 399:
            report.error(f"{field}.redirect.redirectCode", f"{redirect.redirect_code} is no redirect", "use 301 or 302")
        check_port(report, f"{field}.redirect.port", redirect.port or None)
    if direct is not None:
        _check_direct(report, f"{field}.directResponse", route)
    if rewrite is not None:
        if redirect is not None or direct is not None:
            report.error(f"{field}.rewrite", "rewrite goes with route alone")
        if not (rewrite.uri or rewrite.authority or rewrite.uri_regex_rewrite):
            report.error(f"{field}.rewrite", "a rewrite needs uri, authority or uriRegexRewrite")
        if rewrite.uri_regex_rewrite is not None:
            if rewrite.uri:
                report.error(f"{field}.rewrite", "uri and uriRegexRewrite exclude each other", "keep one of them")
            if not rewrite.uri_regex_rewrite.rewrite:
                report.error(f"{field}.rewrite.uriRegexRewrite", "uriRegexRewrite needs match and rewrite")
            check_pattern(report, f"{field}.rewrite.uriRegexRewrite.match", rewrite.uri_regex_rewrite.match)


def _check_direct(report: Report, field: str, route: HttpRoute) -> None:
    direct = route.direct_response
    if direct is None:
        return
    if not 200 <= direct.status <= 599:
        report.error(f"{field}.status", f"status {direct.status} is not between 200 and 599")
    body = direct.body
    if body is None:
        return
    if body.string is not None and body.bytes is not None:
        report.error(f"{field}.body", "string and bytes exclude each other", "keep one of them")
    try:
        size = len(base64.b64decode(body.bytes, validate=True)) if body.bytes is not None else 0
    except binascii.Error:
        report.error(f"{field}.body.bytes", "the bytes are not base64")
        return
    size = size or len((body.string or "").encode())
    if size > MAX_BODY:
        report.error(f"{field}.body", "a body can have at most 1 MB")
    elif size > LARGE_BODY:
        report.warn(f"{field}.body", "a body of more than 100 kB costs every proxy that memory")


def _check_http_match(report: Report, field: str, match: HttpMatchRequest) -> None:
    for name in ("uri", "scheme", "method", "authority"):
        value = getattr(match, name)
        if value is not None:
            check_string_match(report, f"{field}.{name}", value)
    for name, matches in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for header, value in matches.items():
            if not is_header(header) and not header.startswith("@request.auth.claims"):
                report.error(f"{field}.{name}.{header}", f"{header!r} is not a header name")
            check_string_match(report, f"{field}.{name}.{header}", value)
    for name, value in match.query_params.items():
        check_string_match(report, f"{field}.queryParams.{name}", value)
    check_port(report, f"{field}.port", match.port)
    check_labels(report, f"{field}.sourceLabels", match.source_labels)
    if match.source_namespace and not is_label(match.source_namespace):
        report.error(f"{field}.sourceNamespace", f"{match.source_namespace!r} is no namespace")
    for index, name in enumerate(match.gateways):
        check_gateway_name(report, f"{field}.gateways[{index}]", name)


def _check_headers(report: Report, field: str, headers: Headers | None) -> None:
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        authorities = 0
        for verb, pairs in (("set", operations.set), ("add", operations.add)):
            for name, value in pairs.items():
                place = f"{field}.{side}.{verb}.{name}"
                authorities += name.lower() in ("host", ":authority")
                if not is_header(name):
                    report.error(place, f"{name!r} is not a header name")
                _check_format(report, place, value)
        if authorities > 1:
            report.error(f"{field}.{side}", "the authority is set twice", "set it once")
        for index, name in enumerate(operations.remove):
            place = f"{field}.{side}.remove[{index}]"
            if name.lower() == "host" or name.startswith(":"):
                report.error(place, f"{name} cannot be removed")
            elif not is_header(name):
                report.error(place, f"{name!r} is not a header name")


def _check_format(report: Report, field: str, value: str) -> None:
    """Envoy's format strings: every % begins and ends a command, or is doubled."""
    if any(character in value for character in "\r\n\0"):
        report.error(field, "a header value cannot hold line breaks")
    rest = value.replace("%%", "")
    if rest.count("%") % 2:
        report.error(field, "a single % begins a command that does not end", "write %% for a percent sign")


def _check_retries(report: Report, field: str, retries: HttpRetry) -> None:
    if retries.attempts < 0:
        report.error(f"{field}.attempts", "attempts cannot be negative")
    others = (retries.per_try_timeout, retries.retry_on, retries.retry_remote_localities, retries.backoff)
    if retries.attempts == 0 and any(other is not None for other in others):
        report.error(field, "attempts of 0 turn retries off; the other fields have no meaning", "set attempts")
    check_duration(report, f"{field}.perTryTimeout", retries.per_try_timeout)
    check_duration(report, f"{field}.backoff", retries.backoff)
    for word in (retries.retry_on or "").split(","):
        text = word.strip()
        known = text in RETRY_WORDS or (text.isdigit() and 100 <= int(text) <= 599)
        if (retries.retry_on or "") and not known:
            report.error(f"{field}.retryOn", f"{text!r} is not a condition to retry on", "for example 5xx, reset")


def _check_fault(report: Report, field: str, fault: HttpFaultInjection, route: HttpRoute) -> None:
    if fault.delay is None and fault.abort is None:
        report.error(field, "a fault needs delay or abort")
    if route.redirect is not None or route.direct_response is not None:
        report.error(field, "a fault goes with route alone")
    delay, abort = fault.delay, fault.abort
    if delay is not None:
        if delay.exponential_delay is not None:
            report.error(f"{field}.delay.exponentialDelay", "exponentialDelay is not supported", "use fixedDelay")
        elif delay.fixed_delay is None:
            report.error(f"{field}.delay", "a delay needs fixedDelay")
        check_duration(report, f"{field}.delay.fixedDelay", delay.fixed_delay)
        check_percentage(
            report, f"{field}.delay.percentage.value", delay.percentage.value if delay.percentage else None
        )
        check_percentage(report, f"{field}.delay.percent", delay.percent)
    if abort is not None:
        if abort.http2_error is not None:
            report.error(f"{field}.abort.http2Error", "http2Error is not supported", "use httpStatus")
        elif abort.http_status is None and abort.grpc_status is None:
            report.error(f"{field}.abort", "an abort needs httpStatus or grpcStatus")
        if abort.http_status is not None and not 200 <= abort.http_status <= 599:
            report.error(f"{field}.abort.httpStatus", f"status {abort.http_status} is not between 200 and 599")
        if abort.grpc_status is not None and abort.grpc_status not in GRPC_CODES:
            report.error(f"{field}.abort.grpcStatus", f"{abort.grpc_status!r} is no gRPC status", "such as UNAVAILABLE")
        check_percentage(
            report, f"{field}.abort.percentage.value", abort.percentage.value if abort.percentage else None
        )


def _check_mirrors(report: Report, field: str, route: HttpRoute) -> None:
    if route.mirror is not None:
        _check_destination(report, f"{field}.mirror", route.mirror)
        if route.mirrors:
            report.error(f"{field}.mirrors", "mirror and mirrors exclude each other", "keep mirrors")
    for index, mirror in enumerate(route.mirrors):
        _check_destination(report, f"{field}.mirrors[{index}].destination", mirror.destination)
        share = mirror.percentage.value if mirror.percentage else None
        check_percentage(report, f"{field}.mirrors[{index}].percentage.value", share)
    if route.mirror_percentage is not None:
        check_percentage(report, f"{field}.mirrorPercentage.value", route.mirror_percentage.value)
    if route.mirror_percent is not None:
        check_percentage(report, f"{field}.mirrorPercent", route.mirror_percent)
        report.warn(f"{field}.mirrorPercent", "mirrorPercent is deprecated", "write mirrorPercentage.value")


def _check_cors(report: Report, field: str, cors: CorsPolicy) -> None:
    for index, origin in enumerate(cors.allow_origins):
        check_string_match(report, f"{field}.allowOrigins[{index}]", origin)
    for index, method in enumerate(cors.allow_methods):
        if method not in METHODS:
            report.error(f"{field}.allowMethods[{index}]", f"{method!r} is no HTTP method")
    for name, headers in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for index, header in enumerate(headers):
            if not is_header(header):
                report.error(f"{field}.{name}[{index}]", f"{header!r} is not a header name")
    if cors.max_age is not None:
        check_duration(report, f"{field}.maxAge", cors.max_age)
        if not float(cors.max_age).is_integer():
            report.error(f"{field}.maxAge", "maxAge has to be whole seconds")


def _check_weighted(report: Report, field: str, routes: tuple[object, ...]) -> None:
    weights = []
    for index, entry in enumerate(routes):
        place = f"{field}.route[{index}]"
        destination = getattr(entry, "destination", None)
        if isinstance(destination, Destination):
            _check_destination(report, f"{place}.destination", destination)
        weight = getattr(entry, "weight", None) or 0
        if weight < 0:
            report.error(f"{place}.weight", "a weight cannot be negative")
        weights.append(weight)
    if len(weights) > 1 and sum(weights) == 0:
        report.error(f"{field}.route", "the weights add up to 0, so no destination is ever chosen", "give weights")


def _check_destination(report: Report, field: str, destination: Destination) -> None:
    if not destination.host:
        report.error(field, "a destination needs a host", "write host: with the service's name", "missing-field")
    elif destination.host == "*":
        report.error(f"{field}.host", "a destination is one host; * means nothing here")
    elif not is_wildcard_host(destination.host) and not is_ip(destination.host):
        report.error(f"{field}.host", f"{destination.host!r} is not a host name")
    if destination.subset is not None and destination.subset and not is_label(destination.subset):
        report.error(f"{field}.subset", f"{destination.subset!r} is no name of a subset")
    if destination.port is not None:
        check_port(report, f"{field}.port.number", destination.port.number)


def _check_tls_match(report: Report, field: str, match: object, hosts: tuple[str, ...]) -> None:
    names: tuple[str, ...] = getattr(match, "sni_hosts", ())
    if not names:
        report.error(field, "a tls match needs sniHosts")
    for index, name in enumerate(names):
        place = f"{field}.sniHosts[{index}]"
        if not is_wildcard_host(name):
            report.error(place, f"{name!r} is not a host name")
        elif not any(_within(name, host) for host in hosts):
            report.error(place, f"{name} lies within none of the hosts", "add it to hosts")
        if is_ip(name):
            report.warn(place, "clients send no SNI for addresses")
    _check_level4(report, field, match)


def _within(name: str, host: str) -> bool:
    return host in ("*", name) or (host.startswith("*.") and name.removeprefix("*").endswith(host[1:]))


def _check_level4(report: Report, field: str, match: object) -> None:
    for index, subnet in enumerate(getattr(match, "destination_subnets", ())):
        if not is_cidr(subnet):
            report.error(f"{field}.destinationSubnets[{index}]", f"{subnet!r} is no address or address range")
    check_port(report, f"{field}.port", getattr(match, "port", None))
    check_labels(report, f"{field}.sourceLabels", getattr(match, "source_labels", {}))
    namespace = getattr(match, "source_namespace", None)
    if namespace and not is_label(namespace):
        report.error(f"{field}.sourceNamespace", f"{namespace!r} is no namespace")


def _check_reach(report: Report, spec: VirtualServiceSpec) -> None:
    """Warn of rules that can never be reached."""
    caught = -1
    seen: dict[bytes, str] = {}
    for index, route in enumerate(spec.http):
        field = f"spec.http[{index}]"
        if caught >= 0:
            report.warn(field, f"this rule is never used: http[{caught}] before it matches everything", "put it first")
            continue
        if not route.match or any(_catches_all(match) for match in route.match):
            caught = index
        for number, match in enumerate(route.match):
            place = f"{field}.match[{number}]"
            key = _content(match)
            if key in seen:
                report.warn(place, f"this match is never used: {seen[key]} is the same", "remove it")
            else:
                seen[key] = place


def _content(match: HttpMatchRequest) -> bytes:
    """What a match asks for, as a key; its names do not count."""
    return msgspec.json.encode(msgspec.structs.replace(match, name=None, stat_prefix=None))


def _catches_all(match: HttpMatchRequest) -> bool:
    uri = match.uri
    everything = uri is None or uri.prefix == "/" or uri.regex in (".*", "*")
    narrowed = (
        match.scheme,
        match.method,
        match.authority,
        match.headers,
        match.without_headers,
        match.port,
        match.source_labels,
        match.source_namespace,
        match.gateways,
        match.query_params,
    )
    return everything and not any(narrowed)
