"""A plan whose chains report all that can be reported: metrics that differ, logs of every kind, traces."""

from __future__ import annotations

import msgspec

from lateen.plan.model import Chain, ChainMatch, FileLog, HttpChain, Listener, MetricRule, ServiceLog, Telemetry
from lateen.plan.proxy import Bind
from lateen.plan.routes import DirectResponse, Route, RouteMatch, RouteTable, VirtualHost
from lateen.plan.tracing import (
    Collector,
    DatadogCollector,
    OpenTelemetryCollector,
    SkywalkingCollector,
    TraceTag,
    Tracing,
    ZipkinCollector,
)
from lateen.values.names import BUILT_IN, Origin

MESH = Origin("MeshConfig", "", "", "mesh.yaml", 1)
COLLECTORS: dict[str, Collector] = {
    "zipkin": ZipkinCollector("told", "traces:9411", "/spans", 2.0, (("x-key", "%ENVIRONMENT(A)%"),), False, True),
    "otlp-http": OpenTelemetryCollector(
        "told",
        "traces:4318",
        "own",
        "/v1/traces",
        3.0,
        (("a", "5%%"),),
        (("service.namespace", "n"),),
    ),
    "otlp-grpc": OpenTelemetryCollector("told", "traces:4317", "own.n", timeout=1.0, headers=(("a", "b"),)),
    "datadog": DatadogCollector("told", "traces:8126", "own.n"),
    "skywalking": SkywalkingCollector("told", "own.n", "own-0", "open"),
}
TAGS = (
    TraceTag("code", "formatter", "%RESPONSE_CODE%"),
    TraceTag("fixed", "literal", "one"),
    TraceTag("kind", "header", "x-kind", "none"),
    TraceTag("variable", "environment", "LATEEN_PROXY_A", "b"),
)
LOGS = (
    ServiceLog("http", "told", "logs", "own", "", "", ("a",), ("b",), ("c",), ("d",)),
    ServiceLog("tcp", "told", "logs", "bytes"),
    ServiceLog("otel", "told", "logs", "records", "%PROTOCOL%", '{"a": "%REQ(:PATH)%"}', expression="true"),
)
REPORTED = Telemetry(
    "source",
    (("workload", "own"), ("namespace", "n")),
    access_log="/dev/null",
    metrics=(MetricRule("REQUEST_SIZE", disabled=True), MetricRule("REQUEST_COUNT", labels=(("a", "request.method"),))),
    log_expression="response.code >= 400",
    more_logs=(FileLog("/dev/null", is_json=True), FileLog("/dev/null", text="%PROTOCOL%", omits_empty=True)),
    service_logs=LOGS,
    byte_interval=5.0,
)


def listeners() -> tuple[Listener, ...]:
    """A listener for each kind of collector; the last one keeps its spans to itself."""
    route = Route("default", RouteMatch(), DirectResponse(200, b"yes"), BUILT_IN)
    table = RouteTable("http.80", (VirtualHost("all", ("*",), (route,), BUILT_IN),))
    found = []
    for port, (name, collector) in enumerate(COLLECTORS.items(), 81):
        first, last = port == 81, name == "skywalking"
        tracing = Tracing(collector, 12.5, not last, TAGS if first else (), 64 if first else None, not last, not last)
        reported = REPORTED if first else Telemetry("source", REPORTED.tags)
        telemetry = msgspec.structs.replace(reported, tracing=tracing)
        chain = HttpChain(f"traced_{name}", inline=table, telemetry=telemetry)
        found.append(
            Listener(name, Bind("127.0.0.1", port), "outbound", (Chain(name, ChainMatch(), chain, MESH),), MESH)
        )
    return tuple(found)
