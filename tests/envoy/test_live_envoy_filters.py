"""What EnvoyFilters do to traffic, on the real Envoy."""

from __future__ import annotations

import http.client
import socket

import pytest

from tests.envoy.filter_support import MANAGER, ROUTER, TYPE, envoy_filter, lua, mark, patch
from tests.envoy.from_yaml import sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, to, virtual_service
from tests.envoy.harness import Application, free_port
from tests.envoy.test_live_inbound import PEER, PORT, Server, app_address, ask_http, connect, server
from tests.envoy.tls_support import EdgeAuthority, call, context_for, secret

OUT = "context: SIDECAR_OUTBOUND"
IN = "context: SIDECAR_INBOUND"
HOST = 'routeConfiguration: {name: "8080", portNumber: 8080, vhost: {name: "shop.example:8080"'
CHAIN = f"listener: {{{ROUTER}}}"
SHOP_CLUSTER = "cluster: {name: outbound|8080||shop.example}"
RBAC = f"listener: {{filterChain: {{filter: {{name: {MANAGER}, subFilter: {{name: envoy.filters.http.rbac}}}}}}}}"
HTTP = f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
PORT_8080 = "listener: {portNumber: 8080}"
PROXIED = f"""{{name: envoy.filters.listener.proxy_protocol, typed_config: {{
  {TYPE}envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}}}"""
LIMIT = f"""{{name: envoy.filters.http.local_ratelimit, typed_config: {{
  {TYPE}envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: limit,
  token_bucket: {{max_tokens: 2, tokens_per_fill: 2, fill_interval: 600s}},
  filter_enabled: {{default_value: {{numerator: 100}}}}, filter_enforced: {{default_value: {{numerator: 100}}}}}}}}"""


def added(name: str, value: str) -> str:
    return f"[{{header: {{key: {name}, value: {value}}}}}]"


@pytest.mark.covers(
    "EnvoyFilter configPatches[].applyTo",
    "EnvoyFilter configPatches[].match.context",
    "EnvoyFilter configPatches[].match.listener.filterChain.filter.name",
    "EnvoyFilter configPatches[].match.listener.filterChain.filter.subFilter.name",
    "EnvoyFilter configPatches[].match.routeConfiguration.name",
    "EnvoyFilter configPatches[].match.routeConfiguration.portNumber",
    "EnvoyFilter configPatches[].match.routeConfiguration.vhost.name",
    "EnvoyFilter configPatches[].match.routeConfiguration.vhost.domainName",
    "EnvoyFilter configPatches[].match.routeConfiguration.vhost.route.action",
    "EnvoyFilter configPatches[].patch.operation",
    "EnvoyFilter configPatches[].patch.value",
)
def test_filters_and_routes_of_calls_that_leave() -> None:
    direct = "{name: own, match: {path: /own}, direct_response: {status: 418}}"
    text = envoy_filter(
        "calls",
        patch("HTTP_FILTER", "INSERT_BEFORE", mark("out"), f"{OUT}, {CHAIN}"),
        patch("HTTP_FILTER", "INSERT_BEFORE", mark("in"), f"{IN}, {CHAIN}"),
        patch("ROUTE_CONFIGURATION", "MERGE", f"{{response_headers_to_add: {added('x-table', 'a')}}}", OUT),
        patch("VIRTUAL_HOST", "MERGE", f"{{response_headers_to_add: {added('x-host', 'b')}}}", f"{OUT}, {HOST}}}}}"),
        patch(
            "HTTP_ROUTE",
            "MERGE",
            f"{{request_headers_to_add: {added('x-route', 'c')}}}",
            f"{OUT}, routeConfiguration: {{vhost: {{domainName: shop.example, route: {{action: ROUTE}}}}}}",
        ),
        patch("HTTP_ROUTE", "INSERT_FIRST", direct, f"{OUT}, {HOST}}}}}"),
    )
    with Application("v1") as app, sidecar(entry("shop", app.port) + text, allow_findings=True) as proxy:
        answer = proxy.get("shop.example", 8080)
        seen = answer.seen["headers"]
        assert (seen["x-lua"], seen["x-route"]) == ("out", "c")
        assert (answer.headers["x-table"], answer.headers["x-host"]) == ("a", "b")
        assert proxy.get("shop.example", 8080, "/own").status == 418
        lost = [finding for finding in proxy.findings if finding.code == "patch-without-effect"]
        assert [finding.origin.field for finding in lost] == ["spec.configPatches[1]"]


