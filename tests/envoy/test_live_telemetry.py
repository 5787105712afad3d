"""Telemetry resources: what they change of the metrics and the log that a real proxy makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lateen.control.approval import Approval
from lateen.control.coordinator import Coordinator, Draft, ProxyOptions
from lateen.control.trial import Trial
from lateen.envoy.resources import LISTENER
from lateen.local.envoy_admin import active_requests, metrics
from lateen.local.metrics import Traffic, count_so_far
from lateen.local.scrape import REQUESTS
from lateen.settings import Settings
from tests.envoy.from_yaml import ACCESS_LOG, CLIENT, Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves
from tests.envoy.grpc_support import GrpcServer, given_up, said, streamed
from tests.envoy.harness import Application, Authority, eventually, free_port
from tests.envoy.test_live_inbound import PORT, app_address, connect, mesh_tls, server
from tests.unit.plan.building import resources

HEAD = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
OVERRIDES = "Telemetry metrics[].overrides[]"
LEVELS = (
    """
metadata: {name: mesh, namespace: istio-system}
spec:
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_SIZE}
      disabled: true
    - match: {customMetric: istio_response_bytes}
      disabled: true
    - match: {metric: REQUEST_COUNT, mode: SERVER}
      disabled: true
    - tagOverrides:
        source_app: {operation: REMOVE}
        level: {value: "'mesh'"}
  accessLogging:
  - disabled: true
"""
    + HEAD
    + """
metadata: {name: own}
spec:
  metrics:
  - overrides:
    - match: {metric: RESPONSE_SIZE, mode: CLIENT}
      disabled: false
    - match: {metric: REQUEST_COUNT}
      tagOverrides:
        level: {value: "'namespace'"}
        method: {operation: UPSERT, value: request.method}
        kind: {value: "request.headers['x-kind']"}
        code: {value: string(response.code)}
  accessLogging:
  - match: {mode: CLIENT}
    providers: [{name: envoy}]
    filter: {expression: response.code >= 400}
  - match: {mode: SERVER}
    disabled: true
"""
    + HEAD
    + """
metadata: {name: chosen}
spec:
  selector: {matchLabels: {app: client}}
  metrics:
  - overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides: {level: {value: "'workload'"}}
"""
    + HEAD
    + """
metadata: {name: others}
spec:
  selector: {matchLabels: {app: another}}
  metrics:
  - overrides: [{disabled: true}]
