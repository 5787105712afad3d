"""Adapters that report, each against a small server of its protocol: what arrives, and what is counted as lost."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters import counted
from lateen.mixer.adapters.counted import MetricKind
from lateen.mixer.adapters.fluentd import Fluentd
from lateen.mixer.adapters.outbox import Outbox
from lateen.mixer.adapters.prometheus import Prometheus
from lateen.mixer.adapters.statsd import DogStatsd, Statsd, StatsdMetric
from lateen.mixer.adapters.stdio import Stdio, Stream
from lateen.mixer.adapters.zipkin import Zipkin
from lateen.mixer.templates import Edge, LogEntry, Metric, TraceSpan

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
PATIENCE_S = 30.0


def log(severity: str = "warn", name: str = "access.default", **variables: Any) -> LogEntry:
    return LogEntry(name=name, variables=variables, timestamp=NOON, severity=severity)


def metric(value: Any = 1, name: str = "requests.default", **dimensions: Any) -> Metric:
    return Metric(name=name, value=value, dimensions=dimensions)


async def until(test: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not test():  # noqa: ASYNC110 - a condition of any kind
            await asyncio.sleep(0.005)


def reported(adapter: ReportAdapter, *instances: Any) -> None:
    async def run() -> None:
        await adapter.report("any", instances)
        await adapter.close()

    asyncio.run(run())


# statsd and dogstatsd


async def datagrams(make: Callable[[str], ReportAdapter], count: int, *instances: Any) -> list[bytes]:
    """What arrives at a UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        adapter = make(f"127.0.0.1:{server.getsockname()[1]}")
        await adapter.report("metric", instances)
        async with asyncio.timeout(PATIENCE_S):
            found = [await asyncio.get_running_loop().sock_recv(server, 65536) for _ in range(count)]
        await adapter.close()
        assert adapter.lost == 0
        with pytest.raises(BlockingIOError):
            server.recv(1)
        return found


def test_statsd_lines_share_a_datagram() -> None:
    metrics = {
        "requests.metric.default": StatsdMetric(),
        "size": StatsdMetric("GAUGE", "{{.service}}-{{ .code }}"),
        "took": StatsdMetric("DISTRIBUTION"),
    }
    instances = (
        metric(),
        metric(12.5, "size.default", service="a:1|c\nb", code=200),
        metric(datetime.timedelta(milliseconds=1500), "took.metric.default"),
        metric(1, "unknown.default"),
        metric(1, "requests.other"),
    )
    (found,) = asyncio.run(datagrams(lambda address: Statsd(address, metrics, prefix="mesh"), 1, *instances))
    assert found.decode().splitlines() == ["mesh.requests:1|c", "mesh.a_1_c_b-200:12.5|g", "mesh.took:1500|ms"]


def test_statsd_datagrams_are_no_longer_than_told() -> None:
    make = lambda address: Statsd(address, {"requests": StatsdMetric()}, packet=30)  # noqa: E731
    assert asyncio.run(datagrams(make, 3, *[metric()] * 5)) == [
        b"requests:1|c\nrequests:1|c",
        b"requests:1|c\nrequests:1|c",
        b"requests:1|c",
    ]


def test_statsd_sends_a_share_and_says_so() -> None:
    chances = iter([0.1, 0.9, 0.2])
    make = lambda address: Statsd(  # noqa: E731
        address, {"requests": StatsdMetric()}, rate=0.5, chance=lambda: next(chances)
    )
    assert asyncio.run(datagrams(make, 1, *[metric()] * 3)) == [b"requests:1|c|@0.5\nrequests:1|c|@0.5"]


def test_dogstatsd_lines_have_tags() -> None:
    metrics = {"requests": StatsdMetric("DISTRIBUTION", "calls", {"tier": "a"})}
    make = lambda address: DogStatsd(address, metrics, tags={"mesh": "one"})  # noqa: E731
    found = asyncio.run(datagrams(make, 2, metric(3, user="x,y|z"), metric(4)))
    assert found == [b"istio.calls:3|h|#mesh:one,tier:a,user:x_y_z", b"istio.calls:4|h|#mesh:one,tier:a"]


