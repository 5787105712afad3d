"""A real Prometheus reads the mesh, and its queries, dashboards and alert rules find what they ask for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from docs.catalogue import ALERTS, DASHBOARDS
from lateen import __version__
from tests.debian import program
from tests.envoy.collectors import GrpcCollector, HttpCollector, Told
from tests.features.running import BIN, ROOT, Mesh, free_port, running_mesh, until

RULES = ROOT / "docs" / "monitoring" / "alerts.yaml"
SERVICE = "echo.default.svc.cluster.local"
EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
COLLECTORS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: otel}}
spec:
  hosts: [otel.example]
  ports: [{{name: grpc, number: 4317, protocol: GRPC}}, {{name: http, number: 4318, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {grpc}, http: {http}}}}}]
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
defaultProviders: {{metrics: [prometheus, otlp]}}
extensionProviders:
- name: otlp
  opentelemetry: {{service: otel.example, port: 4317, grpc: {{initialMetadata: [{{name: x-share, value: 5%}}]}}}}
- name: web
  opentelemetry:
    service: otel.example
    port: 4318
    http: {{path: /own/v1/traces, headers: [{{name: x-key, envName: LATEEN_PROXY_KEY}}]}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: client}}}}
  metrics: [{{providers: [{{name: web}}], reportingInterval: 0.5s}}]
"""


class Watched(NamedTuple):
    mesh: Mesh
    url: str
    grpc: GrpcCollector
    http: HttpCollector

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus answers to a query now."""
        target = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(target, timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as problem:
            if problem.code == 503:  # it is not ready yet
                return []
            raise AssertionError(f"{query}: {problem.read()!r}") from problem
        except OSError:  # it does not listen yet
            return []
        return found


@contextlib.contextmanager
def _prometheus(folder: Path, target: str) -> Iterator[str]:
    port = free_port()
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "lateen", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    found = program("prometheus", "prometheus")
    words = [
        found.path,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=found.environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    target = f"127.0.0.1:{free_port()}"

    def prepare(mesh: Mesh) -> None:
        mesh.options = ("--metrics", target)
        mesh.environment["LATEEN_PROXY_KEY"] = "mine"
        (mesh.project / "otlp.yaml").write_text(COLLECTORS.format(grpc=calls.port, http=http.port))

    with (
        GrpcCollector(EXPORT) as calls,
        HttpCollector() as http,
        running_mesh("loopback", prepare) as mesh,
        _prometheus(tmp_path_factory.mktemp("p"), target) as url,
    ):
        found = Watched(mesh, url, calls, http)

        def called() -> bool:
            assert mesh.get("/echo").status == 200
            assert mesh.get("/via/echo").status == 200
            return bool(found.ask(f'rate(istio_requests_total{{destination_service="{SERVICE}"}}[5m]) > 0'))

        until(called, "Prometheus sees requests")
        yield found


def test_prometheus_reads_the_mesh(watched: Watched) -> None:
    (up,) = watched.ask('up{job="lateen"}')
    assert up["value"][1] == "1"
    found = watched.ask(f'istio_requests_total{{reporter="destination", destination_service="{SERVICE}"}}')
    (build,) = watched.ask("istio_build")
    assert build["metric"]["tag"] == __version__
    labels = found[0]["metric"]
    assert labels["connection_security_policy"] == "mutual_tls"
    assert labels["destination_canonical_service"] == "echo"
    assert labels["source_principal"].startswith("spiffe://cluster.local/ns/")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_a_dashboard_is_understood(watched: Watched, name: str) -> None:
    for panel in DASHBOARDS[name][1]:
        for query in panel.queries.values():
            found = watched.ask(query)
            assert found or "tcp" in query or "messages" in query or "5.." in query, f"{panel.title}: {query}"


def test_prometheus_takes_the_alert_rules_and_none_of_them_is_wrong(watched: Watched) -> None:
    found = program("prometheus", "prometheus")
    tool = str(Path(found.path).with_name("promtool"))
    done = subprocess.run(
        [tool, "check", "rules", str(RULES)], env=found.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with urllib.request.urlopen(f"{watched.url}/api/v1/rules", timeout=10) as answer:
        (group,) = json.load(answer)["data"]["groups"]
    assert [rule["name"] for rule in group["rules"]] == [alert.name for alert in ALERTS]
    assert not [rule for rule in group["rules"] if rule.get("lastError")]


def test_the_command_prints_the_same_page(watched: Watched) -> None:
    printed = watched.mesh.lateen("metrics", "istio_requests_total").stdout
    assert printed.startswith("# TYPE istio_requests_total counter\n")
    assert f'destination_service="{SERVICE}"' in printed
    assert "envoy_istio" not in watched.mesh.lateen("metrics").stdout


def _exported(told: Sequence[Told]) -> dict[str, set[str]]:
    """By instance: the names of its metrics that were told, and the reporters among their labels."""
    found: dict[str, set[str]] = {}
    for one in told:
        (resource,) = metrics_service_pb2.ExportMetricsServiceRequest.FromString(one.body).resource_metrics
        names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
        for metric in resource.instrumentation_library_metrics[0].metrics:
            found.setdefault(names["service.instance.id"], set()).add(metric.name)
    return found


def test_collectors_are_told_of_metrics_by_otlp(watched: Watched) -> None:
    until(lambda: watched.http.told and len(_exported(watched.grpc.told)) == 3, "collectors are told")
    assert _exported(watched.grpc.told).keys() == {"echo-v1-0", "echo-v2-0", "ingress-0"}
    assert _exported(watched.http.told).keys() == {"client-0"}
    assert "istio_requests_total" in _exported(watched.grpc.told)["echo-v1-0"]
    (over_grpc, over_http) = watched.grpc.told[0], watched.http.told[0]
    assert (over_grpc.path, over_grpc.headers["x-share"]) == (EXPORT, "5%")
    assert (over_http.path, over_http.headers["x-key"]) == ("/own/v1/metrics", "mine")
    sent = watched.mesh.lateen("metrics", "lateen_metric_exports_sent_total{").stdout
    assert float(sent.rpartition(" ")[2]) >= 4


SAME_LABELS = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: same, namespace: istio-system}
spec:
  metrics:
  - overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides: {destination_app: {value: "'echo'"}}
    - match: {metric: REQUEST_SIZE}
      tagOverrides: {kind: {value: "request.headers['x-kind']"}}
"""


