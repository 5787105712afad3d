"""The adapter ``opentelemetry``: what a collector is told, over HTTP and over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from lateen.mixer.adapters import otlp
from lateen.mixer.adapters.counted import MetricKind
from lateen.mixer.adapters.opentelemetry import OpenTelemetry, OverGrpc, OverHttp
from lateen.mixer.adapters.otlp import LOGS, METHODS, METRICS, TRACES
from lateen.mixer.reach import Reach
from lateen.mixer.templates import CheckNothing, LogEntry, Metric, TraceSpan
from tests.envoy.collectors import GrpcCollector, HttpCollector

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
RESOURCE = {"service.name": "mesh", "zone": "a"}
KINDS = (
    MetricKind("calls", "calls.default", labels=("who", "code")),
    MetricKind("last", "last", "GAUGE", "the last size", "own"),
    MetricKind("took", "took", "DISTRIBUTION", buckets=(1.0, 2.0)),
)
SPAN = TraceSpan(
    trace_id="0123456789abcdef",
    span_id="00000000000000AA",
    parent_span_id="00000000000000bb",
    span_name="GET /a",
    start_time=NOON,
    end_time=NOON + datetime.timedelta(milliseconds=3),
    span_tags={"user": "ann", "none": None},
    http_status_code=503,
    client_span=True,
    source_name="page",
    destination_name="reviews",
    destination_ip=ipaddress.ip_address("10.0.0.1"),
    request_size=7,
)


class Sent:
    """What would have been sent; ``answers`` come instead of nothing."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._answers = list(answers)

    async def send(self, signal: str, message: bytes) -> bytes:
        self.messages.append((signal, message))
        answer = self._answers.pop(0) if self._answers else b""
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        return


def sent(*instances: Any, to: Sent | None = None, **options: Any) -> tuple[list[tuple[str, bytes]], OpenTelemetry]:
    """All that goes out until the handler is closed."""
    found = to or Sent()

    async def run() -> OpenTelemetry:
        adapter = OpenTelemetry(found, KINDS, resource=RESOURCE, **{"clock": lambda: 10**18, **options})  # type: ignore[arg-type]
        await adapter.report("x", instances)
        await adapter.close()
        return adapter

    return found.messages, asyncio.run(run())


def test_metrics_are_what_they_have_come_to() -> None:
    def call(value: int) -> Metric:
        return Metric(name="calls.default", value=value, dimensions={"who": "ann", "code": 200})

    took = [Metric(name="took.default", value=datetime.timedelta(seconds=s)) for s in (0.5, 1.5, 9)]
    last = Metric(name="last.default", value=1.5)
    messages, adapter = sent(call(1), call(2), last, *took)
    assert adapter.lost == 0
    found = {}
    for signal, message in messages:
        assert signal == METRICS
        (scope,) = metrics_service_pb2.ExportMetricsServiceRequest.FromString(message).resource_metrics
        assert {one.key: one.value.string_value for one in scope.resource.attributes} == RESOURCE
        (metric,) = scope.instrumentation_library_metrics[0].metrics
        found[metric.name] = metric
    (calls,) = found["istio.calls"].sum.data_points
    assert found["istio.calls"].sum.is_monotonic
    assert calls.as_int == 3
    assert {one.key: one.value.string_value for one in calls.attributes} == {"who": "ann", "code": "200"}
    assert (calls.start_time_unix_nano, calls.time_unix_nano) == (10**18, 10**18)
    assert found["own.last"].gauge.data_points[0].as_double == 1.5
    (spread,) = found["istio.took"].histogram.data_points
    assert (list(spread.bucket_counts), list(spread.explicit_bounds)) == ([1, 1, 1], [1.0, 2.0])
    assert (spread.count, spread.sum) == (3, 11.0)


def test_many_series_go_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MOST_POINTS", 2)
    messages, _ = sent(*(Metric(name="calls.default", value=1, dimensions={"who": str(n)}) for n in range(5)))
    assert len(messages) == 3


def test_metrics_that_did_not_arrive_go_with_the_next_message() -> None:
    async def run() -> list[tuple[str, bytes]]:
        to = Sent(OSError("gone"))
        adapter = OpenTelemetry(to, KINDS, resource=RESOURCE, interval=0.02)  # type: ignore[arg-type]
        await adapter.report("metric", [Metric(name="calls.default", value=1, dimensions={})])
        await until(lambda: len(to.messages) > 1)
        await adapter.close()
        assert adapter.lost == 0
        return to.messages

    _, last = asyncio.run(run())[:2]
    (scope,) = metrics_service_pb2.ExportMetricsServiceRequest.FromString(last[1]).resource_metrics
    assert scope.instrumentation_library_metrics[0].metrics[0].sum.data_points[0].as_int == 1


