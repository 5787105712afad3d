"""Which routes a client meets: precedence, merging and what is decided before run time."""

from lateen.plan.routes import Forward, Redirect
from tests.unit.plan.building import cluster, endpoints, gateway, host, plan, service, workload

REVIEWS = "reviews.default.svc.cluster.local"


def virtual_service(name, hosts, body, extra=""):
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: {hosts}
{extra}
  http:
{body}
---
"""


def to(subset, weight=None):
    share = f", weight: {weight}" if weight is not None else ""
    return f"{{destination: {{host: reviews, subset: {subset}}}{share}}}"


def clusters(route):
    assert isinstance(route.action, Forward)
    return [(part.cluster.split("|")[2], part.weight) for part in route.action.clusters]


def test_a_service_without_rules_is_forwarded_with_the_default_retries():
    planned = plan(service("reviews"), workload("ratings"))
    (route,) = host(planned, "80", f"{REVIEWS}:80").routes
    assert route.action.clusters[0].cluster == f"outbound|80||{REVIEWS}"
    assert route.action.retry.attempts == 2


def test_every_spelling_of_a_name_in_the_own_namespace_reaches_the_service():
    domains = host(plan(service("reviews"), workload("ratings")), "80", f"{REVIEWS}:80").domains
    for name in ("reviews", "reviews.default", "reviews.default.svc", REVIEWS):
        assert name in domains
        assert f"{name}:80" in domains


def test_the_short_name_belongs_to_the_own_namespace_alone():
    text = service("reviews") + service("reviews", "other")
    planned = plan(text, workload("ratings", "other"))
    assert "reviews" not in host(planned, "80", f"{REVIEWS}:80").domains
    assert "reviews" in host(planned, "80", "reviews.other.svc.cluster.local:80").domains


def test_the_first_of_two_virtual_services_for_a_host_speaks_alone():
    text = (
        service("reviews")
        + virtual_service("b", "[reviews]", f"  - route: [{to('v2')}]")
        + virtual_service("a", "[reviews]", f"  - route: [{to('v1')}]")
    )
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert clusters(route) == [("v1", 1)]


def test_a_full_name_beats_a_wildcard():
    text = (
        service("reviews")
        + virtual_service("a", "['*.default.svc.cluster.local']", f"  - route: [{to('v2')}]")
        + virtual_service("b", "[reviews]", f"  - route: [{to('v1')}]")
    )
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert clusters(route) == [("v1", 1)]


def test_weights_are_kept_and_zero_ones_vanish():
    text = service("reviews") + virtual_service(
        "a", "[reviews]", f"  - route: [{to('v1', 90)}, {to('v2', 10)}, {to('v3', 0)}]"
    )
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert clusters(route) == [("v1", 90), ("v2", 10)]


def test_what_the_client_is_decides_before_run_time():
    body = f"""
  - match: [{{sourceLabels: {{app: ratings}}}}]
    route: [{to("v1")}]
  - match: [{{sourceNamespace: elsewhere}}]
    route: [{to("v2")}]
  - match: [{{port: 81}}]
    route: [{to("v2")}]
  - route: [{to("v3")}]
"""
    text = service("reviews") + virtual_service("a", "[reviews]", body)
    mine = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    others = host(plan(text, workload("details")), "80", f"{REVIEWS}:80").routes
    assert [clusters(route) for route in mine] == [[("v1", 1)]]
    assert [clusters(route) for route in others] == [[("v3", 1)]]


def test_nothing_is_built_after_a_rule_that_matches_everything():
    body = f"""
  - match: [{{uri: {{prefix: /}}}}]
    route: [{to("v1")}]
  - match: [{{uri: {{prefix: /late}}}}]
    route: [{to("v2")}]
"""
    text = service("reviews") + virtual_service("a", "[reviews]", body)
    assert len(host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes) == 1


def test_retries_of_nothing_are_no_retries():
    text = service("reviews") + virtual_service("a", "[reviews]", f"  - route: [{to('v1')}]\n    retries: {{}}")
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert route.action.retry is None


def test_percentages_that_are_not_given_are_0_for_faults_and_100_for_mirrors():
    body = f"""
  - route: [{to("v1")}]
    fault: {{delay: {{fixedDelay: 1s}}}}
    mirror: {{host: reviews, subset: v2}}
"""
    text = service("reviews") + virtual_service("a", "[reviews]", body)
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert route.fault.delay.percentage == 0
    assert route.action.mirrors[0].percentage == 100


def test_setting_the_host_header_is_a_rewrite_of_the_host():
    body = f"  - route: [{to('v1')}]\n    headers: {{request: {{set: {{Host: other.example, x-a: b}}}}}}"
    text = service("reviews") + virtual_service("a", "[reviews]", body)
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert route.action.host_rewrite == "other.example"
    assert route.request_headers.set == (("x-a", "b"),)


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ["*.example.com"]
---
"""


def test_virtual_services_of_one_host_are_joined_at_a_gateway_with_catch_alls_last():
    text = (
        service("reviews")
        + GATEWAY
        + virtual_service("a", "[shop.example.com]", f"  - route: [{to('v1')}]", "  gateways: [edge]")
        + virtual_service(
            "b",
            "[shop.example.com]",
            f"  - match: [{{uri: {{prefix: /b}}}}]\n    route: [{to('v2')}]",
            "  gateways: [edge]",
        )
    )
    routes = host(plan(text, gateway()), "http.8080", "shop.example.com:8080").routes
    assert [clusters(route) for route in routes] == [[("v2", 1)], [("v1", 1)]]


def test_a_host_that_the_gateway_does_not_serve_is_not_bound():
    text = (
        service("reviews")
        + GATEWAY
        + virtual_service("a", "[shop.other.com]", f"  - route: [{to('v1')}]", "  gateways: [edge]")
    )
    planned = plan(text, gateway())
    assert host(planned, "http.8080", "blackhole:8080").routes == ()


def test_a_redirect_to_the_default_port_leaves_the_port_out():
    body = "  - redirect: {scheme: https, port: 443, authority: shop.example.com}"
    text = service("reviews") + virtual_service("a", "[reviews]", body)
    (route,) = host(plan(text, workload("ratings")), "80", f"{REVIEWS}:80").routes
    assert route.action == Redirect(authority="shop.example.com", scheme="https")


def test_endpoints_are_the_ready_members_of_the_subset():
    text = (
        service("reviews")
        + """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
    )
    one = workload("reviews", address="240.241.0.1", ports=())
    two = workload("reviews", version="v2", address="240.241.0.2", ports=())
    late = workload("reviews", version="v3", address="240.241.0.3", ready=False, ports=())
    planned = plan(text, workload("ratings"), one, two, late)
    assert endpoints(planned, f"outbound|80||{REVIEWS}") == ["240.241.0.1:80", "240.241.0.2:80"]
    assert endpoints(planned, f"outbound|80|v2|{REVIEWS}") == ["240.241.0.2:80"]


def test_the_server_has_to_be_who_runs_the_service():
    planned = plan(service("reviews"), workload("ratings"), workload("reviews"))
    tls = cluster(planned, f"outbound|80||{REVIEWS}").tls
    assert tls.sans == ("spiffe://cluster.local/ns/default/sa/reviews",)
    assert tls.automatic
