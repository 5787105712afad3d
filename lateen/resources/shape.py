"""Walks a value beside the struct that should read it, and names everything that does not fit.

Comes in: plain values and a msgspec struct type. Goes out: the value with field names in their usual form
(``snake_case`` is accepted as protobuf's JSON accepts it) and the problems, each with its field path.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

from lateen.resources.base import NUMBERED, Duration


class Problem(msgspec.Struct, frozen=True):
    """One thing that does not fit."""

    code: str
    message: str
    field: str
    remedy: str = ""


@lru_cache(maxsize=512)
def _type_of(struct: Any) -> inspect.Type:
    return inspect.type_info(struct)


def walk(value: Any, struct: type[msgspec.Struct], path: str) -> tuple[Any, list[Problem]]:
    """Compare a value with a struct; ``path`` is the path of the value."""
    problems: list[Problem] = []
    return _walk(value, _type_of(struct), path, problems), problems


def _walk(value: Any, wanted: inspect.Type, path: str, problems: list[Problem]) -> Any:
    if isinstance(wanted, inspect.Metadata):
        return _walk(_named(value, wanted), wanted.type, path, problems)
    if isinstance(wanted, inspect.UnionType):
        return _union(value, wanted, path, problems)
    if isinstance(wanted, inspect.StructType):
        return _struct(value, wanted, path, problems)
    if isinstance(wanted, inspect.VarTupleType | inspect.ListType):
        if not isinstance(value, list):
            return _wrong(value, "a list", path, problems)
        return [_walk(item, wanted.item_type, f"{path}[{index}]", problems) for index, item in enumerate(value)]
    if isinstance(wanted, inspect.DictType):
        if not isinstance(value, dict):
            return _wrong(value, "a mapping", path, problems)
        return {name: _walk(item, wanted.value_type, f"{path}.{name}", problems) for name, item in value.items()}
    return _scalar(value, wanted, path, problems)


def _named(value: Any, wanted: inspect.Metadata) -> Any:
    """The name that a number stands for, where it is one."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return (wanted.extra or {}).get(NUMBERED, {}).get(value, value) if is_number else value


def _union(value: Any, wanted: inspect.UnionType, path: str, problems: list[Problem]) -> Any:
    if value is None and any(isinstance(one, inspect.NoneType) for one in wanted.types):
        return None
    choices = [one for one in wanted.types if not isinstance(one, inspect.NoneType)]
    best: list[Problem] | None = None
    for choice in choices:
        found: list[Problem] = []
        result = _walk(value, choice, path, found)
        if not found:
            return result
        best = found if best is None or len(found) > len(best) else best
    problems.extend(best or ())
    return value


def _struct(value: Any, wanted: inspect.StructType, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        return _wrong(value, "a mapping", path, problems)
    fields = {field.encode_name: field for field in wanted.fields}
    aliases = {field.name.rstrip("_"): field.encode_name for field in wanted.fields}
    result: dict[str, Any] = {}
    for name, item in value.items():
        known = name if name in fields else aliases.get(name)
        below = f"{path}.{name}" if path else str(name)
        if known is None:
            if wanted.forbid_unknown_fields:
                problems.append(_unknown(str(name), below, fields, path))
            continue
        if item is None and known in fields:
            continue
        result[known] = _walk(item, fields[known].type, below, problems)
    problems.extend(
        Problem("missing-field", f"{name} is required", path, f"give {name}{_choices(field.type)}")
        for name, field in fields.items()
        if field.required and name not in result
    )
    return result


def _choices(wanted: inspect.Type) -> str:
    wanted = wanted.type if isinstance(wanted, inspect.Metadata) else wanted
    return f": {' or '.join(map(str, wanted.values))}" if isinstance(wanted, inspect.LiteralType) else ""


def _unknown(name: str, below: str, fields: dict[str, Any], path: str) -> Problem:
    close = difflib.get_close_matches(name, fields, 1)
    if close:
        remedy = f"did you mean {close[0]}?"
    else:
        remedy = f"the fields here are {', '.join(sorted(fields))}" if fields else ""
    return Problem("unknown-field", f"there is no field {name} in {path or 'this resource'}", below, remedy)


def _scalar(value: Any, wanted: inspect.Type, path: str, problems: list[Problem]) -> Any:
    if isinstance(wanted, inspect.StrType):
        return value if isinstance(value, str) else _wrong(value, "text", path, problems, _quoted(value))
    if isinstance(wanted, inspect.BoolType):
        return value if isinstance(value, bool) else _wrong(value, "true or false", path, problems)
    if isinstance(wanted, inspect.IntType):
        return _integer(value, wanted, path, problems)
    if isinstance(wanted, inspect.FloatType):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number else _wrong(value, "a number", path, problems)
    if isinstance(wanted, inspect.LiteralType):
        if value in wanted.values:
            return value
        close = difflib.get_close_matches(str(value).upper(), [str(one) for one in wanted.values], 1)
        names = ", ".join(str(one) for one in wanted.values)
        remedy = f"did you mean {close[0]}?" if close else "write one of them"
        problems.append(Problem("invalid-value", f"{value!r} is none of {names}", path, remedy))
        return value
    if isinstance(wanted, inspect.CustomType) and wanted.cls is Duration:
        return _duration(value, path, problems)
    return value


def _integer(value: Any, wanted: inspect.IntType, path: str, problems: list[Problem]) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return _wrong(value, "a whole number", path, problems)
    low, high = wanted.ge, wanted.le
    if (low is not None and value < low) or (high is not None and value > high):
        message = f"{value} is not between {low} and {high}"
        problems.append(Problem("invalid-value", message, path, "write a number between them"))
    return value


def _duration(value: Any, path: str, problems: list[Problem]) -> Any:
    from lateen.resources.decode import TooLong, parse_duration

    try:
        parse_duration(value if isinstance(value, str) else "")
    except TooLong as problem:
        problems.append(Problem("invalid-value", str(problem), path, "write a time that is meant, or leave it out"))
    except ValueError:
        message = f"{value!r} is not a duration"
        problems.append(Problem("invalid-value", message, path, "write a number with a unit, such as 10s or 250ms"))
    return value


def _quoted(value: Any) -> str:
    """How to write what YAML took for something else than text: a number, or an address that ends in a colon."""
    if isinstance(value, bool):
        return f'put it into quotes: "{str(value).lower()}"'
    if isinstance(value, int | float):
        return f'put it into quotes: "{value}"'
    if isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) is None:
        return f'put it into quotes: "{next(iter(value))}:"'
    return ""


def _wrong(value: Any, wanted: str, path: str, problems: list[Problem], remedy: str = "") -> Any:
    shown = "nothing" if value is None else _shown(value)
    problems.append(
        Problem("wrong-type", f"{shown} stands where {wanted} is expected", path, remedy or f"write {wanted}")
    )
    return value


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)
