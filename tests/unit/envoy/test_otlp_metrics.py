"""The Prometheus text of a proxy, as messages of OTLP."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from lateen.envoy.otlp_metrics import MOST_POINTS, Begun, export_requests

TEXT = r"""# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{reporter="source",le="x",odd="a\"b\\n"} 7
# TYPE envoy_istio_request_bytes histogram
envoy_istio_request_bytes_bucket{code="200",le="0.5"} 1
envoy_istio_request_bytes_bucket{code="200",le="10"} 4
envoy_istio_request_bytes_bucket{code="200",le="+Inf"} 6
envoy_istio_request_bytes_sum{code="200"} 130.5
envoy_istio_request_bytes_count{code="200"} 6
# TYPE envoy_istio_open gauge
envoy_istio_open{} 3
"""
START, LATER = 1_000, 2_000


def exported(text: str, begun: Begun, now: int) -> list[Any]:
    messages = [
        metrics_service_pb2.ExportMetricsServiceRequest.FromString(data)
        for data in export_requests(text, {"service.name": "shop"}, begun, now)
    ]
    for message in messages:
        (attribute,) = message.resource_metrics[0].resource.attributes
        assert (attribute.key, attribute.value.string_value) == ("service.name", "shop")
    return [m for one in messages for m in one.resource_metrics[0].instrumentation_library_metrics[0].metrics]


def test_a_label_may_hold_what_ends_lines_elsewhere() -> None:
    (metric,) = exported('# TYPE a counter\na{x="\r\x85\u2028"} 1\n', {}, START)
    assert metric.sum.data_points[0].attributes[0].value.string_value == "\r\x85\u2028"


def test_counters_and_histograms_have_their_labels_and_values() -> None:
    requests, sizes = exported(TEXT, {}, START)
    assert (requests.name, sizes.name, sizes.unit) == ("istio_requests_total", "istio_request_bytes", "By")
    (point,) = requests.sum.data_points
    assert requests.sum.is_monotonic
    assert requests.sum.aggregation_temporality == 2
    assert {one.key: one.value.string_value for one in point.attributes} == {
        "reporter": "source",
        "le": "x",
        "odd": 'a"b\\n',
    }
    assert point.as_int == 7
    (spread,) = sizes.histogram.data_points
    assert (spread.count, spread.sum) == (6, 130.5)
    assert (list(spread.explicit_bounds), list(spread.bucket_counts)) == ([0.5, 10], [1, 3, 2])
    assert [one.key for one in spread.attributes] == ["code"]


def test_a_series_that_falls_or_was_gone_begins_anew() -> None:
    begun: Begun = {}

    def since(count: int, now: int) -> int:
        text = f'# TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{{a="b"}} {count}\n'
        (metric,) = exported(text, begun, now)
        return int(metric.sum.data_points[0].start_time_unix_nano)

    assert [since(5, START), since(6, LATER), since(2, 3_000), since(3, 4_000)] == [START, START, 3_000, 3_000]
    assert exported("", begun, 5_000) == []
    assert since(9, 6_000) == 6_000


def test_messages_are_of_bounded_length() -> None:
    lines = [f'envoy_istio_requests_total{{a="{number}"}} 1' for number in range(MOST_POINTS + 1)]
    found = exported("# TYPE envoy_istio_requests_total counter\n" + "\n".join(lines) + "\n", {}, START)
    assert [len(metric.sum.data_points) for metric in found] == [MOST_POINTS, 1]
