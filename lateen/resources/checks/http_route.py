"""HTTP routes of a VirtualService: matches, actions, headers, retries, faults, mirrors, CORS."""

from __future__ import annotations

import base64
import binascii
import http
import re

from lateen.resources.checks import (
    Report,
    check_duration,
    check_pattern,
    check_percentage,
    check_port,
    check_string_match,
    is_header,
)
from lateen.resources.checks.destination import check_destination, check_place, check_weighted
from lateen.resources.checks.header_format import check_header_value, check_plain_value
from lateen.resources.virtual_service import (
    CorsPolicy,
    Headers,
    HttpFaultInjection,
    HttpMatchRequest,
    HttpRetry,
    HttpRoute,
)
from lateen.values.grpc_status import GRPC_CODES
from lateen.values.network import is_header_name

MAX_PARAMETER = 1024
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
MAX_BODY = 1024 * 1024
LARGE_BODY = 100 * 1024
_STATUSES = frozenset(str(status.value) for status in http.HTTPStatus)
_CLAIM = re.compile(r"@request\.auth\.claims(?:(?:\.[^.\[\]]+)+|(?:\[[^\[\]]+\])+)")


def check_http_route(report: Report, field: str, route: HttpRoute, *, is_delegate: bool) -> None:
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
    authority = route.rewrite.authority if route.rewrite else None
    _check_headers(report, f"{field}.headers", route.headers, authority)
    check_duration(report, f"{field}.timeout", route.timeout, zero_allowed=True)
    if route.retries is not None:
        check_retries(report, f"{field}.retries", route.retries)
    if route.fault is not None:
        _check_fault(report, f"{field}.fault", route.fault, route)
    _check_mirrors(report, field, route)
    if route.cors_policy is not None:
        _check_cors(report, f"{field}.corsPolicy", route.cors_policy)
    for index, entry in enumerate(route.route):
        _check_headers(report, f"{field}.route[{index}].headers", entry.headers, authority)
    check_weighted(report, field, route.route)


def _check_http_action(report: Report, field: str, route: HttpRoute) -> None:
    redirect, rewrite, direct = route.redirect, route.rewrite, route.direct_response
    if redirect is not None:
        parts = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.scheme, redirect.port)
        if not any(parts) and redirect.derive_port is None:
            report.error(f"{field}.redirect", "a redirect needs uri, prefixRewrite, authority, scheme or port")
        if redirect.uri and redirect.prefix_rewrite:
            report.error(f"{field}.redirect", "uri and prefixRewrite exclude each other", "keep one of them")
        if redirect.prefix_rewrite and any(match.uri and match.uri.prefix is None for match in route.match):
            report.error(f"{field}.redirect.prefixRewrite", "prefixRewrite needs prefix matches", "match uri.prefix")
        if redirect.scheme and redirect.scheme not in ("http", "https"):
            report.error(f"{field}.redirect.scheme", f"{redirect.scheme!r} is neither http nor https")
        if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
            report.error(f"{field}.redirect.redirectCode", f"{redirect.redirect_code} is no redirect", "use 301 or 302")
        check_port(report, f"{field}.redirect.port", redirect.port or None)
        for name, text in (
            ("uri", redirect.uri),
            ("prefixRewrite", redirect.prefix_rewrite),
            ("authority", redirect.authority),
        ):
            check_plain_value(report, f"{field}.redirect.{name}", text or "")
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
            check_plain_value(report, f"{field}.rewrite.uriRegexRewrite.rewrite", rewrite.uri_regex_rewrite.rewrite)
        check_plain_value(report, f"{field}.rewrite.uri", rewrite.uri or "")
        check_plain_value(report, f"{field}.rewrite.authority", rewrite.authority or "")


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


def is_claim(name: str) -> bool:
    """Whether a key of ``headers`` means a claim of the request's token: ``@request.auth.claims.x`` or ``[x]``."""
    return bool(_CLAIM.fullmatch(name))


def _check_http_match(report: Report, field: str, match: HttpMatchRequest) -> None:
    for name in ("uri", "scheme", "method", "authority"):
        value = getattr(match, name)
        if value is not None:
            check_string_match(report, f"{field}.{name}", value)
    for name, matches in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for header, value in matches.items():
            if not is_header(header) and not is_claim(header):
                report.error(f"{field}.{name}.{header}", f"{header!r} is not a header name")
            if name == "headers" or (value is not None and value.regex != "*"):
                check_string_match(report, f"{field}.{name}.{header}", value)
    for name, value in match.query_params.items():
        if not 0 < len(name.encode()) <= MAX_PARAMETER:
            message = f"the name of a parameter has 1 to {MAX_PARAMETER} bytes"
            report.error(f"{field}.queryParams.{name[:100]}", message, "name the parameter")
        check_string_match(report, f"{field}.queryParams.{name}", value)
    check_place(report, field, match)


