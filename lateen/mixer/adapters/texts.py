"""Values of instances as others want them: as JSON has them, as one text, as a number; and which settings are whose."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from lateen.mixer.templates import Value

_T = TypeVar("_T")


def plain(value: Value) -> Any:
    """The value as JSON has it: times in RFC 3339, durations and addresses as texts."""
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def text(value: Value) -> str:
    """The value as one text; an absent one is empty."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={entry}" for key, entry in sorted(value.items()))
    found = plain(value)
    return "" if found is None else str(found)


def number(value: Value) -> float | int:
    """The value as a number, durations in seconds. Raises ValueError for one that is none."""
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError(f"{plain(value)!r} is not a number")


class ByInstance(Generic[_T]):
    """Settings by the name of an instance, which may be written NAME, NAME.NAMESPACE or NAME.KIND.NAMESPACE."""

    def __init__(self, given: Mapping[str, _T]) -> None:
        self._given = {_short(name): setting for name, setting in given.items()}

    def find(self, instance: str) -> _T | None:
        """``instance`` is the full name. None: nothing is said of it."""
        name, namespace = _short(instance)
        found = self._given.get((name, namespace))
        return self._given.get((name, "")) if found is None else found


def _short(name: str) -> tuple[str, str]:
    first, _, rest = name.partition(".")
    return first, rest.rpartition(".")[2]
