"""Bytes that must not be seen: they show nothing when printed."""

from __future__ import annotations


class SecretBytes(bytes):
    """Key material. Use it as bytes; its repr and str tell only that it is there."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SecretBytes(...)"

    __str__ = __repr__