"""
)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Running]:
    with Application("v1") as app, sidecar(entry("shop", app.port) + HEAD + LEVELS, logs=True) as running:
        assert running.get("shop.example", 8080, "/well", {"x-kind": "big"}).status == 200
        assert running.get("shop.example", 8080, "/status/500").status == 500
        yield running


def _counted(proxy: Running, code: str) -> dict[str, str]:
    def found() -> dict[str, str] | None:
        samples = proxy.metrics("istio_requests_total")
        return next((labels for labels, _ in samples if labels["response_code"] == code), None)

    return eventually(found)


@pytest.mark.covers(
    f"{OVERRIDES}.tagOverrides{{}}.operation", f"{OVERRIDES}.tagOverrides{{}}.value", "Telemetry metrics[].providers"
)
def test_labels_are_left_out_and_worked_out(proxy: Running) -> None:
    labels = _counted(proxy, "200")
    assert "source_app" not in labels
    assert (labels["method"], labels["kind"], labels["code"]) == ("GET", "big", "200")
    assert _counted(proxy, "500")["kind"] == "unknown"
    assert labels["source_workload"] == "client"


@pytest.mark.covers("Telemetry selector")
def test_what_is_nearer_to_the_workload_is_said_last(proxy: Running) -> None:
    assert _counted(proxy, "200")["level"] == "workload"
    (duration, *_) = eventually(lambda: proxy.metrics("istio_request_duration_milliseconds_count"))
    assert duration[0]["level"] == "mesh"


@pytest.mark.covers(
    f"{OVERRIDES}.disabled",
    f"{OVERRIDES}.match.metric",
    f"{OVERRIDES}.match.customMetric",
    f"{OVERRIDES}.match.mode",
)
def test_metrics_are_switched_off_and_on_again_for_one_side(proxy: Running) -> None:
    assert eventually(lambda: proxy.metrics("istio_response_bytes_count"))
    assert proxy.metrics("istio_request_bytes_count") == []
    assert _counted(proxy, "200")["reporter"] == "source"


@pytest.mark.covers(
    "Telemetry accessLogging[].disabled",
    "Telemetry accessLogging[].filter.expression",
    "Telemetry accessLogging[].match.mode",
    "Telemetry accessLogging[].providers",
)
def test_the_log_has_what_the_expression_asks_for(proxy: Running) -> None:
    assert proxy.logged("/status/500")["response_code"] == 500
    lines = (proxy.folder / ACCESS_LOG).read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/status/500"]


def test_a_log_that_is_switched_off_has_nothing() -> None:
    text = HEAD + "metadata: {name: a}\nspec: {accessLogging: [{disabled: true}]}\n"
    with Application("v1") as app, sidecar(entry("shop", app.port) + text, logs=True) as running:
        assert running.get("shop.example", 8080, "/a").status == 200
        assert eventually(lambda: running.metrics("istio_requests_total"))
        log = running.folder / ACCESS_LOG
        assert not log.exists() or log.read_text() == ""


@pytest.mark.parametrize(
    "spec",
    [
        "{accessLogging: [{filter: {expression: nothing.like(this)}}]}",
        "{metrics: [{overrides: [{tagOverrides: {a: {value: nothing.like(this)}}}]}]}",
    ],
)
def test_an_expression_that_envoy_refuses_is_told_and_stops_nothing(spec: str) -> None:
    draft = _approved(HEAD + f"metadata: {{name: wrong}}\nspec: {spec}\n")
    (finding,) = [finding for finding in draft.findings if finding.is_error]
    assert (finding.code, finding.origin.name) == ("refused-by-envoy", "wrong")
    assert not any(b"nothing.like" in listener.body for listener in draft.made[CLIENT.id].by_type[LISTENER].values())


def test_a_file_that_cannot_be_written_is_told_and_stops_nothing(tmp_path: Path) -> None:
    spec = "accessLogging: [{providers: [{name: text}]}]"
    away = tmp_path / "away"
    draft = _approved(PROVIDERS.format(folder=away) + HEAD + f"metadata: {{name: wrong}}\nspec: {{{spec}}}\n")
    assert [finding.code for finding in draft.findings if finding.is_error] == ["refused-by-envoy"]
    listeners = draft.made[CLIENT.id].by_type[LISTENER].values()
    assert not any(str(away).encode() in listener.body for listener in listeners)


def _approved(text: str) -> Draft:
    """What proxies would be given, after a spare Envoy was asked."""
    wanted = resources(entry("shop", 1) + text)
    coordinator = Coordinator(Settings(), lambda *_: None, lambda _: ProxyOptions(access_log="/dev/null"))

    async def approve() -> Draft:
        approval = Approval(Trial())
        return await approval.approved(lambda refused: coordinator.draft(wanted, (CLIENT,), refused), (), wanted)

    draft = asyncio.run(approve())
    assert draft.made[CLIENT.id].by_type[LISTENER]
    return draft


CHANGED = (
    HEAD
    + """
