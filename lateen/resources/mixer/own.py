"""Adapters of your own: what the installed ones take, so that handlers can be checked without running their code.

Comes in: descriptions. Goes out: kinds of adapters like the built-in ones, with a struct for their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lateen.resources.base import Spec
from lateen.resources.mixer.adapters import ADAPTERS, OWN, AdapterKind

TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list[str]": tuple[str, ...],
    "dict[str, str]": dict[str, str],
}
"""The types that parameters may have."""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter. ``required``: it has no default, which otherwise is the adapter's business."""

    name: str
    type: str
    required: bool = False


class Description(msgspec.Struct, frozen=True):
    """An installed adapter: the name that handlers give, the templates that it takes, its parameters."""

    name: str
    templates: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()


def know(descriptions: Iterable[Description]) -> None:
    """These are the installed ones from now on, in this process. A built-in adapter of the same name goes first."""
    OWN.clear()
    OWN.update((one.name, _kind(one)) for one in descriptions if one.name not in ADAPTERS)


def _kind(one: Description) -> AdapterKind:
    fields = [(field.name, TYPES[field.type] | None, None) for field in one.parameters]
    params: Any = msgspec.defstruct("OwnParams", fields, bases=(Spec,), frozen=True)
    required = frozenset(field.name for field in one.parameters if field.required)
    return AdapterKind(one.name, params, frozenset(one.templates), required=required)