def test_dogstatsd_lines_share_datagrams_when_told() -> None:
    make = lambda address: DogStatsd(address, {"requests": StatsdMetric()}, buffer=2)  # noqa: E731
    found = asyncio.run(datagrams(make, 2, *[metric()] * 3))
    assert found == [b"istio.requests:1|c\nistio.requests:1|c", b"istio.requests:1|c"]


def test_lines_that_nobody_takes_are_counted() -> None:
    async def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{server.getsockname()[1]}"
        adapter = Statsd(address, {"requests": StatsdMetric()}, flush=0.01)
        async with asyncio.timeout(PATIENCE_S):
            while not adapter.lost:
                await adapter.report("metric", [metric()])
                await asyncio.sleep(0.01)
        await adapter.close()

    asyncio.run(run())


# prometheus


def test_prometheus_counts_sets_and_spreads() -> None:
    adapter = Prometheus(
        [
            MetricKind("calls-total", "requests.default", description="Calls\nof all", labels=("user", "code")),
            MetricKind("last", "size", "GAUGE", namespace="own"),
            MetricKind("took", "took", "DISTRIBUTION", labels=("user",), buckets=counted.linear(1, 1.0, 0.5)),
        ]
    )
    second = datetime.timedelta(seconds=1)
    took = [metric(second * share, "took.default", user="a") for share in (0.5, 1, 9)]
    calls = [metric(2, user='a"\\\n', code=200, more="x"), metric(3, user='a"\\\n', code=200), metric(1)]
    reported(adapter, *calls, *took, metric(7, "size.default"), metric(5, "size.default"), metric(1, "other.default"))
    assert adapter.exposition().splitlines() == [
        "# HELP istio_calls_total Calls\\nof all",
        "# TYPE istio_calls_total counter",
        'istio_calls_total{user="a\\"\\\\\\n",code="200"} 5',
        'istio_calls_total{user="",code=""} 1',
        "# HELP own_last last",
        "# TYPE own_last gauge",
        "own_last 5",
        "# HELP istio_took took",
        "# TYPE istio_took histogram",
        'istio_took_bucket{user="a",le="0.5"} 1',
        'istio_took_bucket{user="a",le="1.5"} 2',
        'istio_took_bucket{user="a",le="+Inf"} 3',
        'istio_took_sum{user="a"} 10.5',
        'istio_took_count{user="a"} 3',
    ]


def test_labels_of_prometheus_never_have_its_page_refused() -> None:
    adapter = Prometheus([MetricKind("calls", "requests", labels=("app", "1a", "a-b"))])
    reported(adapter, Metric(name="requests.default", value=1, dimensions={"app": "x", "1a": "y", "a-b": "z"}))
    assert 'istio_calls{exported_app="x",_1a="y",a_b="z"} 1' in adapter.exposition()


def test_prometheus_forgets_what_does_not_happen_any_more() -> None:
    now = 0.0
    adapter = Prometheus([MetricKind("calls", "requests", labels=("user",))], expiry=10, clock=lambda: now)
    reported(adapter, metric(user="a"))
    now = 6.0
    reported(adapter, metric(user="b"))
    now = 11.0
    assert 'user="a"' not in adapter.exposition()
    assert 'user="b"' in adapter.exposition()


def test_prometheus_holds_no_more_series_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "MOST_SERIES", 2)
    adapter = Prometheus([MetricKind("calls", "requests", labels=("user",))])
    reported(adapter, *(metric(user=str(index)) for index in range(5)), metric(user="0"))
    assert adapter.lost == 3
    assert 'istio_calls{user="0"} 2' in adapter.exposition()


def test_a_counter_does_not_fall() -> None:
    with pytest.raises(ValueError, match="cannot fall"):
        reported(Prometheus([MetricKind("calls", "requests")]), metric(-1))


def test_exponential_buckets_begin_at_the_scale() -> None:
    assert counted.exponential(3, 2.0, 0.5) == (0.5, 1.0, 2.0, 4.0)


# fluentd


