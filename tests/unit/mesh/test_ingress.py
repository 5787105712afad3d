"""Which Ingresses are taken, how the paths of a host are ordered, and what is told of those that cannot be used."""

from __future__ import annotations

import pytest

from tests.unit.plan.building import gateway, host, plan, service, snapshot

APPS = "".join(service(name, ports="[{name: http, port: 80}, {name: admin, port: 8080}]") for name in ("a", "b", "c"))


def ingress(
    name, rules="", more="", created="2024-01-01T00:00:00Z", annotations="{kubernetes.io/ingress.class: istio}"
):
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default, creationTimestamp: '{created}', annotations: {annotations}}}
spec:
  rules: [{rules}]
  {more}
---
"""


def backend(name, port="number: 80"):
    return f"{{service: {{name: {name}, port: {{{port}}}}}}}"


def rule(host, *paths):
    listed = ", ".join(f"{{path: '{path}', pathType: {kind}, backend: {backend(to)}}}" for path, kind, to in paths)
    return f"{{host: '{host}', http: {{paths: [{listed}]}}}}" if host else f"{{http: {{paths: [{listed}]}}}}"


def routes(text, name, **settings):
    """(path, cluster or status) of each route of a host."""
    found = []
    for route in host(plan(APPS + text, gateway(), **settings), "http.80", f"{name}:80").routes:
        path = f"{route.match.path.kind.value} {route.match.path.value}"
        clusters = getattr(route.action, "clusters", None)
        found.append((path, clusters[0].cluster if clusters else route.action.status))
    return found


def to(name, port=80):
    return f"outbound|{port}||{name}.default.svc.cluster.local"


def test_the_longest_path_is_asked_first_and_the_exact_one_before_the_prefix():
    text = ingress(
        "shop",
        rule(
            "shop.example",
            ("/", "Prefix", "a"),
            ("/cart", "Prefix", "a"),
            ("/cart", "Exact", "b"),
            ("/cart/add/", "Prefix", "c"),
        ),
    )
    assert routes(text, "shop.example") == [
        ("exact /cart/add", to("c")),
        ("prefix /cart/add/", to("c")),
        ("exact /cart", to("b")),
        ("exact /cart", to("a")),
        ("prefix /cart/", to("a")),
        ("prefix /", to("a")),
    ]


def test_what_implementation_specific_means():
    paths = (
        ("/one", "ImplementationSpecific", "a"),
        ("/two/*", "ImplementationSpecific", "b"),
        ("/three.*", "ImplementationSpecific", "c"),
    )
    assert routes(ingress("shop", rule("", *paths)), "*") == [
        ("prefix /three", to("c")),
        ("exact /one", to("a")),
        ("exact /two", to("b")),
        ("prefix /two/", to("b")),
    ]


def test_the_default_backend_has_what_no_path_takes():
    text = ingress(
        "shop", rule("shop.example", ("/cart", "Exact", "a")), f"defaultBackend: {backend('b', 'name: admin')}"
    )
    assert routes(text, "shop.example") == [("exact /cart", to("a")), ("prefix /", to("b", 8080))]
    assert routes(text, "*") == [("prefix /", to("b", 8080))]


def test_rules_of_one_host_are_joined():
    text = ingress("young", rule("shop.example", ("/same", "Exact", "a")))
    text += ingress(
        "old", rule("shop.example", ("/same", "Exact", "b"), ("/old", "Exact", "b")), created="2023-01-01T00:00:00Z"
    )
    assert [cluster for _, cluster in routes(text, "shop.example")] == [to("b"), to("a"), to("b")]


CLASSES = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ours%s}
spec: {controller: istio.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
"""
MARKED = CLASSES % ", annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}"
UNMARKED = CLASSES % ""


@pytest.mark.parametrize(
    ("classes", "annotations", "named", "mode", "is_taken"),
    [
        ("", "{kubernetes.io/ingress.class: istio}", "", "STRICT", True),
        ("", "{kubernetes.io/ingress.class: istio}", "", "OFF", False),
        ("", "{kubernetes.io/ingress.class: nginx}", "", "DEFAULT", False),
        ("", "{}", "", "STRICT", False),
        ("", "{}", "", "DEFAULT", True),
        (UNMARKED, "{}", "ingressClassName: ours", "STRICT", True),
        (UNMARKED, "{}", "ingressClassName: nginx", "DEFAULT", False),
        (UNMARKED, "{}", "", "STRICT", False),
        (MARKED, "{}", "", "STRICT", True),
        (UNMARKED, "{}", "ingressClassName: missing", "STRICT", False),
        (UNMARKED, "{}", "ingressClassName: missing", "DEFAULT", True),
    ],
)
def test_the_class_decides_who_serves(classes, annotations, named, mode, is_taken):
    text = classes + ingress("shop", rule("shop.example", ("/", "Prefix", "a")), named, annotations=annotations)
    found = snapshot(APPS + text, gateway(), ingress_mode=mode)
    assert bool(found.gateways) is is_taken
    assert [finding.code for finding in found.findings] == ["unknown-ingress-class"] * ("missing" in named)


def test_a_port_that_the_service_does_not_have_is_told_and_answered():
    text = ingress(
        "shop", f"{{http: {{paths: [{{path: /x, pathType: Exact, backend: {backend('a', 'name: wrong')}}}]}}}}"
    )
    assert routes(text, "*") == [("exact /x", 503)]
    (finding,) = snapshot(APPS + text).findings
    assert (finding.code, finding.origin.kind) == ("unknown-backend", "Ingress")
    assert finding.origin.field == "spec.rules[0].http.paths[0].backend.service.port.name"


def test_tls_belongs_to_the_ingress_that_has_the_routes():
    tls = "tls: [{hosts: [shop.example], secretName: cert}]"
    text = ingress("old", rule("shop.example", ("/a", "Exact", "a")), created="2023-01-01T00:00:00Z")
    text += ingress("young", rule("shop.example", ("/b", "Exact", "b")), tls)
    (finding,) = snapshot(APPS + text).findings
    assert (finding.code, finding.origin.name, finding.origin.field) == ("unrouted-tls-host", "young", "spec.tls[0]")


def test_the_mesh_config_says_which_gateways_serve():
    config = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\n"
    config += "ingressControllerMode: DEFAULT\ningressSelector: edge\n---\n"
    (found,) = snapshot(config + APPS + ingress("shop", rule("", ("/", "Prefix", "a")), annotations="{}")).gateways
    assert found.spec.selector == {"istio": "edge"}
