"""Names and addresses: what has the form, and how names relate."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from lateen.values.network import (
    host_within,
    hosts_overlap,
    is_cidr,
    is_host,
    is_ip,
    is_label,
    is_partial_wildcard,
    is_wildcard_host,
    split_host_port,
)


@pytest.mark.parametrize("text", ["a", "reviews", "a.b", "istio.io.", "x-1.example.com", "A.B", "a" * 63])
def test_host_names(text: str) -> None:
    assert is_host(text)
    assert is_wildcard_host(text)


@pytest.mark.parametrize("text", ["", ".", "a..b", "-a", "a-", "a_b", "1.2.3.4", "a.1", "a b", "a" * 64, "*.a", "é"])
def test_no_host_names(text: str) -> None:
    assert not is_host(text)


@pytest.mark.parametrize(
    ("text", "whole", "partial"),
    [("*", True, False), ("*.a.b", True, False), ("*-a.b", True, True), ("*a.b", True, True), ("a.*.b", False, True)],
)
def test_wildcards(text: str, whole: bool, partial: bool) -> None:
    assert is_wildcard_host(text) is whole
    assert is_partial_wildcard(text) is partial


@pytest.mark.parametrize(
    ("text", "single", "range_"),
    [
        ("10.0.0.1", True, True),
        ("10.0.0.1/8", False, True),
        ("10.0.0.0/255.0.0.0", False, False),
        ("10.0.0.0/08", False, False),
        ("10.0.0.0/33", False, False),
        ("::1", True, True),
        ("2001:db8::/32", False, True),
        ("010.0.0.1", False, False),
        ("a", False, False),
        ("", False, False),
    ],
)
def test_addresses(text: str, single: bool, range_: bool) -> None:
    assert is_ip(text) is single
    assert is_cidr(text) is range_


def test_labels() -> None:
    assert is_label("v1")
    assert not is_label("v1.2")
    assert not is_label("")


@pytest.mark.parametrize(
    ("host", "pattern", "within"),
    [
        ("a.b", "a.b", True),
        ("A.b", "a.B", True),
        ("x.a.b", "*.a.b", True),
        ("a.b", "*.a.b", False),
        ("*.x.a.b", "*.a.b", True),
        ("*.a.b", "*.x.a.b", False),
        ("*.a.b", "x.a.b", False),
        ("anything", "*", True),
    ],
)
def test_within(host: str, pattern: str, within: bool) -> None:
    assert host_within(host, pattern) is within


_HOSTS = st.sampled_from(["*", "a", "a.b", "*.b", "x.a.b", "*.a.b", "*.x.a.b", "c.d"])


@given(_HOSTS, _HOSTS, _HOSTS)
def test_within_is_an_order(one: str, two: str, three: str) -> None:
    assert host_within(one, one)
    assert hosts_overlap(one, two) is hosts_overlap(two, one)
    if host_within(one, two) and host_within(two, three):
        assert host_within(one, three)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("", 80)),
        ("::1:80", None),
        ("a:b", None),
        ("a", None),
    ],
)
def test_host_and_port(text: str, parts: tuple[str, int] | None) -> None:
    assert split_host_port(text) == parts
