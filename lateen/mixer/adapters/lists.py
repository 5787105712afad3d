"""Lists of values, and whether one is in them: the pure part of ``listchecker``.

Comes in: entries as texts, each of a line or of YAML's list ``overrides``. Goes out: a list that answers ``holds``.
Patterns are RE2's and match anywhere in the value, as the old adapter's did.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Protocol

import msgspec
import re2

from lateen.mixer.adapters.texts import text
from lateen.mixer.templates import Value

STRINGS = "STRINGS"
CASE_INSENSITIVE_STRINGS = "CASE_INSENSITIVE_STRINGS"
IP_ADDRESSES = "IP_ADDRESSES"
REGEX = "REGEX"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NotAnEntry(ValueError):
    """An entry, or a value that is looked for, that this kind of list cannot have; the message says what is wrong."""


class ValueList(Protocol):
    """A list that can be asked."""

    def holds(self, value: Value) -> bool:
        """Whether the value is in it. Raises NotAnEntry for a value that no such list could have."""


class _Strings(msgspec.Struct, frozen=True):
    entries: frozenset[str]
    folded: bool

    def holds(self, value: Value) -> bool:
        text = _text(value)
        return (text.casefold() if self.folded else text) in self.entries


class _Addresses(msgspec.Struct, frozen=True):
    networks: frozenset[Network]
    lengths: tuple[tuple[int, int], ...]

    def holds(self, value: Value) -> bool:
        address = _address(value)
        return any(
            ipaddress.ip_network((address, length), strict=False) in self.networks
            for version, length in self.lengths
            if version == address.version
        )


class _Patterns(msgspec.Struct, frozen=True):
    matcher: object
    count: int

    def holds(self, value: Value) -> bool:
        return self.count > 0 and bool(self.matcher.Match(_text(value)))  # type: ignore[attr-defined]


def make_list(kind: str, entries: Iterable[str]) -> ValueList:
    """The list of this kind. Raises NotAnEntry for the first entry that cannot be."""
    texts = [entry for entry in entries if entry]
    if kind == IP_ADDRESSES:
        networks = frozenset(_network(entry) for entry in texts)
        return _Addresses(networks, tuple(sorted({(one.version, one.prefixlen) for one in networks})))
    if kind == REGEX:
        return _patterns(texts)
    folded = kind == CASE_INSENSITIVE_STRINGS
    return _Strings(frozenset(entry.casefold() if folded else entry for entry in texts), folded)


def entries_of(body: str) -> list[str]:
    """The entries of a list that was fetched: one a line, or a list in YAML's or JSON's flow or block style.

    Empty lines and those that begin with # count for nothing.
    """
    lines = [line.strip() for line in body.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if found and found[0].startswith("["):
        return [piece.strip().strip("\"'") for piece in " ".join(found).strip("[] ").split(",") if piece.strip()]
    if found and all(line.startswith("- ") for line in found):
        return [line.removeprefix("- ").strip().strip("\"'") for line in found]
    return found


def _patterns(texts: list[str]) -> _Patterns:
    matcher = re2.Set.SearchSet()
    for entry in texts:
        try:
            matcher.Add(entry)
        except re2.error as problem:
            raise NotAnEntry(f"{entry!r} is no pattern of RE2: {problem}") from None
    if texts:
        matcher.Compile()
    return _Patterns(matcher, len(texts))


def _network(entry: str) -> Network:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        raise NotAnEntry(f"{entry!r} is neither an address nor a block of addresses") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return network


def _address(value: Value) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(value if not isinstance(value, str) else value.strip())  # type: ignore[arg-type]
    except ValueError:
        raise NotAnEntry(f"{text(value)!r} is not an address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    raise NotAnEntry(f"{text(value)!r} is not a text")
