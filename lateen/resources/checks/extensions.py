"""WasmPlugin and TrafficExtension: code that runs in the proxy."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from lateen.resources.checks import Report, check_port
from lateen.resources.checks.selection import check_match_labels, check_targets
from lateen.resources.extensions import TrafficExtensionSpec, TrafficSelector, VmConfig, WasmConfig, WasmPluginSpec

MAX_NAME = 256
MAX_SECRET = 253
MAX_ENVIRONMENT = 256
MAX_ENV_VALUE = 2048
MAX_LUA = 64 * 1024
SCHEMES = frozenset({"", "file", "http", "https", "oci"})
_SHA256 = re.compile(r"[a-f0-9]{64}")


def check_wasm_plugin(report: Report) -> None:
    spec: WasmPluginSpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    check_targets(report, spec.selector, spec.target_ref, spec.target_refs)
    _check_wasm(report, "spec", spec)
    _check_traffic(report, spec.match)


def check_traffic_extension(report: Report) -> None:
    spec: TrafficExtensionSpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    check_targets(report, spec.selector, None, spec.target_refs)
    _check_traffic(report, spec.match)
    if (spec.wasm is None) == (spec.lua is None):
        report.error("spec", "there has to be exactly one of wasm and lua")
    if spec.wasm is not None:
        _check_wasm(report, "spec.wasm", spec.wasm)
    if spec.lua is not None:
        size = len(spec.lua.inline_code.encode())
        if not size:
            report.error("spec.lua.inlineCode", "there is no code", code="missing-field")
        elif size > MAX_LUA:
            report.error("spec.lua.inlineCode", f"the code is longer than {MAX_LUA} bytes")


def _check_traffic(report: Report, selectors: tuple[TrafficSelector, ...]) -> None:
    for index, selector in enumerate(selectors):
        for number, port in enumerate(selector.ports):
            check_port(report, f"spec.match[{index}].ports[{number}].number", port.number)


def _check_wasm(report: Report, field: str, wasm: WasmConfig) -> None:
    _check_url(report, f"{field}.url", wasm.url)
    if wasm.sha256 and not _SHA256.fullmatch(wasm.sha256):
        report.error(f"{field}.sha256", "sha256 has to be 64 digits of 0-9 and a-f")
    _, at, digest = wasm.url.partition("@sha256:")
    if at and wasm.sha256 and digest != wasm.sha256:
        report.error(f"{field}.sha256", "sha256 is not the digest in the url", "leave one of them out")
    if wasm.image_pull_secret is not None and not 1 <= len(wasm.image_pull_secret) <= MAX_SECRET:
        report.error(f"{field}.imagePullSecret", f"the name has to have 1 to {MAX_SECRET} characters")
    if wasm.plugin_name is not None and not 1 <= len(wasm.plugin_name) <= MAX_NAME:
        report.error(f"{field}.pluginName", f"the name has to have 1 to {MAX_NAME} characters")
    if wasm.vm_config is not None:
        _check_environment(report, f"{field}.vmConfig", wasm.vm_config)


def _check_url(report: Report, field: str, url: str) -> None:
    if not url:
        report.error(field, "there is no url", "such as oci://registry/image:tag", "missing-field")
        return
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        _ = parts.port
    except ValueError as problem:
        report.error(field, f"{url!r} is no URL: {problem}")
        return
    if parts.scheme not in SCHEMES:
        report.error(field, f"{parts.scheme} is no scheme for a module", "use oci, https, http or file")
    elif any(character.isspace() for character in url):
        report.error(field, f"{url!r} is no URL: it has spaces")


def _check_environment(report: Report, field: str, config: VmConfig) -> None:
    seen: set[str] = set()
    if len(config.env) > MAX_ENVIRONMENT:
        report.error(f"{field}.env", f"there are more than {MAX_ENVIRONMENT} variables")
    for index, variable in enumerate(config.env):
        place = f"{field}.env[{index}]"
        if not 1 <= len(variable.name) <= MAX_NAME:
            report.error(f"{place}.name", f"the name has to have 1 to {MAX_NAME} characters")
        if variable.name in seen:
            report.error(f"{place}.name", f"variable {variable.name} stands twice", "keep one of them")
        seen.add(variable.name)
        if variable.value_from == "HOST" and variable.value:
            report.error(f"{place}.value", "valueFrom HOST takes no value", "leave value out")
        if len(variable.value or "") > MAX_ENV_VALUE:
            report.error(f"{place}.value", f"the value is longer than {MAX_ENV_VALUE} characters")
