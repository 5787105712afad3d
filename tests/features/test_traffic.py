"""What a user can do with traffic, seen from outside and from inside the mesh."""

import collections
import contextlib
import http.client
import http.server
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.envoy.harness import Authority
from tests.features.running import until

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]
ECHO = "http://echo:8000"


def virtual_service(http, name="echo"):
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [echo]
  http:
{http}
"""


def to(subset, weight=None):
    share = f", weight: {weight}" if weight is not None else ""
    return f"{{destination: {{host: echo, subset: {subset}, port: {{number: 8000}}}}{share}}}"


def test_requests_reach_every_version(mesh):
    assert {mesh.fetch(f"{ECHO}/echo").version for _ in range(20)} == {"v1", "v2"}


def test_what_proxies_of_mixer_once_told_does_not_reach_the_application(mesh):
    headers = mesh.fetch(f"{ECHO}/echo", headers={"x-istio-attributes": "Cg=="}).json()["headers"]
    assert "x-istio-attributes" not in headers


def test_the_server_sees_who_called(mesh):
    certificate = mesh.fetch(f"{ECHO}/echo").json()["headers"]["x-forwarded-client-cert"]
    assert "URI=spiffe://cluster.local/ns/default/sa/client" in certificate


def test_everything_to_one_version(mesh):
    with mesh.applied(virtual_service(f"  - route: [{to('v1')}]")):
        assert {mesh.fetch(f"{ECHO}/echo").version for _ in range(10)} == {"v1"}


def test_weights_split_the_traffic(mesh):
    with mesh.applied(virtual_service(f"  - route: [{to('v1', 80)}, {to('v2', 20)}]")):
        versions = collections.Counter(mesh.fetch(f"{ECHO}/echo").version for _ in range(150))
    assert 90 <= versions["v1"] <= 145
    assert versions["v2"] >= 5


@pytest.mark.parametrize(
    ("match", "headers", "target", "method"),
    [
        ("{headers: {end-user: {exact: jason}}}", {"end-user": "jason"}, "/echo", "GET"),
        ("{headers: {end-user: {regex: 'j.*n'}}}", {"end-user": "jason"}, "/echo", "GET"),
        ("{uri: {prefix: /special}}", {}, "/special/one", "GET"),
        ("{uri: {exact: /special}}", {}, "/special", "GET"),
        ("{uri: {regex: '/s.*l'}}", {}, "/special", "GET"),
        ("{method: {exact: POST}}", {}, "/echo", "POST"),
        ("{authority: {prefix: echo.default}}", {"host": "echo.default:8000"}, "/echo", "GET"),
    ],
)
def test_matches_choose_the_route(mesh, match, headers, target, method):
    rules = f"  - match: [{match}]\n    route: [{to('v2')}]\n  - route: [{to('v1')}]"
    with mesh.applied(virtual_service(rules)):
        assert mesh.fetch(ECHO + target, headers=headers, method=method).version == "v2"
        assert mesh.fetch(f"{ECHO}/other").version == "v1"


def test_rewrite_and_header_changes(mesh):
    rules = f"""
  - match: [{{uri: {{prefix: /old}}}}]
    rewrite: {{uri: /new}}
    headers:
      request: {{set: {{x-added: hello}}, remove: [x-gone]}}
      response: {{set: {{x-answered: there}}}}
    route: [{to("v1")}]
  - route: [{to("v2")}]