@pytest.mark.covers(
    "EnvoyFilter workloadSelector.labels",
    "EnvoyFilter configPatches[].match.listener.name",
    "EnvoyFilter configPatches[].match.listener.portNumber",
)
def test_a_limit_on_calls_that_arrive_at_the_selected_workload() -> None:
    place = f"{IN}, listener: {{name: virtualInbound, portNumber: {PORT}, {ROUTER}}}"
    own = envoy_filter(
        "limit", patch("HTTP_FILTER", "INSERT_BEFORE", LIMIT, place), head="workloadSelector: {labels: {app: server}}\n"
    )
    other = envoy_filter(
        "other",
        patch(
            "HTTP_FILTER", "INSERT_FIRST", lua('function envoy_on_request(h) h:respond({[":status"]="500"}, "") end')
        ),
        head="workloadSelector: {labels: {app: another}}\n",
    )
    with (
        sidecar(PEER.format(mode="DISABLE") + own + other, workload=server("http")) as proxy,
        Server(app_address(proxy)),
    ):
        assert [ask_http(connect(proxy))[:4] for _ in range(3)] == [b"http", b"http", b"loca"]


@pytest.mark.covers(
    "EnvoyFilter priority",
    "EnvoyFilter configPatches[].match.routeConfiguration.gateway",
    "EnvoyFilter configPatches[].match.listener.listenerFilter",
    "EnvoyFilter configPatches[].match.proxy.proxyVersion",
    "EnvoyFilter configPatches[].match.proxy.metadata",
    "EnvoyFilter configPatches[].patch.filterClass",
)
def test_a_gateway_s_filters_run_in_order_of_priority() -> None:
    port, second = free_port(), free_port()
    text = gateway(serves(port)) + gateway(serves(second), name="side")
    text += virtual_service(to("shop.example"), gateways="edge, side")
    late = envoy_filter("a", patch("HTTP_FILTER", "ADD", mark("late"), "context: GATEWAY"), head="priority: 10\n")
    early = envoy_filter(
        "b",
        patch("HTTP_FILTER", "ADD", mark("early"), 'context: GATEWAY, proxy: {proxyVersion: "^1\\\\.3"}'),
        patch("HTTP_FILTER", "ADD", mark("never"), 'proxy: {proxyVersion: "^1\\\\.2"}'),
        patch("HTTP_FILTER", "ADD", mark("never"), "proxy: {metadata: {NAMESPACE: other}}"),
        patch(
            "HTTP_FILTER",
            "ADD",
            mark("class").replace("http.lua,", "http.lua.class,"),
            "proxy: {metadata: {NAMESPACE: default}}",
            ", filterClass: AUTHN",
        ),
        patch(
            "VIRTUAL_HOST",
            "MERGE",
            f"{{response_headers_to_add: {added('x-gate', 'edge')}}}",
            "context: GATEWAY, routeConfiguration: {gateway: default/edge}",
        ),
    )
    with (
        Application("v1") as app,
        sidecar(entry("shop", app.port) + text + late + early, workload=gateway_workload()) as proxy,
    ):
        answer = proxy.get("any.example", port, address="127.0.0.1")
        assert answer.seen["headers"]["x-lua"] == "class,early,late"
        assert answer.headers["x-gate"] == "edge"
        assert "x-gate" not in proxy.get("any.example", second, address="127.0.0.1").headers


