"""What names mean inside the mesh: the table that the control plane writes, and how a workload's short names are read.

``names.json`` is ``{"names": {"reviews.default.svc.cluster.local": ["240.240.3.4"], "*.example.com": [...]}, "aliases":
{"api.default.svc.cluster.local": "api.example.com"}}``; aliases stand for names that are resolved outside. It is looked
at again before each answer, so that an edit holds from the next question on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec


class _File(msgspec.Struct):
    names: dict[str, list[str]]
    aliases: dict[str, str] = {}


class NameTable:
    """All names of the mesh, shared by the responders of all workloads."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[str, tuple[str, ...]] = {}
        self._reverse: dict[str, str] = {}
        self._aliases: dict[str, str] = {}

    def update(
        self, names: Mapping[str, list[str] | tuple[str, ...]], aliases: Mapping[str, str] | None = None
    ) -> None:
        """Replace the whole table."""
        self._aliases = {alias.lower(): host for alias, host in (aliases or {}).items()}
        self._names = {host.lower().rstrip("."): tuple(addresses) for host, addresses in names.items()}
        self._reverse = {}
        for host, addresses in sorted(self._names.items(), reverse=True):
            if not host.startswith("*"):
                self._reverse.update((address, host) for address in addresses)

    def refresh(self) -> None:
        """Read the file again if it is another one. One that is missing or damaged changes nothing."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version == self._seen:
                return
            read = msgspec.json.decode(self._path.read_bytes(), type=_File)
            self.update(read.names, read.aliases)
            self._seen = version
        except (OSError, msgspec.MsgspecError):
            return

    def addresses(self, host: str) -> tuple[str, ...] | None:
        """The addresses of a whole name, by itself or by a wildcard above it; None if it is not known."""
        found = self._names.get(host)
        while found is None and "." in host:
            host = host.partition(".")[2]
            found = self._names.get(f"*.{host}")
        return found

    def alias(self, host: str) -> str | None:
        """The host outside that a whole name stands for."""
        return self._aliases.get(host)

    def host(self, address: str) -> str | None:
        """The name of an address."""
        return self._reverse.get(address)

    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Every name."""
        return self._names


def search_list(namespace: str, domain: str) -> tuple[str, ...]:
    """The suffixes that complete a short name in this namespace, as in a pod."""
    return (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)


def look_up(table: NameTable, name: str, search: tuple[str, ...]) -> tuple[str, ...] | None:
    """The addresses of a name as a workload says it: whole, or completed by its search list. None: not of the mesh."""
    name = name.lower().rstrip(".")
    for host in (name, *(f"{name}.{suffix}" for suffix in search)):
        found = table.addresses(host)
        if found is not None:
            return found
    return None


def outside(table: NameTable, name: str, search: tuple[str, ...]) -> str | None:
    """The host outside that a name as a workload says it stands for; None where it stands for none."""
    name = name.lower().rstrip(".")
    return next(filter(None, map(table.alias, (name, *(f"{name}.{suffix}" for suffix in search)))), None)
