"""Routes that a VirtualService hands on to another."""

from __future__ import annotations

from tests.unit.plan.building import host, plan, service, snapshot, workload

ROOT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [shop]
  http:
  - name: root
    match: [{uri: {prefix: /cart}, headers: {x-a: {exact: "1"}}}]
    delegate: {name: cart, namespace: cart}
    timeout: 3s
  - route: [{destination: {host: shop}}]
---
"""
CART = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: cart}
spec:
  exportTo: ["*"]
  http:
  - name: add
    match: [{uri: {prefix: /cart/add}}, {uri: {prefix: /other}}]
    route: [{destination: {host: adder}}]
    timeout: 1s
  - route: [{destination: {host: rest}}]
---
"""
SERVICES = service("shop") + service("adder", "cart") + service("rest", "cart")
CLIENT = workload("client")


def routes(text):
    return host(plan(SERVICES + text, CLIENT), "80", "shop.default.svc.cluster.local:80").routes


def shown(route):
    matcher = route.match.path
    names = [part.cluster.split("|")[3].split(".")[0] for part in route.action.clusters]
    return (matcher.value if matcher is not None else "", len(route.match.headers), names, route.action.timeout)


def test_matches_are_joined_and_the_rest_is_taken_from_the_root():
    assert [shown(route) for route in routes(ROOT + CART)] == [
        ("/cart/add", 1, ["adder"], 1.0),
        ("/cart", 1, ["rest"], 3.0),
        ("/", 0, ["shop"], 0.0),
    ]
    first = routes(ROOT + CART)[0]
    assert first.origin.name == "root"
    assert first.origin.path == "test.yaml"


def test_a_delegate_is_no_virtual_service_of_its_own():
    found = snapshot(SERVICES + ROOT + CART, CLIENT)
    assert [resource.key.name for resource in found.virtual_services] == ["root"]


def test_a_delegate_that_is_not_there_is_told():
    found = snapshot(SERVICES + ROOT, CLIENT)
    assert ["there is no delegate VirtualService cart/cart" in finding.message for finding in found.findings] == [True]
    assert [shown(route)[2] for route in routes(ROOT)] == [["shop"]]


def test_a_delegate_that_is_not_exported_is_told():
    found = snapshot(SERVICES + ROOT + CART.replace('["*"]', '["."]'), CLIENT)
    assert "is not exported to namespace default" in found.findings[0].message


def test_a_route_that_contradicts_the_root_is_told():
    text = ROOT + CART.replace("{uri: {prefix: /cart/add}}, {uri: {prefix: /other}}", "{uri: {exact: /elsewhere}}")
    found = snapshot(SERVICES + text, CLIENT)
    assert "no request meets it" in found.findings[0].message
    assert [shown(route)[2] for route in routes(text)] == [["rest"], ["shop"]]


def test_a_regex_of_the_root_admits_nothing_but_itself():
    root = ROOT.replace("{prefix: /cart}", "{regex: /cart.*}")
    assert [shown(route)[2] for route in routes(root + CART)] == [["rest"], ["shop"]]
