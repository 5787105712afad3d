"""EnvoyFilter: that each patch names something it can apply to. The patched values themselves are Envoy's to judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lateen.resources.checks import MAX_PATTERN, Report, check_pattern
from lateen.resources.checks.selection import check_label_selector, check_targets
from lateen.resources.envoy_filter import ConfigObjectMatch, ConfigPatch, EnvoyFilterSpec, FilterMatch

CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
OLD_CONNECTION_MANAGER = "envoy.http_connection_manager"
LISTENER_CLASS = frozenset({"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
ROUTE_CLASS = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_OLD_NAMES = {
    "http": "buffer cors csrf ext_authz fault grpc_http1_bridge grpc_json_transcoder grpc_web gzip health_check "
    "ip_tagging lua router squash",
    "network": "client_ssl_auth echo http_connection_manager mongo_proxy ratelimit redis_proxy tcp_proxy",
}
NEW_NAMES = {
    **{f"envoy.{name}": f"envoy.filters.{kind}.{name}" for kind, names in _OLD_NAMES.items() for name in names.split()},
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    "envoy.http_dynamo_filter": "envoy.filters.http.dynamo",
    **{
        f"envoy.listener.{name}": f"envoy.filters.listener.{name}"
        for name in ("http_inspector", "original_dst", "original_src", "proxy_protocol", "tls_inspector")
    },
}


def check_envoy_filter(report: Report) -> None:
    spec: EnvoyFilterSpec = report.resource.spec
    check_label_selector(report, "spec.workloadSelector", spec.workload_selector)
    check_targets(report, spec.workload_selector, None, spec.target_refs)
    for index, patch in enumerate(spec.config_patches):
        _check_patch(report, f"spec.configPatches[{index}]", patch)


def _check_patch(report: Report, field: str, entry: ConfigPatch) -> None:
    if entry.apply_to in (None, "INVALID"):
        report.error(field, "the patch does not say what it applies to", "give applyTo", "missing-field")
    if entry.match is not None:
        _check_match(report, f"{field}.match", entry.match, entry.apply_to or "")
    patch = entry.patch
    if patch is None:
        report.error(field, "there is no patch", "give patch.operation", "missing-field")
        return
    if patch.operation in (None, "INVALID"):
        report.error(f"{field}.patch", "the patch has no operation", "give operation", "missing-field")
    elif patch.operation != "REMOVE" and patch.value is None:
        report.error(f"{field}.patch", f"{patch.operation} needs a value", code="missing-field")
    if patch.operation == "REPLACE" and not (entry.apply_to or "").endswith("_FILTER"):
        report.warn(f"{field}.patch.operation", "REPLACE works on filters alone", "use MERGE")
    for path, url in _type_urls(patch.value, f"{field}.patch.value"):
        if not any(part.startswith("v3") for part in url.split(".")):
            report.error(path, f"{url} is no type of Envoy's present API", "use the v3 type")


def _type_urls(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every type URL in plain values, with its path."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _type_urls(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _type_urls(item, f"{path}[{index}]")
    elif isinstance(value, str) and value.startswith("type.googleapis.com/envoy."):
        yield path, value.removeprefix("type.googleapis.com/")


def _check_match(report: Report, field: str, match: ConfigObjectMatch, apply_to: str) -> None:
    version = match.proxy.proxy_version if match.proxy else ""
    if len(version) > MAX_PATTERN:
        report.warn(
            f"{field}.proxy.proxyVersion",
            f"the pattern is longer than {MAX_PATTERN} characters, so it matches no proxy",
        )
    elif version:
        check_pattern(report, f"{field}.proxy.proxyVersion", version)
    given = {
        name: value
        for name, value in (
            ("listener", match.listener),
            ("routeConfiguration", match.route_configuration),
            ("cluster", match.cluster),
            ("waypoint", match.waypoint),
        )
        if value is not None
    }
    if len(given) > 1:
        report.error(field, f"{' and '.join(given)} exclude each other", "keep one of them")
    if ("waypoint" in given) != (match.context == "WAYPOINT") and given:
        report.error(field, "the context WAYPOINT and a waypoint match belong together", "give both or none")
    wanted = _object_of(apply_to)
    if given and wanted and wanted not in given and "waypoint" not in given:
        report.error(field, f"{apply_to} is matched by {wanted}, not by {' and '.join(given)}", f"use {wanted}")
    chain = match.listener.filter_chain if match.listener else None
    if chain is not None and chain.filter is not None:
        _check_filter(report, f"{field}.listener.filterChain.filter", chain.filter, apply_to)


def _object_of(apply_to: str) -> str:
    if apply_to in LISTENER_CLASS:
        return "listener"
    if apply_to in ROUTE_CLASS:
        return "routeConfiguration"
    return "cluster" if apply_to == "CLUSTER" else ""


def _check_filter(report: Report, field: str, match: FilterMatch, apply_to: str) -> None:
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        report.warn(field, f"a filter match has no effect on {apply_to}", "leave it out")
    if not match.name:
        report.error(field, "the filter match has no name", "give name", "missing-field")
    _check_old_name(report, f"{field}.name", match.name)
    below = match.sub_filter
    if below is None:
        return
    if apply_to != "HTTP_FILTER":
        report.error(f"{field}.subFilter", "subFilter goes with HTTP_FILTER alone")
    elif match.name not in (CONNECTION_MANAGER, OLD_CONNECTION_MANAGER):
        report.error(f"{field}.name", f"subFilter needs the filter {CONNECTION_MANAGER}")
    if not below.name:
        report.error(f"{field}.subFilter", "the filter match has no name", "give name", "missing-field")
    _check_old_name(report, f"{field}.subFilter.name", below.name)


def _check_old_name(report: Report, field: str, name: str) -> None:
    if name in NEW_NAMES:
        report.warn(field, f"{name} is an old name of a filter", f"write {NEW_NAMES[name]}")
