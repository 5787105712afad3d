"""Texts of EnvoyFilters for tests: patches as YAML in flow style, with Lua that leaves a mark."""

from __future__ import annotations

import textwrap

MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = f"filterChain: {{filter: {{name: {MANAGER}, subFilter: {{name: envoy.filters.http.router}}}}}}"
TYPE = '"@type": type.googleapis.com/'


def lua(code: str, name: str = "envoy.filters.http.lua") -> str:
    kind = f"{TYPE}envoy.extensions.filters.http.lua.v3.Lua"
    return f"{{name: {name}, typed_config: {{{kind}, default_source_code: {{inline_string: {code!r}}}}}}}"


def mark(name: str) -> str:
    """Lua that writes a name into a header of requests, behind those that are there."""
    before = 'local old = h:headers():get("x-lua"); local before = old and old .. "," or ""; '
    return lua(f'function envoy_on_request(h) {before}h:headers():replace("x-lua", before .. "{name}") end')


def patch(apply_to: str, operation: str, value: str = "", match: str = "", more: str = "") -> str:
    found = f", value: {value}" if value else ""
    return f"- {{applyTo: {apply_to}, match: {{{match}}}, patch: {{operation: {operation}{found}{more}}}}}\n"


def envoy_filter(name: str, *patches: str, head: str = "", namespace: str = "default") -> str:
    body = textwrap.indent("".join(patches), "  ")
    text = f"---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: "
    return f"{text}{namespace}}}\nspec:\n{textwrap.indent(head, '  ')}  configPatches:\n{body}"