@pytest.mark.covers(
    "EnvoyFilter configPatches[].match.cluster.service",
    "EnvoyFilter configPatches[].match.cluster.portNumber",
)
def test_clusters_listeners_and_chains() -> None:
    port = free_port()
    cluster = """{name: own, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: own, endpoints:
      [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}"""
    proxying = f"{{name: tcp, typed_config: {{{TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, "
    listener = f"""{{name: own, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}},
      filter_chains: [
      {{name: own, filters: [{proxying}stat_prefix: own, cluster: BlackHoleCluster}}}}]}}]}}"""
    closed = "{circuit_breakers: {thresholds: [{max_requests: 0, max_pending_requests: 0, max_connections: 0}]}}"
    with Application("v1") as app:
        text = envoy_filter(
            "more",
            patch("CLUSTER", "ADD", cluster % app.port),
            patch("LISTENER", "ADD", listener),
            patch("CLUSTER", "MERGE_AND_REPLACE_LIST", closed, "cluster: {service: shop.example, portNumber: 8080}"),
        )
        to_own = "{route: {cluster: own}}"
        way = patch("HTTP_ROUTE", "INSERT_FIRST", "{match: {path: /own}, " + to_own[1:], f"{OUT}, {HOST}}}}}")
        text += envoy_filter("way", way)
        with sidecar(entry("shop", app.port) + text) as proxy:
            assert proxy.get("shop.example", 8080).status == 503
            assert proxy.get("shop.example", 8080, "/own").status == 200
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                proxy.get("shop.example", port, address="127.0.0.1")


@pytest.mark.covers("EnvoyFilter configPatches[].match.cluster.name")
def test_what_is_taken_away_is_gone_and_what_takes_its_place_works() -> None:
    answering = f"""{{name: envoy.filters.network.direct_response, typed_config: {{
      {TYPE}envoy.extensions.filters.network.direct_response.v3.Config, response: {{inline_string: "no more"}}}}}}"""
    place = f"{OUT}, listener: {{portNumber: 8080, filterChain: {{filter: {{name: {MANAGER}}}}}}}"
    with (
        Application("v1") as app,
        sidecar(
            entry("shop", app.port) + envoy_filter("other", patch("NETWORK_FILTER", "REPLACE", answering, place))
        ) as proxy,
        pytest.raises(http.client.BadStatusLine, match="no more"),
    ):
        proxy.get("shop.example", 8080)
    with (
        Application("v1") as app,
        sidecar(
            entry("shop", app.port) + envoy_filter("gone", patch("CLUSTER", "REMOVE", "", f"{OUT}, {SHOP_CLUSTER}"))
        ) as proxy,
    ):
        assert proxy.get("shop.example", 8080).status == 503
        assert not app.seen


@pytest.mark.covers("EnvoyFilter configPatches[].applyTo")
def test_an_extension_s_configuration_comes_with_the_filter_that_asks_for_it() -> None:
    asking = (
        "{name: mine, config_discovery: {config_source: {ads: {}}, "
        "type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]}}"
    )
    text = envoy_filter(
        "discovered",
        patch("EXTENSION_CONFIG", "ADD", mark("found").replace("envoy.filters.http.lua", "mine", 1)),
        patch("HTTP_FILTER", "INSERT_BEFORE", asking, f"{OUT}, {CHAIN}"),
    )
    with Application("v1") as app, sidecar(entry("shop", app.port) + text) as proxy:
        assert proxy.get("shop.example", 8080).seen["headers"]["x-lua"] == "found"


def test_an_operator_can_take_authorisation_away_and_put_a_guard_before_a_chain() -> None:
    closed = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec: {}