metadata: {name: mesh, namespace: istio-system}
spec: {metrics: [{overrides: [{tagOverrides: {source_app: {operation: REMOVE}, destination_app: {value: "'till'"}}}]}]}
"""
)


@pytest.mark.parametrize("telemetry", ["", CHANGED], ids=["as they are", "changed"])
def test_who_calls_is_what_its_certificate_says(tmp_path: Path, telemetry: str) -> None:
    authority = Authority()
    request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with (
        sidecar(telemetry, workload=server("HTTP"), authority=authority) as proxy,
        Application("v1", app_address(proxy), PORT),
    ):
        context = mesh_tls(authority, tmp_path, ["istio-http/1.1"], subject="lateen/till~20v2//v~C3~A92/till/v3")
        with context.wrap_socket(connect(proxy)) as connection:
            connection.sendall(request)
            while connection.recv(65536):
                pass
        labels = _counted(proxy, "200")
    caller = {name: value for name, value in labels.items() if name.startswith("source_")}
    assert caller == {
        "source_workload": "till v2",
        "source_workload_namespace": "default",
        **({} if telemetry else {"source_app": "unknown"}),
        "source_version": "vé2",
        "source_canonical_service": "till",
        "source_canonical_revision": "v3",
        "source_principal": "spiffe://cluster.local/ns/default/sa/client",
        "source_cluster": "unknown",
    }
    assert labels["destination_app"] == ("till" if telemetry else "server")
    assert labels["destination_principal"].startswith("spiffe://cluster.local/")
    assert labels["destination_canonical_service"] == "server"
    assert labels["destination_canonical_revision"] == "latest"


PROVIDERS = """
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
extensionProviders:
- {{name: text, envoyFileAccessLog: {{path: {folder}/text, logFormat: {{text: "%REQ(:METHOD)% %RESPONSE_CODE%"}}}}}}
- name: json
  envoyFileAccessLog:
    path: {folder}/json
    omitEmptyValues: true
    logFormat: {{labels: {{code: "%RESPONSE_CODE%", none: "%REQ(no)%", of: {{path: "%REQ(:PATH)%"}}}}}}
- {{name: usual, envoyFileAccessLog: {{path: {folder}/usual}}}}
"""


def test_providers_write_files_in_their_own_formats(tmp_path: Path) -> None:
    spec = "accessLogging: [{providers: [{name: text}, {name: json}, {name: usual}, {name: none}]}]"
    text = PROVIDERS.format(folder=tmp_path) + HEAD + f"metadata: {{name: a}}\nspec: {{{spec}}}\n"
    with (
        Application("v1") as app,
        sidecar(entry("shop", app.port) + text, logs=True, allow_findings=True) as running,
    ):
        assert running.get("shop.example", 8080, "/a").status == 200
        written = {
            name: eventually(lambda name=name: (tmp_path / name).read_text()) for name in ("text", "json", "usual")
        }
        own = running.folder / ACCESS_LOG
        assert not own.exists() or own.read_text() == ""
    assert written["text"] == "GET 200\n"
    assert json.loads(written["json"]) == {"code": 200, "of": {"path": "/a"}}
    assert '"GET /a HTTP/1.1" 200 - via_upstream' in written["usual"]
    assert [finding.code for finding in running.findings if finding.is_error] == ["unknown-provider"]


def test_series_that_nothing_is_counted_for_are_dropped() -> None:
    often = {"stats_flush_interval": "0.1s", "stats_eviction_interval": "0.5s"}
    with Application("v1") as app, sidecar(entry("shop", app.port), settings_of_process=often) as running:
        assert running.get("shop.example", 8080, "/status/500").status == 500

        def counted() -> set[str]:
            assert running.get("shop.example", 8080, "/a").status == 200
            return {labels["response_code"] for labels, _ in running.metrics("istio_requests_total")}

        eventually(lambda: counted() == {"200", "500"})
        eventually(lambda: counted() == {"200"})


def test_requests_are_counted_by_their_durations() -> None:
    with Application("v1") as app, sidecar(entry("shop", app.port)) as running:
        for path in ("/a", "/b", "/status/500"):
            running.get("shop.example", 8080, path)

        def found() -> bool:
            text = asyncio.run(metrics(running.folder / "admin.sock", REQUESTS))
            count = count_so_far(text, "source")
            return count.traffic == Traffic(3, 1) and count.seconds > 0

        eventually(found)
        assert "requests_total" not in running.admin("/stats/prometheus")


def test_strangers_make_no_series_by_asking_for_hosts() -> None:
    port = free_port()
    with sidecar(gateway(serves(port)), workload=gateway_workload()) as running:
        for number in range(3):
            assert running.get(f"host-{number}.example", port, "/", address="127.0.0.1").status == 404
        eventually(lambda: sum(count for _, count in running.metrics("istio_requests_total")) == 3)
        ((labels, _),) = running.metrics("istio_requests_total")
    assert (labels["destination_service"], labels["response_code"]) == ("unknown", "404")


def _sum(proxy: Running, metric: str) -> dict[str, float]:
    """A counter by the status of gRPC."""
    found: dict[str, float] = {}
    for labels, count in proxy.metrics(metric):
        found[labels["grpc_response_status"]] = found.get(labels["grpc_response_status"], 0) + count
    return found


FAULT = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: late}
spec:
  hosts: [late.example]
  http: [{fault: {delay: {fixedDelay: 30s, percentage: {value: 100}}}, route: [{destination: {host: late.example}}]}]
"""
KIND_OF_STATUS = """
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: status}
spec: {metrics: [{overrides: [{tagOverrides: {grpc_response_status: {operation: REMOVE}}}]}]}
"""