def test_no_series_is_there_twice_as_telemetry_comes_and_goes(watched: Watched) -> None:
    """Nor does a caller keep Prometheus from the page by a header that is a label."""
    metric = f'istio_requests_total{{reporter="source", pod="client-0", destination_service="{SERVICE}"}}'

    def count() -> float:
        return sum(float(one["value"][1]) for one in watched.ask(metric))

    before = count()
    with watched.mesh.applied(SAME_LABELS):
        assert watched.mesh.get("/echo", headers={"x-kind": "\xff"}).status == 200
        assert watched.mesh.get("/via/echo").status == 200
        until(lambda: watched.ask('istio_request_bytes_count{kind!~"|unknown"}'), "Prometheus reads the odd label")
        until(lambda: count() > before, "Prometheus has read what came since")
    assert watched.mesh.get("/via/echo").status == 200
    until(lambda: count() > before + 1, "Prometheus has read what came after that")
    with urllib.request.urlopen(f"{watched.url}/metrics", timeout=10) as answer:
        own = answer.read().decode()
    assert "prometheus_target_scrapes_sample_duplicate_timestamp_total 0\n" in own


TALKING = """
import os, socket
connection = socket.create_connection((os.environ["ECHO_SERVICE_HOST"], 7000))
connection.sendall(b"x" * 10)
print(connection.recv(100), flush=True)
input()
"""


@pytest.mark.covers("Telemetry metrics[].reportingInterval")
def test_bytes_of_a_connection_are_counted_while_it_goes_on(watched: Watched) -> None:
    words = [str(BIN / "lateen"), "exec", "client", "--", "python3", "-c", TALKING]
    command = {"cwd": watched.mesh.project, "env": watched.mesh.environment, "text": True}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **command) as talking:
        assert talking.stdout is not None
        assert "echo" in talking.stdout.readline()

        def counted(metric: str) -> dict[str, float]:
            lines = watched.mesh.text("api.sock", "/metrics").splitlines()
            wanted = [line for line in lines if line.startswith(f"istio_tcp_{metric}_total{{")]
            found = (line.rpartition(" ") for line in wanted if 'reporter="source"' in line and "echo" in line)
            return {head: float(value) for head, _, value in found}

        received = until(lambda: counted("received_bytes"), "bytes are counted")
        assert talking.poll() is None
        talking.communicate("\n")
    until(lambda: counted("connections_closed"), "it is over")
    ((labels, count),) = received.items()
    assert count == 10
    assert 'pod="client-0"' in labels
    assert 'destination_principal="spiffe://cluster.local/ns/default/sa/echo"' in labels
    assert sum(counted("received_bytes").values()) == 10