"""
    base = PEER.format(mode="DISABLE") + closed
    opened = envoy_filter("opened", patch("HTTP_FILTER", "REMOVE", "", f"{IN}, {RBAC}"))
    nobody = f"""{{name: envoy.filters.network.rbac, typed_config: {{{TYPE}envoy.extensions.filters.network.rbac.v3.RBAC
      , stat_prefix: nobody, rules: {{action: ALLOW, policies: {{}}}}}}}}"""
    guarded = envoy_filter("guarded", patch("NETWORK_FILTER", "INSERT_FIRST", nobody, IN))
    with sidecar(base, workload=server("http")) as proxy, Server(app_address(proxy)):
        assert ask_http(connect(proxy)).startswith(b"RBAC")
    with sidecar(base + opened, workload=server("http")) as proxy, Server(app_address(proxy)):
        assert ask_http(connect(proxy)).startswith(b"http")
    with (
        sidecar(base + opened + guarded, workload=server("http")) as proxy,
        Server(app_address(proxy)),
        pytest.raises((ConnectionError, http.client.HTTPException)),
    ):
        ask_http(connect(proxy))


def test_listeners_and_chains_are_changed_where_they_match() -> None:
    text = envoy_filter(
        "listeners",
        patch("LISTENER", "MERGE", "{connection_balance_config: {}, stat_prefix: patched}", f"{OUT}, {PORT_8080}"),
        patch("FILTER_CHAIN", "REMOVE", "", f"{OUT}, listener: {{name: virtualOutbound}}"),
        patch(
            "NETWORK_FILTER",
            "MERGE",
            f"""{{typed_config: {{{HTTP},
              server_header_transformation: OVERWRITE, server_name: patched}}}}""",
            f"{OUT}, listener: {{filterChain: {{filter: {{name: {MANAGER}}}}}}}",
        ),
        patch("LISTENER_FILTER", "ADD", PROXIED, f"{OUT}, {PORT_8080}"),
    )
    with Application("v1") as app, sidecar(entry("shop", app.port) + text, allow_findings=True) as proxy:
        with socket.create_connection((proxy.address("shop.example"), 8080), timeout=5) as connection:
            connection.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
            connection.sendall(b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert (response.status, response.getheader("server")) == (200, "patched")
        assert proxy.stat("listener.patched.downstream_cx_total") == 1


FILTER_CHAIN = "EnvoyFilter configPatches[].match.listener.filterChain"


@pytest.mark.covers(
    f"{FILTER_CHAIN}.name",
    f"{FILTER_CHAIN}.sni",
    f"{FILTER_CHAIN}.transportProtocol",
    "EnvoyFilter configPatches[].match.routeConfiguration.vhost.route.name",
)
def test_one_chain_of_several_is_patched() -> None:
    port, plain, authority = free_port(), free_port(), EdgeAuthority()
    text, found = "", []
    for name in ("one", "two", "three"):
        pem = authority.issue(f"{name}.example")
        text += secret(name, tls_crt=pem.certificate, tls_key=pem.key)
        tls = f"{{mode: SIMPLE, credentialName: {name}}}"
        place = f"port: {{number: {port}, name: {name}, protocol: HTTPS}}"
        found.append(f"{{{place}, hosts: [{name}.example], tls: {tls}}}")
    found.append(serves(plain))
    text += gateway(*found) + virtual_service("{name: shop, route: [{destination: {host: shop.example}}]}")
    manager = f"filter: {{name: {MANAGER}, subFilter: {{name: envoy.filters.http.router}}}}"
    text += envoy_filter(
        "chains",
        *(
            patch("HTTP_FILTER", "INSERT_BEFORE", mark(mark_), f"listener: {{filterChain: {{{match}, {manager}}}}}")
            for mark_, match in (
                ("sni", "sni: one.example"),
                ("name", f"name: https.{port}.two.edge.default"),
                ("tls", "transportProtocol: tls"),
            )
        ),
        patch(
            "HTTP_ROUTE",
            "MERGE",
            f"{{response_headers_to_add: {added('x-route', 'shop')}}}",
            "routeConfiguration: {vhost: {route: {name: shop}}}",
        ),
    )
    with (
        Application("v1") as app,
        sidecar(entry("shop", app.port) + text, workload=gateway_workload(), authority=authority) as proxy,
    ):
        context = context_for(authority.roots)
        marks = [call(port, f"{name}.example", context).seen["headers"]["x-lua"] for name in ("one", "two", "three")]
        assert marks == ["sni,tls", "name,tls", "tls"]
        answer = proxy.get("any.example", plain, address="127.0.0.1")
        assert "x-lua" not in answer.seen["headers"]
        assert answer.headers["x-route"] == "shop"
