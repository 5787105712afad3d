"""Which URLs are called and which addresses are connected to, however they are spelt."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import pytest
from hypothesis import given, strategies as st

from lateen.values.web_address import address_problem, parse_networks, url_problem

NOT_PUBLIC = """
127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1
100.127.255.255 192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.240.0.1
255.255.255.255 168.63.129.16 :: ::1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:a9fe:a9fe ::127.0.0.1 fe80::1 fe80::1%lo
fec0::1 fc00::1 fd00:ec2::254 ff02::1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a00:1::
2001:db8::1 2001:0:102:304:: 100::1 4000::1 nonsense 127.1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.128.0.1 ::ffff:8.8.8.8 2606:4700::1111 64:ff9b::808:808 2002:808:808::
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert address_problem(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses_are_taken(address: str) -> None:
    assert address_problem(address) == ""


@pytest.mark.parametrize(
    "spelling", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1", "localhost", "localhost.", "::1", "0"]
)
def test_no_spelling_of_loopback_gets_around(spelling: str) -> None:
    found: set[str] = set()
    with contextlib.suppress(socket.gaierror):  # resolvers differ in what they take; what they give is judged
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(spelling, 80, type=socket.SOCK_STREAM)}
    assert all(address_problem(address) for address in found)


def test_what_is_allowed_is_taken_and_nothing_beside_it() -> None:
    allowed = parse_networks(["127.0.0.0/8", "10.1.2.3", "fd00::/8"])
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "fd00::1"):
        assert address_problem(address, allowed) == ""
    for address in ("10.1.2.4", "::1", "169.254.169.254", "fe80::1"):
        assert address_problem(address, allowed)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "keys",
            "//a/b",
            "file:///etc/passwd",
            "ftp://a/b",
            "gopher://a",
            "data:text/plain,x",
            "https://",
            "http:///x",
        ),
        *("https://me@a/b", "https://me:pw@a/b", "https://@a/", "https://a:99999/", "https://a:b/", "https://a:0/"),
        *(
            "https://a b/",
            "https://a\n/",
            "https://a\t/",
            "https://a\\@b/",
            "https://b\u00fccher.example/",
            "https://[::1/",
        ),
        "https://a/" + "b" * 2048,
    ],
)
def test_what_is_no_url_to_call_is_refused(text: str) -> None:
    assert url_problem(text)


@pytest.mark.parametrize(
    "text", ["https://a.example/keys?x=1", "http://a:8080/", "http://[2606:4700::1]:80/", "HTTPS://A/"]
)
def test_urls_are_taken(text: str) -> None:
    assert url_problem(text) == ""


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_form(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    forms = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1),
    ]
    assert {bool(address_problem(str(form))) for form in forms} == {bool(address_problem(str(plain)))}
    assert all(address_problem(str(form), parse_networks([str(plain)])) == "" for form in forms)


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address))
def test_only_global_addresses_are_called(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not address_problem(str(address)):
        assert address.is_global
        assert not address.is_multicast