class Forward:
    """A receiver of the Forward protocol."""

    def __init__(self, *, refused: int = 0) -> None:
        self.messages: list[tuple[str, list[Any]]] = []
        self.connections = 0
        self._refused = refused

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        held = b""
        try:
            while data := await reader.read(65536):
                held += data
                with contextlib.suppress(msgspec.DecodeError):
                    tag, packed, options = msgspec.msgpack.decode(held)
                    held = b""
                    if self.connections <= self._refused:
                        return
                    self.messages.append((tag, unpacked(packed, options["size"])))
                    writer.write(msgspec.msgpack.encode({"ack": options["chunk"]}))
                    await writer.drain()
        finally:
            writer.close()


def unpacked(packed: bytes, count: int) -> list[Any]:
    """Several values, one after the other, as the array of them."""
    found: list[Any] = msgspec.msgpack.decode(b"\xdd" + count.to_bytes(4, "big") + packed, ext_hook=event_time)
    return found


def event_time(code: int, data: memoryview) -> float:
    assert code == 0
    return int.from_bytes(data[:4], "big") + int.from_bytes(data[4:], "big") / 1e9


@contextlib.asynccontextmanager
async def listening(serve: Callable[..., Awaitable[None]]) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()


def test_fluentd_gets_entries_by_tag() -> None:
    async def run() -> None:
        forward = Forward()
        async with listening(forward.serve) as address:
            adapter = Fluentd(address, integer_duration=True, push_interval=0.05)
            took = datetime.timedelta(seconds=1.5)
            await adapter.report("logentry", [log(took=took, to=NOON), log(name="other.default"), log(size=2)])
            await until(lambda: len(forward.messages) == 2)
            await adapter.report("logentry", [log(last="yes")])
            await adapter.close()
        first, other, last = forward.messages
        assert first == (
            "access.default",
            [
                [NOON.timestamp(), {"took": 1500, "to": "2026-01-31T12:00:00Z", "severity": "warn"}],
                [NOON.timestamp(), {"size": 2, "severity": "warn"}],
            ],
        )
        assert other[0] == "other.default"
        assert last[1][0][1]["last"] == "yes"
        assert (forward.connections, adapter.lost) == (1, 0)

    asyncio.run(run())


def test_what_fluentd_does_not_acknowledge_is_sent_again() -> None:
    async def run() -> None:
        forward = Forward(refused=2)
        async with listening(forward.serve) as address:
            adapter = Fluentd(address, push_interval=0.01)
            await adapter.report("logentry", [log()])
            await until(lambda: bool(forward.messages))
            await adapter.close()
        assert (forward.connections, adapter.lost) == (3, 0)

    asyncio.run(run())


def test_a_full_buffer_and_a_receiver_that_is_gone_are_counted() -> None:
    async def run() -> None:
        async with listening(Forward().serve) as address:
            pass
        adapter = Fluentd(address, buffer=2, push_interval=30)
        await adapter.report("logentry", [log()] * 5)
        assert adapter.lost == 3
        await adapter.close()
        assert adapter.lost == 5

    asyncio.run(run())


def test_a_receiver_that_says_nothing_is_left_when_the_handler_goes() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def run() -> None:
        async with listening(silent) as address:
            adapter = Fluentd(address, push_interval=0.01)
            await adapter.report("logentry", [log()])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(adapter.close(), 0.2)
            assert adapter.lost == 1

    asyncio.run(run())


# zipkin


