"""``extensionProviders`` of MeshConfig: each has a name of its own and is exactly one kind of provider."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lateen.resources.checks import Report, check_duration, check_port
from lateen.resources.checks.header_format import check_format, check_header_value, check_log_format, check_plain_value
from lateen.resources.mesh_config import (
    ExtAuthzGrpc,
    ExtAuthzHttp,
    ExtensionProviderConfig,
    FileAccessLog,
    HttpAccessLogService,
    OtelAccessLogService,
    RemoteProvider,
)
from lateen.values.network import (
    is_header_name,
    is_host,
    is_ip,
    is_label,
    is_partial_wildcard,
    is_read_header,
    is_wildcard_host,
)

DETECTORS = ("environment", "dynatrace")
_STATUSES = frozenset(
    str(status)
    for first, last in ((200, 208), (226, 226), (300, 305), (307, 308), (400, 417), (421, 424), (500, 508), (510, 511))
    for status in range(first, last + 1)
) | {"100", "426", "428", "429", "431"}
"""Those that Envoy can answer with here."""
_VARIABLE = re.compile(r"[-A-Za-z0-9_.]+")


def check_providers(report: Report, providers: tuple[ExtensionProviderConfig, ...]) -> None:
    """Names and kinds of all providers, and where each is reached."""
    seen: set[str] = set()
    for index, provider in enumerate(providers):
        field = f"extensionProviders[{index}]"
        if not provider.name:
            report.error(field, "the provider has no name", "give name", "missing-field")
        elif provider.name in seen:
            report.error(f"{field}.name", f"provider {provider.name} stands twice", "give each its own name")
        seen.add(provider.name)
        kinds = [
            (entry.encode_name, getattr(provider, entry.name))
            for entry in msgspec.structs.fields(provider)
            if entry.name != "name" and getattr(provider, entry.name) is not None
        ]
        if len(kinds) != 1:
            report.error(field, "a provider is exactly one kind, such as zipkin or envoyFileAccessLog")
        for name, content in kinds:
            _check_provider(report, f"{field}.{name}", content)


def check_log_path(report: Report, field: str, path: str | None) -> None:
    if "\0" in (path or ""):
        report.error(field, f"{path!r} is no path of a file", "such as /dev/stdout")


def _check_provider(report: Report, field: str, content: Any) -> None:
    if isinstance(content, FileAccessLog):
        check_log_path(report, f"{field}.path", content.path)
    if isinstance(content, FileAccessLog | OtelAccessLogService) and content.log_format is not None:
        check_format(report, f"{field}.logFormat.text", content.log_format.text or "")
        labels = content.log_format.labels or {}
        check_log_format(report, f"{field}.logFormat.labels", labels)
        for name, value in labels.items() if isinstance(content, OtelAccessLogService) else ():
            if not isinstance(value, str):
                message = "an attribute of an OpenTelemetry log is made of a text"
                report.error(f"{field}.logFormat.labels.{name}", message, 'such as "%RESPONSE_CODE%"')
    if not isinstance(content, RemoteProvider):
        return
    check_port(report, f"{field}.port", content.port)
    check_duration(report, f"{field}.timeout", getattr(content, "timeout", None), zero_allowed=True)
    for place in ("http", "grpc"):
        seconds = getattr(getattr(content, place, None), "timeout", None)
        check_duration(report, f"{field}.{place}.timeout", seconds, zero_allowed=True)
    if not _is_service(content.service):
        report.error(f"{field}.service", f"{content.service!r} is no service", "write host or namespace/host")
    if isinstance(content, ExtAuthzGrpc) and content.status_on_error and content.status_on_error not in _STATUSES:
        report.error(
            f"{field}.statusOnError", f"{content.status_on_error!r} is no status that Envoy answers with", "such as 403"
        )
    if isinstance(content, ExtAuthzHttp) and content.path_prefix and not content.path_prefix.startswith("/"):
        report.error(f"{field}.pathPrefix", f"{content.path_prefix!r} does not begin with /")
    if isinstance(content, ExtAuthzHttp):
        for name, value in content.include_additional_headers_in_check.items():
            place = f"{field}.includeAdditionalHeadersInCheck.{name}"
            if not is_header_name(name):
                report.error(place, f"{name!r} is no name of a header", "such as x-proxy")
            check_header_value(report, place, value)
    _check_headers(report, field, content)
    if isinstance(content, HttpAccessLogService):
        _check_logged(report, field, content)
    for name in getattr(content, "resource_detectors", None) or ():
        if name not in DETECTORS:
            report.error(
                f"{field}.resourceDetectors.{name}", f"there is no detector {name}", "environment or dynatrace"
            )
    if getattr(content, "access_token", None) == "" and field.endswith("lightstep"):
        report.error(field, "lightstep needs an accessToken", code="missing-field")
    if getattr(content, "grpc", None) is not None and getattr(content, "http", None) is not None:
        report.error(field, "grpc and http exclude each other", "keep one of them")


def _check_headers(report: Report, field: str, content: Any) -> None:
    """Headers of collectors: each has a name and one source of its value."""
    http, grpc = getattr(content, "http", None), getattr(content, "grpc", None)
    for place, headers in (
        ("headers", getattr(content, "headers", ())),
        ("http.headers", http.headers if http is not None else ()),
        ("grpc.initialMetadata", grpc.initial_metadata if grpc is not None else ()),
    ):
        for index, header in enumerate(headers):
            at = f"{field}.{place}[{index}]"
            if not header.name:
                report.error(f"{at}.name", "the header has no name", "give name", "missing-field")
            elif not is_header_name(header.name):
                report.error(f"{at}.name", f"{header.name!r} is no name of a header")
            if (header.value is None) == (header.env_name is None):
                report.error(at, "a header has one source of its value", "write one of value and envName")
            check_plain_value(report, f"{at}.value", header.value or "")
            if header.env_name is not None and not _VARIABLE.fullmatch(header.env_name):
                report.error(f"{at}.envName", f"{header.env_name!r} is no name of a variable", "such as API_KEY")


def _check_logged(report: Report, field: str, log: HttpAccessLogService) -> None:
    for place, names in (
        ("additionalRequestHeadersToLog", log.additional_request_headers_to_log),
        ("additionalResponseHeadersToLog", log.additional_response_headers_to_log),
        ("additionalResponseTrailersToLog", log.additional_response_trailers_to_log),
    ):
        for index, name in enumerate(names):
            if not is_read_header(name):
                message = f"no header is called {name[:100]!r}, so that it is never logged"
                report.warn(f"{field}.{place}[{index}]", message, "correct the name")


def _is_service(text: str) -> bool:
    namespace, slash, host = text.partition("/")
    if not slash:
        return is_host(text) or is_ip(text)
    named = namespace in ("*", ".", "~") or is_label(namespace)
    full = host == "*" or "." in host
    return named and full and is_wildcard_host(host) and not is_partial_wildcard(host)
