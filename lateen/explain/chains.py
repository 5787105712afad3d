"""Which filter chain of a listener takes a connection: Envoy's own order of criteria.

Comes in: a listener's chains and what is known of a connection after the listener filters. Goes out: the chain. The
criteria are tried one after the other, and each keeps the most specific that match: destination port, destination
address, server name, transport protocol, application protocol, then the source. There is no way back: chains that a
more specific one has beaten are out even if nothing is left at the end.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec


class Connection(msgspec.Struct, frozen=True):
    """What listener filters found out. ``transport`` is ``tls`` or ``raw_buffer``; ``protocols`` what was offered."""

    address: str
    port: int
    server_name: str = ""
    transport: str = "raw_buffer"
    protocols: tuple[str, ...] = ()
    source: str = "127.0.0.1"


def matching_chains(chains: Sequence[Any], connection: Connection) -> list[Any]:
    """The chains that are left when all criteria are applied; more than one would be refused by Envoy."""
    left = list(chains)
    left = _exact_or_any(left, lambda match: _port(match), connection.port)
    left = _by_network(left, lambda match: match.prefix_ranges, connection.address)
    left = _by_name(left, connection.server_name)
    left = _exact_or_any(left, lambda match: match.transport_protocol or None, connection.transport)
    left = _by_protocol(left, connection.protocols)
    left = _by_network(left, lambda match: match.direct_source_prefix_ranges, connection.source)
    return _by_network(left, lambda match: match.source_prefix_ranges, connection.source)


def _port(match: Any) -> int | None:
    return match.destination_port.value if match.HasField("destination_port") else None


def _exact_or_any(chains: Iterable[Any], value: Callable[[Any], object], wanted: object) -> list[Any]:
    exact, free = [], []
    for chain in chains:
        found = value(chain.filter_chain_match)
        if found is None:
            free.append(chain)
        elif found == wanted:
            exact.append(chain)
    return exact or free


def _by_network(chains: Iterable[Any], ranges: Callable[[Any], Any], address: str) -> list[Any]:
    """The chains with the longest prefix that holds the address; those without any where there is none."""
    best: dict[int, list[Any]] = {}
    for chain in chains:
        given = ranges(chain.filter_chain_match)
        lengths = [length for one in given if (length := _prefix_length(one, address)) is not None]
        if not given:
            lengths = [-1]
        if lengths:
            best.setdefault(max(lengths), []).append(chain)
    return best[max(best)] if best else []


def _prefix_length(given: Any, address: str) -> int | None:
    network = ipaddress.ip_network(f"{given.address_prefix}/{given.prefix_len.value}", strict=False)
    found = ipaddress.ip_address(address)
    return network.prefixlen if found.version == network.version and found in network else None


def _by_name(chains: Sequence[Any], name: str) -> list[Any]:
    """Exact names first, then ``*.`` patterns from the longest to the shortest, then chains without names."""
    patterns = [name] if name else []
    parts = name.split(".")
    patterns += ["*." + ".".join(parts[cut:]) for cut in range(1, len(parts))]
    for pattern in patterns:
        found = [chain for chain in chains if pattern in chain.filter_chain_match.server_names]
        if found:
            return found
    return [chain for chain in chains if not chain.filter_chain_match.server_names]


def _by_protocol(chains: Sequence[Any], offered: Sequence[str]) -> list[Any]:
    for protocol in offered:
        found = [chain for chain in chains if protocol in chain.filter_chain_match.application_protocols]
        if found:
            return found
    return [chain for chain in chains if not chain.filter_chain_match.application_protocols]