class Collector:
    """What is posted."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []

    async def post(self, url: str, body: bytes) -> bytes:
        assert url == "http://zipkin/api/v2/spans"
        self.batches.append(json.loads(body))
        return b""


def span(**more: Any) -> TraceSpan:
    given = {
        "name": "span.default",
        "trace_id": "0" * 16 + "00000000000000FF",
        "span_id": "00000000000000aa",
        "parent_span_id": "00000000000000bb",
        "span_name": "/productpage",
        "start_time": NOON,
        "end_time": NOON + datetime.timedelta(milliseconds=2),
        "source_name": "client",
        "source_ip": ipaddress.ip_address("10.0.0.1"),
        "destination_name": "server",
        "destination_ip": ipaddress.ip_address("fd00::1"),
    }
    return TraceSpan(**{**given, **more})


def spans(*given: TraceSpan, probability: float = 1.0) -> tuple[list[dict[str, Any]], int]:
    collector = Collector()
    adapter = Zipkin("http://zipkin/api/v2/spans", collector.post, probability=probability)
    reported(adapter, *given)
    return [one for batch in collector.batches for one in batch], adapter.lost


def test_zipkin_gets_a_servers_span() -> None:
    (found,), _ = spans(span(http_status_code=503, span_tags={"a": 1, "b": None}, request_size=7, api_protocol="http"))
    assert found == {
        "traceId": "000000000000000000000000000000ff",
        "id": "00000000000000aa",
        "parentId": "00000000000000bb",
        "kind": "SERVER",
        "name": "/productpage",
        "timestamp": 1769860800000000,
        "duration": 2000,
        "localEndpoint": {"serviceName": "server", "ipv6": "fd00::1"},
        "remoteEndpoint": {"serviceName": "client", "ipv4": "10.0.0.1"},
        "tags": {"http.status_code": "503", "error": "true", "a": "1", "request.size": "7", "api.protocol": "http"},
    }


def test_both_sides_of_a_call_get_spans_of_their_own() -> None:
    (client, server), _ = spans(span(client_span=True, rewrite_client_span_id=True), span(rewrite_client_span_id=True))
    assert (client["kind"], client["parentId"]) == ("CLIENT", "00000000000000bb")
    assert server["parentId"] == client["id"] != server["id"]
    assert client["localEndpoint"]["serviceName"] == "client"


def test_traces_are_sampled_by_their_id() -> None:
    ids = [f"{index * 0x0123456789ABCDEF % (1 << 64):016x}" for index in range(1, 401)]
    found, lost = spans(
        *(span(trace_id=one, client_span=side) for one in ids for side in (True, False)), probability=0.5
    )
    sides: dict[str, int] = {}
    for one in found:
        sides[one["traceId"]] = sides.get(one["traceId"], 0) + 1
    assert set(sides.values()) == {2}
    assert 100 < len(sides) < 300
    assert lost == 0


def test_spans_that_zipkin_could_not_read_are_counted() -> None:
    found, lost = spans(span(trace_id="what"), span(span_id=""), span(start_time=None), span(trace_id=""))
    assert (found, lost) == ([], 3)


# All of them


@pytest.mark.parametrize(
    "adapter",
    [
        lambda: Stdio(Stream(open(os.devnull, "wb"))),  # noqa: PTH123, SIM115
        lambda: Statsd("127.0.0.1:1", {}),
        lambda: Prometheus([]),
        lambda: Fluentd("127.0.0.1:1"),
        lambda: Zipkin("http://zipkin", Collector().post),
    ],
)
def test_instances_of_other_templates_are_refused(adapter: Callable[[], ReportAdapter]) -> None:
    async def run() -> None:
        made = adapter()
        with pytest.raises(TypeError, match="takes no Edge"):
            await made.report("edge", [Edge()])
        await made.close()

    asyncio.run(run())


def test_a_buffer_holds_no_more_than_it_may_and_sends_all_that_it_holds() -> None:
    async def run() -> None:
        batches: list[list[int]] = []

        async def send(batch: Any) -> None:
            batches.append(list(batch))

        box: Outbox[int] = Outbox(send, name="a.default", interval=30.0, batch=10, longest=4)
        for item in range(6):
            box.put(item, 4)
        await until(lambda: len(batches) == 2)
        box.put(6)
        await box.close()
        assert batches == [[0, 1], [2, 3], [6]]
        assert box.lost == 2
        box.put(7)
        assert box.lost == 3

    asyncio.run(run())


def test_a_buffer_goes_on_whatever_one_batch_fails_at(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        sent: list[int] = []

        async def send(batch: Any) -> None:
            if batch[0] == 0:
                raise UnicodeError("label empty or too long")
            sent.extend(batch)

        box: Outbox[int] = Outbox(send, name="a.default", interval=30.0, batch=1, longest=4)
        for item in range(2):
            box.put(item)
        await until(lambda: sent == [1])
        await box.close()
        assert box.lost == 1

    asyncio.run(run())
    assert [one.getMessage() for one in caplog.records] == [
        "handler a.default: reports are lost, 1 by now: label empty or too long"
    ]
