"""Which DestinationRule holds, and how its blocks override each other."""

from tests.unit.plan.building import cluster, plan, service, workload

CLUSTER = "outbound|80||reviews.default.svc.cluster.local"


def rule(name, namespace, policy, host="reviews.default.svc.cluster.local", extra=""):
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  host: {host}
  trafficPolicy: {policy}
{extra}
---
"""


def limit(number):
    return f"{{connectionPool: {{tcp: {{maxConnections: {number}}}}}}}"


def limit_of(text, client_namespace="default", name=CLUSTER):
    planned = plan(service("reviews") + text, workload("ratings", client_namespace))
    return cluster(planned, name).pool.max_connections


def test_the_clients_namespace_comes_before_the_services_and_the_root():
    text = rule("a", "istio-system", limit(1)) + rule("b", "default", limit(2)) + rule("c", "client", limit(3))
    assert limit_of(text, "client") == 3
    assert limit_of(text, "elsewhere") == 2
    assert limit_of(rule("a", "istio-system", limit(1)), "elsewhere") == 1


def test_the_first_level_with_a_match_decides_alone():
    wide = rule("a", "client", limit(3), host="'*.svc.cluster.local'")
    assert limit_of(wide + rule("b", "default", limit(2)), "client") == 3


def test_a_rule_that_is_not_exported_stays_at_home():
    text = rule("a", "default", limit(2), extra="  exportTo: ['.']")
    assert limit_of(text, "default") == 2
    assert limit_of(text, "elsewhere") is None


def test_rules_of_one_namespace_are_joined():
    text = rule("a", "default", limit(2)) + rule(
        "b", "default", limit(9), extra="  subsets: [{name: v1, labels: {version: v1}}]"
    )
    assert limit_of(text) == 2
    assert limit_of(text, name=CLUSTER.replace("||", "|v1|")) == 2


def test_port_settings_replace_all_blocks_at_once():
    policy = """
    connectionPool: {tcp: {maxConnections: 5}}
    outlierDetection: {consecutive5xxErrors: 3}
    portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 7}}}]
"""
    planned = plan(service("reviews") + rule("a", "default", policy), workload("ratings"))
    found = cluster(planned, CLUSTER)
    assert found.pool.max_connections == 7
    assert found.outlier is None


def test_a_subset_overrides_block_by_block():
    extra = """
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}
"""
    planned = plan(service("reviews") + rule("a", "default", limit(5), extra=extra), workload("ratings"))
    found = cluster(planned, CLUSTER.replace("||", "|v1|"))
    assert found.pool.max_connections == 5
    assert found.outlier.consecutive_5xx == 1


def test_plain_text_can_be_asked_for():
    planned = plan(service("reviews") + rule("a", "default", "{tls: {mode: DISABLE}}"), workload("ratings"))
    assert cluster(planned, CLUSTER).tls is None


def test_a_host_too_long_for_the_name_of_a_server_is_called_without_one():
    host = ".".join(["x" * 60] * 4) + ".example"
    entry = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: long}}
spec:
  hosts: [{host}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 10.2.2.2}}]
---
"""
    planned = plan(entry + rule("a", "default", "{tls: {mode: ISTIO_MUTUAL}}", host=host), workload("ratings"))
    assert cluster(planned, f"outbound|80||{host}").tls.sni == ""
