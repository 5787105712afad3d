"""A sidecar's plan with each kind of patch on it: what comes out holds every place and every operation."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from lateen.plan.model import ProxyPlan
from lateen.plan.patch_values import ClusterPlace, ListenerPlace, Patch, RoutePlace
from lateen.values.names import Origin

ORIGIN = Origin("EnvoyFilter", "default", "patches", "filters.yaml", 1)
TYPE = "type.googleapis.com/envoy.extensions.filters"
LUA = f"{TYPE}.http.lua.v3.Lua"
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"
CORS = "envoy.filters.http.cors"


def lua(name: str) -> dict[str, Any]:
    code = {"inline_string": f"-- {name}"}
    return {"name": name, "typed_config": {"@type": LUA, "default_source_code": code}}


def patch(apply_to: str, operation: str, value: Any = None, **more: Any) -> Patch:
    text = json.dumps(value) if value is not None else ""
    return Patch(apply_to, operation, text, ORIGIN.at(f"{apply_to}.{operation}.{more}"), **more)


def _http(name: str = "") -> ListenerPlace:
    return ListenerPlace(network_filter=MANAGER, http_filter=name)


def filters(plan: ProxyPlan) -> ProxyPlan:
    """Filters of listeners, chains and connection managers, and a configuration that one asks for."""
    manager = {
        "typed_config": {
            "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "server_name": "patched",
            "stream_idle_timeout": "5s",
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        }
    }
    asking = {"name": "discovered", "config_discovery": {"config_source": {"ads": {}}, "type_urls": [LUA]}}
    proxied = {
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {"@type": f"{TYPE}.listener.proxy_protocol.v3.ProxyProtocol"},
    }
    rbac = {"@type": f"{TYPE}.network.rbac.v3.RBAC", "stat_prefix": "patched"}
    patches = (
        patch("HTTP_FILTER", "INSERT_BEFORE", lua("before-router"), listener=_http("envoy.router")),
        patch("HTTP_FILTER", "INSERT_AFTER", lua("after-rbac"), listener=_http("envoy.filters.http.rbac")),
        patch("HTTP_FILTER", "INSERT_FIRST", lua("first")),
        patch("HTTP_FILTER", "ADD", lua("added")),
        patch("HTTP_FILTER", "ADD", lua("authz"), filter_class="AUTHZ"),
        patch("HTTP_FILTER", "ADD", lua("authn"), filter_class="AUTHN"),
        patch("HTTP_FILTER", "REPLACE", lua("instead-of-cors"), listener=_http(CORS)),
        patch("HTTP_FILTER", "REMOVE", listener=_http("envoy.filters.http.fault")),
        patch(
            "HTTP_FILTER",
            "MERGE",
            {"typed_config": {"@type": f"{TYPE}.http.router.v3.Router", "respect_expected_rq_timeout": True}},
            listener=_http(ROUTER),
        ),
        patch("EXTENSION_CONFIG", "ADD", lua("discovered")),
        patch("HTTP_FILTER", "ADD", asking),
        patch("NETWORK_FILTER", "MERGE", manager, listener=ListenerPlace(network_filter=MANAGER)),
        patch("NETWORK_FILTER", "INSERT_FIRST", {"name": "envoy.filters.network.rbac", "typed_config": rbac}),
        patch("LISTENER_FILTER", "ADD", proxied, context="SIDECAR_INBOUND"),
        patch("FILTER_CHAIN", "MERGE", {"transport_socket_connect_timeout": "3s"}, context="SIDECAR_INBOUND"),
        patch("LISTENER", "MERGE", {"tcp_backlog_size": 100, "name": "kept"}, context="SIDECAR_OUTBOUND"),
    )
    return msgspec.structs.replace(plan, patches=patches)


def tables_and_clusters(plan: ProxyPlan) -> ProxyPlan:
    """Route tables, virtual hosts, routes, clusters; what is removed, merged and added."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 418}}
    cluster = {"connect_timeout": "0.5s", "circuit_breakers": {"thresholds": [{"max_requests": 7}]}}
    direct = {"@type": f"{TYPE}.network.direct_response.v3.Config", "response": {"inline_string": "hello"}}
    listener = {
        "name": "added",
        "address": {"pipe": {"path": "@added"}},
        "filter_chains": [{"filters": [{"name": "direct", "typed_config": direct}]}],
    }
    patches = (
        patch("ROUTE_CONFIGURATION", "MERGE", {"validate_clusters": False, "response_headers_to_remove": ["x-a"]}),
        patch("VIRTUAL_HOST", "ADD", {"name": "added", "domains": ["added.example"], "routes": [route]}),
        patch("VIRTUAL_HOST", "MERGE", {"domains": ["more.example"]}, routes=RoutePlace(domain="reviews")),
        patch("HTTP_ROUTE", "INSERT_FIRST", {**route, "name": "first"}, context="SIDECAR_OUTBOUND"),
        patch("HTTP_ROUTE", "ADD", {**route, "name": "last"}, context="SIDECAR_INBOUND"),
        patch("HTTP_ROUTE", "MERGE", {"route": {"timeout": "1s"}}, routes=RoutePlace(action="ROUTE")),
        patch("CLUSTER", "MERGE", cluster, context="SIDECAR_OUTBOUND"),
        patch("CLUSTER", "MERGE_AND_REPLACE_LIST", cluster, context="SIDECAR_INBOUND"),
        patch("CLUSTER", "ADD", {"name": "added", "connect_timeout": "1s"}),
        patch("CLUSTER", "REMOVE", cluster=ClusterPlace(name="PassthroughCluster")),
        patch("FILTER_CHAIN", "REMOVE", context="SIDECAR_INBOUND", listener=ListenerPlace(chain="0.0.0.0_9080")),
        patch("LISTENER", "REMOVE", listener=ListenerPlace(name="virtualOutbound")),
        patch("LISTENER", "ADD", listener),
    )
    return msgspec.structs.replace(plan, patches=patches)