@pytest.mark.parametrize("telemetry", ["", KIND_OF_STATUS], ids=["packed", "apart"])
def test_a_grpc_call_that_is_given_up_before_an_answer_is_still_grpc(telemetry: str) -> None:
    """Whether a server or a fault lets it wait; what only resembles gRPC is none."""
    with (
        GrpcServer("slow", seconds=2.0) as slow,
        Application("v1") as app,
        sidecar(
            entry("shop", app.port)
            + entry("slow", slow.port, "GRPC", number=9411)
            + entry("late", slow.port, "GRPC", number=9412)
            + FAULT
            + telemetry
        ) as proxy,
    ):
        admin = proxy.folder / "admin.sock"
        for name, port in (("slow.example", 9411), ("late.example", 9412)):
            given_up(proxy.address(name), port, name, lambda: asyncio.run(active_requests(admin)) == 1)
            eventually(lambda: asyncio.run(active_requests(admin)) == 0)
        assert proxy.get("shop.example", 8080, "/", {"content-type": "application/grpc-web"}).status == 200
        eventually(lambda: len(proxy.metrics("istio_requests_total")) == 3)
        found = {labels["destination_service"]: labels for labels, _ in proxy.metrics("istio_requests_total")}
    assert {host: labels["request_protocol"] for host, labels in found.items()} == {
        "slow.example": "grpc",
        "late.example": "grpc",
        "shop.example": "http",
    }
    if not telemetry:
        assert found["slow.example"]["grpc_response_status"] == "unknown"


def test_messages_of_grpc_are_counted() -> None:
    only_answers = "metrics: [{overrides: [{match: {metric: GRPC_RESPONSE_MESSAGES, mode: SERVER}, disabled: true}]}]"
    with (
        GrpcServer("names") as names,
        Application("v1") as app,
        sidecar(
            entry("shop", app.port)
            + entry("names", names.port, "GRPC", number=9411)
            + HEAD
            + f"metadata: {{name: a}}\nspec: {{{only_answers}}}\n",
        ) as proxy,
    ):
        assert proxy.get("shop.example", 8080, "/", {"content-type": "application/grpc"}).status == 200
        address = proxy.address("names.example")
        assert len(said(address, 9411, "names.example", 3)) == 3
        assert len(streamed(address, 9411, "names.example", [b"a"] * 5, most=20)) == 10
        eventually(lambda: _sum(proxy, "istio_requests_total") == {"0": 4, "2": 1})
        assert _sum(proxy, "istio_request_messages_total") == {"0": 8}
        assert _sum(proxy, "istio_response_messages_total") == {"0": 13}
        streamed(address, 9411, "names.example", [b"a"] * 500, most=2)
        broken = eventually(lambda: _sum(proxy, "istio_response_messages_total").get("2"))
        (labels, _) = proxy.metrics("istio_response_messages_total")[0]
    assert broken >= 2
    assert (labels["request_protocol"], labels["destination_service"]) == ("grpc", "names.example")
    assert labels["source_workload"] == "client"
