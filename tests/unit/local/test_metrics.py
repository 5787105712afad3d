"""Merging Prometheus texts, and rates."""

from __future__ import annotations

from lateen.local.metrics import Count, Rate, Traffic, count_so_far, count_traffic, joined, merge, rate

ONE = b"""# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{reporter="destination",response_code="200"} 5
envoy_istio_requests_total{reporter="destination",response_code="503"} 2
envoy_istio_requests_total{reporter="source",response_code="200"} 9
# TYPE envoy_server_live gauge
envoy_server_live{} 1
"""
TWO = b"""# TYPE envoy_server_live gauge
envoy_server_live 1
# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{reporter="destination",response_code="0"} 1
"""


def test_families_stand_once_and_samples_say_whose_they_are() -> None:
    text = b"".join(merge([({"pod": "a"}, ONE), ({"pod": 'b"'}, TWO)])).decode()
    assert text == (
        "# TYPE istio_requests_total counter\n"
        'istio_requests_total{pod="a",reporter="destination",response_code="200"} 5\n'
        'istio_requests_total{pod="a",reporter="destination",response_code="503"} 2\n'
        'istio_requests_total{pod="a",reporter="source",response_code="200"} 9\n'
        'istio_requests_total{pod="b\\"",reporter="destination",response_code="0"} 1\n'
        "# TYPE envoy_server_live gauge\n"
        'envoy_server_live{pod="a"} 1\n'
        'envoy_server_live{pod="b\\""} 1\n'
    )


def test_a_label_may_hold_what_ends_lines_elsewhere() -> None:
    text = 'a{x="\r\x85\u2028"} 1\n'.encode()
    assert b"".join(merge([({"pod": "p"}, text)])) == text.replace(b"x=", b'pod="p",x=')
    assert joined(text, text).strip() == text.replace(b"1\n", b"2")


def test_counts_and_rates() -> None:
    assert count_traffic(ONE, "destination") == Traffic(7, 2)
    assert count_traffic(TWO, "destination") == Traffic(1, 1)
    assert count_so_far(ONE + b"envoy_server_uptime{} 9\n", "destination") == Count(9, Traffic(7, 2))
    known = Count(9, Traffic(7, 2))
    assert rate(known, Count(11, Traffic(17, 4))) == Rate(5, 1)
    assert rate(known, Count(11, Traffic(4, 0))) == Rate(2, 0)
    assert rate(known, Count(2, Traffic(8, 2))) == Rate(4, 1)
    assert rate(known, Count()) == Rate()
    assert rate(known, known) is None


def test_what_a_proxy_and_its_agent_counted_of_one_series_is_added_up() -> None:
    text = b'# TYPE a counter\na{x="1",y="2"} 5\na{x="2"} 1\n'
    more = b'# TYPE a counter\na{y="2",x="1"} 7\na{x="3"} 4\n'
    assert joined(text, b"") == text
    page = b"".join(merge([({"pod": "p"}, joined(text, more))])).decode().splitlines()
    assert page[0] == "# TYPE a counter"
    assert sorted(page[1:]) == ['a{pod="p",x="2"} 1', 'a{pod="p",x="3"} 4', 'a{pod="p",y="2",x="1"} 12']
