"""What DNS answers inside the mesh, from the snapshot.

A service is its addresses, a headless one those of its ready members, each of which has a name of its own below it. A
Service of type ExternalName is another name: of a service of the mesh, then with its addresses; or of a host outside.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lateen.mesh.model import Member, MeshSnapshot, Service
from lateen.values.network import is_within
from lateen.values.protocol import Protocol


class NameTable(msgspec.Struct, frozen=True):
    """``names``: every host name (``*.`` for all below) with its addresses. ``aliases``: names of hosts outside."""

    names: Mapping[str, tuple[str, ...]] = {}
    aliases: Mapping[str, str] = {}


def name_table(snapshot: MeshSnapshot) -> NameTable:
    """The names of a mesh."""
    names: dict[str, tuple[str, ...]] = {}
    for host, service in sorted(snapshot.services.items()):
        addresses = tuple(address for address in service.addresses if "/" not in address)
        if service.headless:
            members = _callable_members(snapshot, service)
            addresses = tuple(member.address for member in members)
            for member in members:
                own = member.hostname or member.instance
                if own:
                    names[f"{own}.{host}"] = (member.address,)
        chosen = addresses or ((service.address,) if service.address else ())
        if chosen and any(port.protocol is not Protocol.UDP for port in service.ports):
            names[host] = chosen
    elsewhere = {}
    for alias, host in sorted(snapshot.aliases.items()):
        if host in names:
            names[alias] = names[host]
        elif host not in snapshot.services:
            elsewhere[alias] = host
    return NameTable(names, elsewhere)


def _callable_members(snapshot: MeshSnapshot, service: Service) -> list[Member]:
    """Members that clients can call by their own address."""
    return [
        member
        for member in snapshot.members.get(service.hostname, ())
        if member.healthy and is_within(member.address, snapshot.settings.pod_network)
    ]
