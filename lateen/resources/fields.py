"""Which fields of a resource are set: the one walk over typed content that several checks share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec


def set_fields(value: Any, path: str = "spec", shape: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every field that differs from its default, as (path, shape, value).

    The shape is the path without indices, map keys and prefix: ``http[].match[].headers{}.exact``.
    """
    if isinstance(value, msgspec.Struct):
        for name, written, default in _fields(type(value)):
            item = getattr(value, name)
            if item is None or item == default:
                continue
            below = f"{path}.{written}" if path else written
            kind = f"{shape}.{written}" if shape else written
            yield below, kind, item
            yield from set_fields(item, below, kind)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from set_fields(item, f"{path}[{index}]", f"{shape}[]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from set_fields(item, f"{path}.{name}", f"{shape}{{}}")


@lru_cache(maxsize=512)
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, written name and default of each field of a struct."""
    return tuple((field.name, field.encode_name, _default(field)) for field in msgspec.structs.fields(struct))


def _default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else msgspec.NODEFAULT