def _check_headers(report: Report, field: str, headers: Headers | None, rewritten: str | None) -> None:
    """Header operations of a route or a destination; ``rewritten`` is what the route's rewrite makes the authority."""
    if headers is None:
        return
    authorities = int(bool(rewritten))
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for verb, pairs in (("set", operations.set), ("add", operations.add)):
            for name, value in pairs.items():
                place = f"{field}.{side}.{verb}.{name}"
                if _is_authority(name) and side == "request":
                    authorities += 1
                elif name.startswith(":") or name.lower() == "host":
                    report.error(place, f"{name} cannot be set in a {side}")
                elif not is_header_name(name):
                    report.error(place, f"{name!r} is not a header name")
                check_header_value(report, place, value)
        for index, name in enumerate(operations.remove):
            place = f"{field}.{side}.remove[{index}]"
            if name.lower() == "host" or name.startswith(":"):
                report.error(place, f"{name} cannot be removed")
            elif not is_header_name(name):
                report.error(place, f"{name!r} is not a header name")
    if authorities > 1:
        report.error(field, "the authority is set twice", "set it once")


def _is_authority(name: str) -> bool:
    return name.lower() in ("host", ":authority")


def check_retries(report: Report, field: str, retries: HttpRetry) -> None:
    """A retry policy, of a route or of the whole mesh."""
    if retries.attempts < 0:
        report.error(f"{field}.attempts", "attempts cannot be negative")
    others = (retries.per_try_timeout, retries.retry_on or None, retries.retry_remote_localities, retries.backoff)
    if retries.attempts == 0 and any(other is not None for other in others):
        report.error(field, "attempts of 0 turn retries off; the other fields have no meaning", "set attempts")
    check_duration(report, f"{field}.perTryTimeout", retries.per_try_timeout)
    check_duration(report, f"{field}.backoff", retries.backoff)
    for word in retries.retry_on.split(",") if retries.retry_on else ():
        if word not in RETRY_WORDS and word not in _STATUSES:
            report.error(f"{field}.retryOn", f"{word!r} is not a condition to retry on", "for example 5xx,reset")


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
            report.warn(f"{field}.delay", "a delay without fixedDelay delays nothing", "give fixedDelay")
        check_duration(report, f"{field}.delay.fixedDelay", delay.fixed_delay)
        check_percentage(
            report, f"{field}.delay.percentage.value", delay.percentage.value if delay.percentage else None
        )
        check_percentage(report, f"{field}.delay.percent", delay.percent)
    if abort is not None:
        if abort.http2_error is not None:
            report.error(f"{field}.abort.http2Error", "http2Error is not supported", "use httpStatus")
        elif abort.http_status is None and abort.grpc_status is None:
            report.warn(f"{field}.abort", "an abort without a status aborts nothing", "give httpStatus or grpcStatus")
        if abort.http_status is not None and not 200 <= abort.http_status <= 599:
            report.error(f"{field}.abort.httpStatus", f"status {abort.http_status} is not between 200 and 599")
        if abort.grpc_status is not None and abort.grpc_status not in GRPC_CODES:
            report.error(f"{field}.abort.grpcStatus", f"{abort.grpc_status!r} is no gRPC status", "such as UNAVAILABLE")
        check_percentage(
            report, f"{field}.abort.percentage.value", abort.percentage.value if abort.percentage else None
        )


def _check_mirrors(report: Report, field: str, route: HttpRoute) -> None:
    if route.mirror is not None:
        check_destination(report, f"{field}.mirror", route.mirror)
        if route.mirrors:
            report.error(f"{field}.mirrors", "mirror and mirrors exclude each other", "keep mirrors")
    for index, mirror in enumerate(route.mirrors):
        check_destination(report, f"{field}.mirrors[{index}].destination", mirror.destination)
        share = mirror.percentage.value if mirror.percentage else None
        _check_share(report, f"{field}.mirrors[{index}].percentage.value", share)
    if route.mirror_percentage is not None:
        _check_share(report, f"{field}.mirrorPercentage.value", route.mirror_percentage.value)
    if route.mirror_percent is not None:
        _check_share(report, f"{field}.mirrorPercent", route.mirror_percent)
        report.warn(f"{field}.mirrorPercent", "mirrorPercent is deprecated", "write mirrorPercentage.value")


def _check_share(report: Report, field: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 100:
        report.error(field, f"{value} is not between 0 and 100")


def _check_cors(report: Report, field: str, cors: CorsPolicy) -> None:
    for index, origin in enumerate(cors.allow_origins):
        check_string_match(report, f"{field}.allowOrigins[{index}]", origin)
        if not (origin.exact or origin.prefix or origin.regex):
            report.error(f"{field}.allowOrigins[{index}]", "the origin is empty", "give exact, prefix or regex")
    for index, method in enumerate(cors.allow_methods):
        if method not in METHODS:
            report.error(f"{field}.allowMethods[{index}]", f"{method!r} is no HTTP method")
    for name, headers in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for index, header in enumerate(headers):
            if header != "*" and not is_header(header):
                report.error(f"{field}.{name}[{index}]", f"{header!r} is not a header name")
    if cors.max_age is not None:
        check_duration(report, f"{field}.maxAge", cors.max_age)
        if not float(cors.max_age).is_integer():
            report.error(f"{field}.maxAge", "maxAge has to be whole seconds")
