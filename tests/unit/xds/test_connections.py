"""Bytes of connections since their last report."""

from __future__ import annotations

from typing import Any

from envoy.data.accesslog.v3 import accesslog_pb2

from lateen.mixer.report_bag import ConnectionBag
from lateen.xds.connection_log import KEPT_S, ConnectionLog
from lateen.xds.connections import GRACE_S, Connections

BEGAN = 1000.0
_Type = accesslog_pb2.AccessLogType
OPEN, GOES_ON, OVER = _Type.TcpUpstreamConnected, _Type.TcpPeriodic, _Type.TcpConnectionEnd


def entry(kind: Any, received: int, sent: int, name: str = "one", start: float = BEGAN + 1) -> Any:
    found = accesslog_pb2.TCPAccessLogEntry()
    found.common_properties.access_log_type = kind
    found.common_properties.stream_id = name
    found.common_properties.start_time.FromNanoseconds(int(start * 1e9))
    found.common_properties.duration.FromSeconds(30)
    found.connection_properties.received_bytes, found.connection_properties.sent_bytes = received, sent
    return found


def test_reports_of_one_connection_add_up() -> None:
    connections = Connections(BEGAN)
    steps = [(OPEN, 5, 0), (GOES_ON, 15, 100), (GOES_ON, 15, 100), (OVER, 20, 300)]
    assert [connections.spent("p", entry(*step)) for step in steps] == [(0, 0), (15, 100), (0, 0), (5, 200)]
    assert connections.spent("p", entry(OVER, 7, 8)) == (7, 8), "nothing is kept of what is over"


def test_connections_and_proxies_are_told_apart() -> None:
    connections = Connections(BEGAN)
    assert connections.spent("p", entry(GOES_ON, 5, 5)) == (5, 5)
    assert connections.spent("p", entry(GOES_ON, 6, 6, "two")) == (6, 6)
    assert connections.spent("q", entry(GOES_ON, 7, 7)) == (7, 7)


def test_what_went_before_was_reported_by_whoever_was_there() -> None:
    connections = Connections(BEGAN)
    old = {"start": BEGAN - GRACE_S - 1}
    assert connections.spent("p", entry(GOES_ON, 500, 500, **old)) == (0, 0)
    assert connections.spent("p", entry(OVER, 510, 505, **old)) == (10, 5)


def test_what_is_kept_is_bounded() -> None:
    connections = Connections(BEGAN, most=2)
    for name in ("one", "two", "three"):
        connections.spent("p", entry(GOES_ON, 1, 1, name))
    assert connections.spent("p", entry(OVER, 3, 3, "three")) == (2, 2)
    assert connections.spent("p", entry(OVER, 3, 3, "one")) == (3, 3)


def test_attributes_of_a_connection_that_goes_on() -> None:
    bag = ConnectionBag(entry(GOES_ON, 15, 100), {}, {}, (10, 90))
    names = ("event", "id", "received.bytes", "received.bytes_total", "sent.bytes", "sent.bytes_total", "duration")
    found = [bag.get(f"connection.{name}") for name in names]
    assert found == ["continue", "one", 10, 15, 90, 100, None]
    assert ConnectionBag(entry(OVER, 1, 1), {}, {}, (1, 1)).get("connection.duration").total_seconds() == 30


def told(received: int, sent: int, kind: Any = GOES_ON, name: str = "one", caller: str = "a") -> Any:
    found = entry(kind, received, sent, name)
    found.common_properties.custom_tags["source_workload"] = caller
    return found


def test_an_agent_counts_bytes_by_metric_and_labels() -> None:
    now = BEGAN
    log = ConnectionLog(lambda: now)
    for metric in ("tcp_sent_bytes_total", "tcp_received_bytes_total"):
        log.count(metric, told(10, 100))
        log.count(metric, told(15, 120, OVER))
        log.count(metric, told(1, 2, OVER, "two"))
        log.count(metric, told(3, 4, OVER, "three", 'b"'))
    assert log.text().decode().splitlines() == [
        "# TYPE envoy_istio_tcp_sent_bytes_total counter",
        'envoy_istio_tcp_sent_bytes_total{source_workload="a"} 122',
        'envoy_istio_tcp_sent_bytes_total{source_workload="b\\""} 4',
        "# TYPE envoy_istio_tcp_received_bytes_total counter",
        'envoy_istio_tcp_received_bytes_total{source_workload="a"} 16',
        'envoy_istio_tcp_received_bytes_total{source_workload="b\\""} 3',
    ]
    now = BEGAN + KEPT_S + 1
    log.count("tcp_sent_bytes_total", told(7, 7, OVER, "four"))
    assert log.text().decode().splitlines()[1:] == ['envoy_istio_tcp_sent_bytes_total{source_workload="a"} 129']