"""
    with mesh.applied(virtual_service(rules)):
        answer = mesh.fetch(f"{ECHO}/old/one", headers={"x-gone": "1"})
    assert answer.json()["path"] == "/new/one"
    assert answer.json()["headers"]["x-added"] == "hello"
    assert "x-gone" not in answer.json()["headers"]
    assert answer.headers["x-answered"] == "there"


def test_redirect(mesh):
    with mesh.applied(virtual_service("  - redirect: {uri: /elsewhere, authority: other.example, redirectCode: 302}")):
        answer = mesh.fetch(f"{ECHO}/echo")
    assert (answer.status, answer.headers["location"]) == (302, "http://other.example/elsewhere")


def test_timeout(mesh):
    with mesh.applied(virtual_service(f"  - timeout: 0.3s\n    route: [{to('v1')}]")):
        answer = mesh.fetch(f"{ECHO}/slow/3")
    assert answer.status == 504
    assert answer.seconds < 2


def test_retries(mesh):
    rules = f"  - retries: {{attempts: 3, retryOn: 5xx, backoff: 5ms}}\n    route: [{to('v1')}]"
    with mesh.applied(virtual_service(rules)):
        assert mesh.fetch(f"{ECHO}/flaky/{mesh.port}a/3").json()["tries"] == 4
    with mesh.applied(virtual_service(f"  - retries: {{attempts: 0}}\n    route: [{to('v1')}]")):
        assert mesh.fetch(f"{ECHO}/flaky/{mesh.port}b/3").status == 503


def test_faults(mesh):
    rules = f"""
  - match: [{{headers: {{end-user: {{exact: jason}}}}}}]
    fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}
    route: [{to("v1")}]
  - fault: {{delay: {{fixedDelay: 0.5s, percentage: {{value: 100}}}}}}
    route: [{to("v1")}]
"""
    with mesh.applied(virtual_service(rules)):
        assert mesh.fetch(f"{ECHO}/echo", headers={"end-user": "jason"}).status == 418
        answer = mesh.fetch(f"{ECHO}/echo")
    assert answer.status == 200
    assert answer.seconds > 0.45


def test_mirroring(mesh):
    rules = f"  - route: [{to('v1')}]\n    mirror: {{host: echo, subset: v2, port: {{number: 8000}}}}"
    target = f"/mirrored/{mesh.port}"
    with mesh.applied(virtual_service(rules)):
        assert mesh.fetch(ECHO + target).version == "v1"
    with mesh.applied(virtual_service(f"  - route: [{to('v2')}]")):
        until(lambda: mesh.fetch(f"{ECHO}/seen{target}").json() == 1, "the mirror's copy")


def test_plain_tcp_between_workloads(mesh):
    answer = mesh.get("/tcp?to=echo:7000")
    assert answer.json() == {"got": "echo hello\n"}


def test_a_service_that_nobody_runs_is_503(mesh):
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: nobody}\nspec: {ports: [{name: http, port: 8000}]}\n"
    rules = virtual_service("  - route: [{destination: {host: nobody, port: {number: 8000}}}]")
    with mesh.applied(f"{service}---{rules}"):
        assert mesh.fetch(f"{ECHO}/echo").status == 503


@contextlib.contextmanager
def policy_for_echo(mesh, policy):
    """A traffic policy in the DestinationRule that the project has."""
    before = (mesh.project / "gateway.yaml").read_text()
    mesh.write("gateway.yaml", before.replace("  host: echo\n", f"  host: echo\n  trafficPolicy: {policy}\n"))
    try:
        mesh.settled()
        yield
    finally:
        mesh.write("gateway.yaml", before)
        mesh.settled()


def test_outlier_detection_takes_a_failing_member_out(mesh):
    outlier = "{consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 60s, maxEjectionPercent: 50}"
    with policy_for_echo(mesh, f"{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {outlier}}}"):
        mesh.fetch(f"{ECHO}/status/500")
        until(lambda: len({mesh.fetch(f"{ECHO}/echo").version for _ in range(8)}) == 1, "one member is left")


def test_connection_pool_limits_overflow(mesh):
    limits = "{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"
    with policy_for_echo(mesh, f"{{connectionPool: {limits}}}"), ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: mesh.fetch(f"{ECHO}/slow/0.3").status, range(12)))
    assert 200 in answers
    assert 503 in answers


def test_a_static_service_outside_the_mesh(mesh):
    class Outside(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"outside")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Outside)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.example]
  ports: [{number: 8000, name: http, protocol: HTTP}]
  resolution: RESOLUTION
  endpoints: [{address: ADDRESS, ports: {http: PORT}}]
"""
    rules = virtual_service("  - route: [{destination: {host: outside.example, port: {number: 8000}}}]")
    try:
        for resolution, address in (("STATIC", "127.0.0.1"), ("DNS", "localhost")):
            text = entry.replace("RESOLUTION", resolution).replace("ADDRESS", address)
            with mesh.applied(text.replace("PORT", str(server.server_port)) + "---" + rules):
                answer = until(lambda: (a := mesh.fetch(f"{ECHO}/echo")).status == 200 and a, resolution)
                assert answer.body == b"outside"
    finally:
        server.shutdown()
        server.server_close()


