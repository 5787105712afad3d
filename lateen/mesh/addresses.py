"""Stable virtual addresses for services.

Comes in: host names and the network to allocate from. Goes out: one address a host, the same on every start: the hash
of the name chooses it, and names that collide move on to the next free one in alphabetical order.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable


def allocate(hosts: Iterable[str], network: str) -> dict[str, str]:
    """Give each host an address in an IPv4 /16. The third octet stays within 1 to 254, so that a loopback view of
    the mesh keeps 127.x.0.* and 127.x.255.* for itself. Raises ValueError where the network is full or not a /16."""
    block = ipaddress.IPv4Network(network)
    if block.prefixlen != 16:
        raise ValueError(f"the service network must be a /16, not {network}")
    first, last = 1 << 8, 255 << 8
    slots = last - first
    taken: dict[int, str] = {}
    names = sorted(set(hosts))
    if len(names) > slots:
        raise ValueError(f"{len(names)} services do not fit into {network}")
    base = int(block.network_address)
    result: dict[str, str] = {}
    for host in names:
        slot = int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest(), "big") % slots
        while slot in taken:
            slot = (slot + 1) % slots
        taken[slot] = host
        result[host] = str(ipaddress.IPv4Address(base + first + slot))
    return result


def in_loopback_view(address: str, prefix: int) -> str:
    """How a proxy without namespaces sees a virtual address: 240.240.a.b becomes 127.<prefix>.a.b."""
    _, _, third, fourth = address.split(".")
    return f"127.{prefix}.{third}.{fourth}"
