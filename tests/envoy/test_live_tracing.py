"""Traces: what collectors of every kind are told by a real proxy, and what becomes of the headers of a trace."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.envoy.collectors import GrpcCollector, HttpCollector
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry
from tests.envoy.harness import Application, Authority, eventually
from tests.envoy.plane import controlled

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TRACING = "Telemetry tracing[]"
MESH = """
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
defaultProviders: {{tracing: [{default}]}}
defaultConfig:
  tracing: {{sampling: 100, maxPathTagLength: 64}}
extensionProviders:
- name: spans
  zipkin:
    service: zipkin.example
    port: 9411
    maxTagLength: 16
    path: /spans
    timeout: 2s
    headers: [{{name: x-key, envName: LATEEN_PROXY_KEY}}, {{name: x-share, value: 100%}}]
- name: narrow
  zipkin: {{service: zipkin.example, port: 9411, enable64bitTraceId: true,
            traceContextOption: USE_B3_WITH_W3C_PROPAGATION}}
- name: otlp-http
  opentelemetry:
    service: zipkin.example
    port: 9411
    http: {{path: /v1/own, timeout: 2s, headers: [{{name: x-key, value: mine}}]}}
    resourceDetectors: {{environment: {{}}}}
    serviceAttributeEnrichment: OTEL_SEMANTIC_CONVENTIONS
- name: otlp-grpc
  opentelemetry:
    service: grpc.example
    port: 9411
    grpc: {{timeout: 2s, initialMetadata: [{{name: x-key, value: mine}}]}}
- name: skywalking
  skywalking: {{service: grpc.example, port: 9411, accessToken: open-sesame}}
- name: datadog
  datadog: {{service: zipkin.example, port: 9411}}
"""
HEAD = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"


class Site(NamedTuple):
    proxy: Running
    app: Application
    http: HttpCollector
    grpc: GrpcCollector

    def ask(self, path: str, **headers: str) -> dict[str, str]:
        """The headers with which a request arrived. More follow, as spans go out by five, or after five seconds."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        arrived = dict(self.proxy.get("shop.example", 8080, path, named).seen["headers"])
        for _ in range(5):
            self.proxy.get("shop.example", 8080, "/more")
        return arrived

    def span(self, path: str) -> dict[str, Any]:
        """The one span of Zipkin for a path."""

        def found() -> list[dict[str, Any]]:
            return [span for span in self.http.spans() if span["tags"]["http.url"].endswith(path)]

        (span,) = eventually(found)
        return span


@pytest.fixture(scope="module", autouse=True)
def variables() -> Iterator[None]:
    """What proxies of these tests see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATEEN_PROXY_KEY", "from outside")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=testing")
        yield


@contextlib.contextmanager
def site(telemetry: str = "", default: str = "spans") -> Iterator[Site]:
    """A client's sidecar, its server, and both collectors."""
    with (
        Application("v1") as app,
        HttpCollector() as http,
        GrpcCollector(EXPORT) as grpc,
        sidecar(mesh(app, http, grpc, default) + telemetry) as proxy,
    ):
        yield Site(proxy, app, http, grpc)


def mesh(app: Application, http: HttpCollector, grpc: GrpcCollector, default: str) -> str:
    text = entry("shop", app.port) + MESH.format(default=default)
    text += entry("zipkin", http.port, "http", number=9411)
    return text + entry("grpc", grpc.port, "grpc", number=9411)


TAGS = """
metadata: {name: mesh, namespace: istio-system}
spec:
  tracing:
  - customTags:
      never: {literal: {value: replaced}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: own}
spec:
  tracing:
  - match: {mode: CLIENT}
    providers: [{name: spans}]
    randomSamplingPercentage: 100
    customTags:
      fixed: {literal: {value: one}}
      variable: {environment: {name: LATEEN_PROXY_KEY}}
      unset: {environment: {name: LATEEN_PROXY_NONE, defaultValue: usual}}
      kind: {header: {name: x-kind}}
      unsent: {header: {name: x-unsent, defaultValue: nothing}}
      code: {formatter: {value: "%RESPONSE_CODE%"}}
  - match: {mode: SERVER}
    randomSamplingPercentage: 0
"""


@pytest.fixture(scope="module")
def zipkin() -> Iterator[Site]:
    with site(HEAD + TAGS) as running:
        yield running


