"""URLs that Lateen itself will call, and the addresses that it may connect to for them.

Comes in: text that a user or an issuer wrote, and addresses that names resolve to. Goes out: why not, as a text that is
empty where nothing speaks against it. Addresses are judged as numbers, after all resolving: no spelling gets around it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2048
SCHEMES = ("http", "https")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_PLATFORM = ipaddress.IPv4Address("168.63.129.16")
"""A cloud's own service for its machines, at an address that looks public."""


def url_problem(text: str) -> str:
    """Why a text is not a URL of http or https that can be called, as the rest of a sentence; empty if it is one."""
    if len(text) > MAX_URL:
        return f"is longer than {MAX_URL} characters"
    if not text.isascii() or any(not character.isprintable() or character in ' "<>\\^`{|}' for character in text):
        return "is no URL: it has characters that a URL cannot have"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as problem:
        return f"is no URL: {problem}"
    if parts.scheme not in SCHEMES or not parts.hostname:
        return "is no URL of http or https"
    if "@" in parts.netloc:
        return "has a name or a password in it, which are not sent"
    return "has port 0" if port == 0 else ""


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks from ``127.0.0.0/8`` or a plain address. Raises ValueError on what is none."""
    return tuple(_network(text) for text in texts)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as problem:
        why = ", as bits are set behind its length" if "host bits" in str(problem) else ""
        raise ValueError(f"{text!r} is not a network{why}") from None


def address_problem(text: str, allowed: Sequence[Network] = ()) -> str:
    """Why Lateen does not connect to an IP address, in a few words; empty where it may.

    Only addresses of the public internet, and those in ``allowed``. An IPv4 address inside an IPv6 one is what counts.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "no IP address"
    inner = _inner(address)
    if any(one.version == network.version and one in network for one in (address, inner) for network in allowed):
        return ""
    return _not_public(inner)


def _inner(address: Address) -> Address:
    """The IPv4 address that packets to an IPv6 address end at, where there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address.packed[:12] == bytes(12) and address.packed[12:14] != bytes(2)):
        return ipaddress.IPv4Address(address.packed[12:])
    return address


def _not_public(address: Address) -> str:
    kinds = (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (address.is_private, "a private address"),
        (not address.is_global or address.is_reserved or address == _PLATFORM, "not an address of the public internet"),
    )
    for holds, name in kinds:
        if holds:
            return name
    if isinstance(address, ipaddress.IPv6Address) and (address not in _GLOBAL_6 or address.teredo is not None):
        return "not an address of the public internet"
    return ""