def test_entries_of_logs() -> None:
    variables = {"path": "/a", "size": 7, "took": 0.5, "on": True, "no": None, "labels": {"app": "x"}, "at": NOON}
    entry = LogEntry(name="access.default", variables=variables, timestamp=NOON, severity="Warning")
    messages, adapter = sent(entry, LogEntry(name="other"))
    ((signal, message),) = messages
    assert (signal, adapter.lost) == (LOGS, 0)
    (scope,) = logs_service_pb2.ExportLogsServiceRequest.FromString(message).resource_logs
    first, other = scope.instrumentation_library_logs[0].logs
    assert (first.severity_number, first.severity_text, first.body.string_value) == (13, "Warning", "access.default")
    assert first.time_unix_nano == int(NOON.timestamp()) * 10**9
    assert other.time_unix_nano == 10**18
    told = {one.key: one.value for one in first.attributes}
    assert (told["path"].string_value, told["size"].int_value, told["took"].double_value) == ("/a", 7, 0.5)
    assert (told["on"].bool_value, told["at"].string_value) == (True, "2026-01-31T12:00:00Z")
    assert told["labels"].kvlist_value.values[0].value.string_value == "x"
    assert "no" not in told


def spans(message: bytes) -> dict[str, Any]:
    found = trace_service_pb2.ExportTraceServiceRequest.FromString(message).resource_spans
    return {
        next(one.value.string_value for one in scope.resource.attributes if one.key == "service.name"): span
        for scope in found
        for span in scope.instrumentation_library_spans[0].spans
    }


def test_spans_are_of_the_service_of_their_side() -> None:
    server = TraceSpan(trace_id="ab" * 16, span_id="00000000000000aa", start_time=NOON, destination_name="reviews")
    messages, adapter = sent(SPAN, server, TraceSpan(), TraceSpan(trace_id="x", span_id="y", start_time=NOON))
    ((signal, message),) = messages
    assert (signal, adapter.lost) == (TRACES, 1)
    found = spans(message)
    client = found["page"]
    assert client.trace_id.hex() == "0" * 16 + "0123456789abcdef"
    assert (client.span_id.hex(), client.parent_span_id.hex()) == ("00000000000000aa", "00000000000000bb")
    assert client.end_time_unix_nano - client.start_time_unix_nano == 3_000_000
    assert (client.kind, client.status.code) == (3, 2)
    told = {one.key: one.value.string_value or one.value.int_value for one in client.attributes}
    assert told == {
        "user": "ann",
        "peer.service": "reviews",
        "network.peer.address": "10.0.0.1",
        "request.size": 7,
        "http.response.status_code": 503,
    }
    assert (found["reviews"].kind, found["reviews"].trace_id.hex()) == (2, "ab" * 16)


def test_a_share_of_traces_is_sent() -> None:
    low, high = (TraceSpan(trace_id=f"{n:016x}", span_id="1" * 16, start_time=NOON) for n in (1, (1 << 63) - 1))
    messages, _ = sent(low, high, probability=0.5)
    assert len(spans(messages[0][1])) == 1
    assert sent(low, high, probability=0.0)[0] == []


def test_what_a_collector_does_not_take_is_counted() -> None:
    rejected = bytes([0x0A, 2, 0x08, 2])
    assert sent(*[LogEntry(name="a")] * 3, to=Sent(rejected))[1].lost == 2
    assert sent(LogEntry(name="a"), to=Sent(b"\xff garbage"))[1].lost == 0
    gone = Sent(OSError("gone"), TimeoutError())
    assert sent(LogEntry(name="a"), SPAN, to=gone)[1].lost == 2


def test_no_other_template_is_taken() -> None:
    with pytest.raises(TypeError):
        sent(CheckNothing())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a server
            await asyncio.sleep(0.01)


def exchange(to: Callable[[], Awaitable[Any]]) -> None:
    async def run() -> None:
        adapter = OpenTelemetry(await to(), resource=RESOURCE)
        await adapter.report("logentry", [LogEntry(name="a")])
        await adapter.close()
        assert adapter.lost == 0

    asyncio.run(run())


def test_over_http() -> None:
    with HttpCollector() as collector:

        async def to() -> OverHttp:
            return OverHttp(f"http://127.0.0.1:{collector.port}/own/", {"x-key": "a"}, Reach().web.send)

        exchange(to)
    (told,) = collector.told
    assert told.path == "/own/v1/logs"
    assert told.headers["content-type"] == "application/x-protobuf"
    assert told.headers["x-key"] == "a"
    assert logs_service_pb2.ExportLogsServiceRequest.FromString(told.body).resource_logs


def test_over_grpc() -> None:
    with GrpcCollector(*METHODS.values()) as collector:

        async def to() -> OverGrpc:
            return OverGrpc(f"127.0.0.1:{collector.port}", {"X-Key": "a"}, secure=False)

        exchange(to)
    (told,) = collector.told
    assert (told.path, told.headers["x-key"]) == (METHODS[LOGS], "a")
    assert logs_service_pb2.ExportLogsServiceRequest.FromString(told.body).resource_logs


def test_nobody_at_the_other_end() -> None:
    async def run() -> None:
        channel = OverGrpc("127.0.0.1:1", {}, secure=False)
        with pytest.raises(OSError, match="UNAVAILABLE"):
            await channel.send(LOGS, b"")
        await channel.close()
        with contextlib.suppress(OSError):
            await OverHttp("http://127.0.0.1:1", {}, Reach().web.send).send(LOGS, b"")

    asyncio.run(run())