@pytest.mark.covers(
    f"{TRACING}.match.mode",
    f"{TRACING}.providers",
    f"{TRACING}.randomSamplingPercentage",
    f"{TRACING}.customTags{{}}.literal.value",
    f"{TRACING}.customTags{{}}.environment.name",
    f"{TRACING}.customTags{{}}.environment.defaultValue",
    f"{TRACING}.customTags{{}}.header.name",
    f"{TRACING}.customTags{{}}.header.defaultValue",
    f"{TRACING}.customTags{{}}.formatter.value",
)
def test_a_span_of_zipkin_has_the_tags_that_are_asked_for(zipkin: Site) -> None:
    zipkin.ask("/tagged", x_kind="big")
    span = zipkin.span("/tagged")
    tags = span["tags"]
    assert (tags["fixed"], tags["variable"], tags["unset"]) == ("one", "from outside", "usual")
    assert (tags["kind"], tags["unsent"], tags["code"]) == ("big", "nothing", "200")
    assert "never" not in tags
    own = {name: value for name, value in tags.items() if name.startswith("istio.")}
    assert own == {
        "istio.canonical_revision": "latest",
        "istio.canonical_service": "client",
        "istio.mesh_id": "cluster.local",
        "istio.namespace": "default",
    }
    assert span["kind"] == "CLIENT"
    (told,) = [told for told in zipkin.http.told if b"/tagged" in told.body]
    assert (told.path, told.headers["x-key"], told.headers["x-share"]) == ("/spans", "from outside", "100%")


def test_a_path_is_cut_in_a_span(zipkin: Site) -> None:
    zipkin.ask("/a-path-that-is-long")
    assert zipkin.span("/a-path-that-is-")["tags"]["http.url"].endswith("/a-path-that-is-")


def test_a_trace_that_comes_by_b3_goes_on(zipkin: Site) -> None:
    headers = zipkin.ask("/b3", x_b3_traceid=TRACE, x_b3_spanid=SPAN, x_b3_sampled="1")
    span = zipkin.span("/b3")
    assert (span["traceId"], span["parentId"]) == (TRACE, SPAN)
    assert (headers["x-b3-traceid"], headers["x-b3-spanid"]) == (TRACE, span["id"])
    headers = zipkin.ask("/b3-not", x_b3_traceid=TRACE, x_b3_spanid=SPAN, x_b3_sampled="0")
    assert (headers["x-b3-traceid"], headers["x-b3-sampled"]) == (TRACE, "0")


CHOSEN = "metadata: {{name: own}}\nspec: {{tracing: [{{{entry}}}]}}\n"


def only(**entry: Any) -> str:
    return HEAD + CHOSEN.format(entry=json.dumps(entry)[1:-1])


@pytest.mark.covers(f"{TRACING}.enableIstioTags", f"{TRACING}.useRequestIdForTraceSampling")
def test_narrow_ids_both_contexts_and_no_tags_of_istio() -> None:
    telemetry = only(providers=[{"name": "narrow"}], enableIstioTags=False, useRequestIdForTraceSampling=False)
    with site(telemetry) as running:
        headers = running.ask("/narrow", x_request_id="2c88b6b3-d3cd-4861-80b7-33f1b8ff2365")
        span = running.span("/narrow")
        assert len(span["traceId"]) == 16
        assert not [name for name in span["tags"] if name.startswith("istio.")]
        assert headers["traceparent"].split("-")[1].endswith(span["traceId"])
        assert headers["x-b3-traceid"] == span["traceId"]
        assert headers["x-request-id"] == "2c88b6b3-d3cd-4861-80b7-33f1b8ff2365"


@pytest.mark.covers(f"{TRACING}.disableSpanReporting")
def test_a_proxy_that_reports_nothing_passes_traces_on() -> None:
    with site(only(disableSpanReporting=True)) as running:
        headers = running.ask("/silent", x_b3_traceid=TRACE, x_b3_spanid=SPAN, x_b3_sampled="1")
        assert (headers["x-b3-traceid"], headers["x-b3-sampled"]) == (TRACE, "1")
        assert headers["x-b3-spanid"] != SPAN
        dropped = "tracing.zipkin.reports_skipped_no_cluster", "tracing.zipkin.reports_dropped"
        eventually(lambda: any(running.proxy.stat(name) for name in dropped))
        assert running.http.told == []


def _attributes(values: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in values}