def test_https_at_the_gateway_with_a_certificate_from_a_secret(mesh, tmp_path):
    authority = Authority()
    pem = authority.issue("shop.example")
    secret = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "shop-cert"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pem.certificate.decode(), "tls.key": pem.key.decode()},
        }
    )
    gateway = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {mesh.tls_port}, name: https, protocol: HTTPS}}
    hosts: [shop.example]
    tls: {{mode: SIMPLE, credentialName: shop-cert}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop.example]
  gateways: [shop]
  http: [{{route: [{{destination: {{host: echo, port: {{number: 8000}}}}}}]}}]
"""
    with mesh.applied(f"{secret}\n---{gateway}"):
        (tmp_path / "roots.pem").write_bytes(authority.roots)
        context = ssl.create_default_context(cafile=str(tmp_path / "roots.pem"))

        def ask():
            try:
                raw = socket.create_connection(("127.0.0.1", mesh.tls_port), timeout=5)
                connection = http.client.HTTPConnection("shop.example")
                connection.sock = context.wrap_socket(raw, server_hostname="shop.example")
                connection.request("GET", "/echo")
                return connection.getresponse().status
            except OSError:
                return 0

        until(lambda: ask() == 200, "https answers")


def test_envoy_filters_come_and_go(mesh):
    headers = "[{header: {key: x-patched, value: here}}]"
    text = f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: mark}}
spec:
  workloadSelector: {{labels: {{istio: ingressgateway}}}}
  configPatches:
  - applyTo: ROUTE_CONFIGURATION
    match: {{context: GATEWAY}}
    patch: {{operation: MERGE, value: {{response_headers_to_add: {headers}}}}}
"""
    with mesh.applied(text):
        assert mesh.get().headers["x-patched"] == "here"
    assert "x-patched" not in mesh.get().headers


def test_metrics_tell_who_called_whom(mesh):
    mesh.fetch(f"{ECHO}/echo")

    def wanted():
        text = mesh._over_socket(mesh.run_dir / "api.sock", "/metrics").decode()
        assert text.count("# TYPE istio_requests_total counter") <= 1
        lines = [line for line in text.splitlines() if line.startswith("istio_requests_total{")]
        return [
            line
            for line in lines
            if all(
                part in line
                for part in (
                    'reporter="destination"',
                    'source_workload="client"',
                    'destination_service="echo.default.svc.cluster.local"',
                    'source_principal="spiffe://cluster.local/ns/default/sa/client"',
                    'response_code="200"',
                    'connection_security_policy="mutual_tls"',
                )
            )
        ]

    until(wanted, "the metric of the server's side")


def test_access_logs_are_json(mesh):
    target = f"/logged/{mesh.port}"
    mesh.fetch(ECHO + target)

    def logged():
        out = "".join(mesh.lateen("logs", f"echo-{version}-0", "--access").stdout for version in ("v1", "v2"))
        return [json.loads(line) for line in out.splitlines() if target in line and line.startswith("{")]

    entry = until(logged, "the line of the request", patience=5)[0]
    assert entry["response_code"] == 200
    assert entry["method"] == "GET"


def test_commands_can_be_run_in_the_place_of_a_workload(mesh):
    done = mesh.lateen("exec", "client", "--", "python3", "-c", "import os; print(os.environ['POD_NAME'])")
    assert done.stdout.strip().startswith("client")


def test_a_question_about_the_unknown_is_answered_kindly(mesh):
    done = mesh.lateen("logs", "nobody", check=False)
    assert done.returncode != 0
    assert "nobody" in done.stderr
