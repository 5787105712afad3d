"""Which fields of a resource are set: the one walk over typed content that several checks share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


def set_fields(value: Any, path: str = "spec", shape: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every field that differs from its default, as (path, shape, value).

    The shape is the path without indices, map keys and prefix: ``http[].match[].headers{}.exact``.
    """
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            if item is None or item == _default(field):
                continue
            below = f"{path}.{field.encode_name}" if path else field.encode_name
            kind = f"{shape}.{field.encode_name}" if shape else field.encode_name
            yield below, kind, item
            yield from set_fields(item, below, kind)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from set_fields(item, f"{path}[{index}]", f"{shape}[]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from set_fields(item, f"{path}.{name}", f"{shape}{{}}")


def _default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else msgspec.NODEFAULT