def test_spans_go_by_otlp_over_http() -> None:
    with site(only(providers=[{"name": "otlp-http"}])) as running:
        headers = running.ask("/otlp", traceparent=f"00-{TRACE}-{SPAN}-01")
        (told, *_) = eventually(lambda: list(running.http.told))
    assert (told.path, told.headers["x-key"]) == ("/v1/own", "mine")
    (found,) = trace_service_pb2.ExportTraceServiceRequest.FromString(told.body).resource_spans
    (span, *_) = found.instrumentation_library_spans[0].spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    resource = _attributes(found.resource.attributes)
    assert resource["service.name"] == "client"
    assert resource["service.namespace"] == "default"
    assert resource["service.version"] == "latest"
    assert resource["service.instance.id"] == "default.client-0"
    assert resource["deployment.environment"] == "testing"


def test_spans_go_by_otlp_over_grpc() -> None:
    with site(default="otlp-grpc") as running:
        running.ask("/otlp", traceparent=f"00-{TRACE}-{SPAN}-01")
        (told, *_) = eventually(lambda: list(running.grpc.told))
    assert (told.path, told.headers["x-key"]) == (EXPORT, "mine")
    (found,) = trace_service_pb2.ExportTraceServiceRequest.FromString(told.body).resource_spans
    assert _attributes(found.resource.attributes)["service.name"] == "client.default"
    (span, *_) = found.instrumentation_library_spans[0].spans
    assert span.trace_id.hex() == TRACE
    assert _attributes(span.attributes)["istio.canonical_service"] == "client"


def test_spans_go_to_skywalking() -> None:
    with site(default="skywalking") as running:
        running.ask("/sky")
        told = eventually(lambda: [told for told in running.grpc.told if b"/sky" in told.body])
    assert told[0].path == "/skywalking.v3.TraceSegmentReportService/collect"
    assert told[0].headers["authentication"] == "open-sesame"
    assert b"client.default" in told[0].body


def test_spans_go_to_an_agent_of_datadog() -> None:
    with site(default="datadog") as running:
        running.ask("/dog")
        told = eventually(lambda: [told for told in running.http.told if b"client.default" in told.body])
    assert told[0].path.startswith("/v0.")


@pytest.mark.covers("MeshConfig enableTracing")
def test_nothing_is_traced_unless_a_provider_is_named() -> None:
    with (
        Application("v1") as app,
        HttpCollector() as http,
        GrpcCollector(EXPORT) as grpc,
        sidecar(
            mesh(app, http, grpc, "spans").replace("defaultConfig:", "enableTracing: false\ndefaultConfig:")
        ) as off,
    ):
        headers = off.get("shop.example", 8080, "/a").seen["headers"]
    assert not [name for name in headers if "b3" in name or name == "traceparent"]


@pytest.mark.covers(f"{TRACING}.disableContextPropagation")
def test_a_proxy_that_passes_no_context_on_leaves_headers_alone() -> None:
    with Application("v1") as app, HttpCollector() as http, GrpcCollector(EXPORT) as grpc:
        with sidecar(mesh(app, http, grpc, "spans") + only(disableContextPropagation=True)) as known:
            pass
        with controlled(known.resources, Authority().mesh("client")):
            headers = known.get("shop.example", 8080, "/kept", {"b3": f"{TRACE}-{SPAN}-1"}).seen["headers"]
            (span,) = eventually(http.spans)
    assert (headers["b3"], span["traceId"]) == (f"{TRACE}-{SPAN}-1", TRACE)
    assert not [name for name in headers if name.startswith("x-b3-")]


@pytest.mark.parametrize(
    ("entry", "codes"),
    [
        ({"providers": [{"name": "nobody"}]}, ["unknown-provider"]),
        ({"providers": [{"name": "prometheus"}]}, ["unknown-provider"]),
        ({"customTags": {"a": {"environment": {"name": "HOME"}}}}, ["unseen-variable"]),
    ],
)
def test_what_cannot_be_traced_with_is_told(entry: dict[str, Any], codes: list[str]) -> None:
    with Application("v1") as app, HttpCollector() as http, GrpcCollector(EXPORT) as grpc:
        text = mesh(app, http, grpc, "spans") + only(**entry)
        with sidecar(text, allow_findings=True) as proxy:
            assert [finding.code for finding in proxy.findings] == codes
            assert proxy.get("shop.example", 8080, "/a").status == 200
