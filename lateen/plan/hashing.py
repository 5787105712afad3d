"""What tells clients apart where a pool is balanced by consistent hash."""

from __future__ import annotations

import msgspec


class HashOnHeader(msgspec.Struct, frozen=True, tag=True):
    name: str


class HashOnCookie(msgspec.Struct, frozen=True, tag=True):
    """``ttl`` None: the cookie is not generated; 0: a session cookie. ``attributes`` go with a generated one."""

    name: str
    path: str = ""
    ttl: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()


class HashOnSourceIp(msgspec.Struct, frozen=True, tag=True):
    pass


class HashOnQuery(msgspec.Struct, frozen=True, tag=True):
    name: str


HashPolicy = HashOnHeader | HashOnCookie | HashOnSourceIp | HashOnQuery
