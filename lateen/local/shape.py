"""Hold a plain value (mappings, lists, scalars) against a msgspec type and name everything that does not fit.

Comes in: a value as YAML gave it, a type and a function from a field's path to its line. Goes out: findings, all of
them and not only the first, each with the field's path, its line and what to write instead. A value without findings
can be given to ``msgspec.convert``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import inspect

from lateen.findings import Finding, error
from lateen.values.names import Origin

FieldPath = tuple[str | int, ...]
LineOf = Callable[[FieldPath], int]
Problem = tuple[FieldPath, str, str, str]

_SCALARS: tuple[tuple[type[inspect.Type], type, str], ...] = (
    (inspect.BoolType, bool, "true or false"),
    (inspect.StrType, str, "text"),
    (inspect.IntType, int, "a whole number"),
    (inspect.FloatType, float, "a number"),
    (inspect.DictType, dict, "a mapping"),
    (inspect.StructType, dict, "a mapping"),
    (inspect.ListType, list, "a list"),
    (inspect.NoneType, type(None), "nothing"),
)


def check_shape(value: object, expected: type, origin: Origin, line_of: LineOf) -> list[Finding]:
    """Every place where ``value`` does not have the shape of ``expected``; empty if it fits."""
    problems = _check(value, inspect.type_info(expected), ())
    return [
        error(code, message, origin.at(field_text(path), line_of(path)), remedy)
        for path, code, message, remedy in problems
    ]


def field_text(path: FieldPath) -> str:
    """``("services", "a", "command", 0)`` as ``services.a.command[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def field_lines(lines: Mapping[str, int]) -> LineOf:
    """The line of a field by its path, from lines by their text: of the nearest field around it that has one."""

    def line_of(path: FieldPath) -> int:
        while path and field_text(path) not in lines:
            path = path[:-1]
        return lines.get(field_text(path), 1)

    return line_of


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]}?" if near else f"one of: {', '.join(names)}"


def _check(value: object, expected: inspect.Type, path: FieldPath) -> Iterator[Problem]:
    if isinstance(expected, inspect.Metadata):
        yield from _check(value, expected.type, path)
    elif isinstance(expected, inspect.UnionType):
        yield from _check_union(value, expected, path)
    elif isinstance(expected, inspect.LiteralType):
        if value not in expected.values:
            allowed = ", ".join(str(choice) for choice in expected.values)
            yield path, "invalid-value", f"{_show(value)} is not one of the values allowed here", f"one of: {allowed}"
    elif not _fits(value, expected):
        yield path, "wrong-type", f"expected {_wanted(expected)}, found {_show(value)}", _quote_remedy(value, expected)
    elif isinstance(expected, inspect.StructType) and isinstance(value, Mapping):
        yield from _check_struct(value, expected, path)
    elif isinstance(expected, inspect.DictType) and isinstance(value, Mapping):
        yield from _check_mapping(value, expected, path)
    elif isinstance(expected, inspect.ListType) and isinstance(value, list):
        yield from _check_list(value, expected, path)
    elif isinstance(expected, inspect.StrType) and isinstance(value, str):
        yield from _check_text(value, expected, path)
    elif isinstance(expected, inspect.IntType | inspect.FloatType) and isinstance(value, int | float):
        yield from _check_number(value, expected, path)


def _check_union(value: object, expected: inspect.UnionType, path: FieldPath) -> Iterator[Problem]:
    """Against the member that has the value's kind; alternatives of one kind do not occur in our types."""
    members = [member.type if isinstance(member, inspect.Metadata) else member for member in expected.types]
    for member in members:
        if not isinstance(member, inspect.LiteralType) and _fits(value, member):
            yield from _check(value, member, path)
            return
    literals = [member for member in members if isinstance(member, inspect.LiteralType)]
    if literals and isinstance(value, str):
        yield from _check(value, literals[0], path)
        return
    wanted = " or ".join(dict.fromkeys(_wanted(member) for member in members if not _is_none(member)))
    yield path, "wrong-type", f"expected {wanted}, found {_show(value)}", _quote_remedy(value, *members)


def _check_struct(value: Mapping[object, object], expected: inspect.StructType, path: FieldPath) -> Iterator[Problem]:
    fields = {field.encode_name: field for field in expected.fields}
    for key, item in value.items():
        field = fields.get(key) if isinstance(key, str) else None
        if field is None:
            yield (*path, str(key)), "unknown-field", f"there is no field {key!s} here", did_you_mean(str(key), fields)
        else:
            yield from _check(item, field.type, (*path, field.encode_name))
    for name, field in fields.items():
        if field.required and name not in value:
            yield path, "missing-field", f"the field {name} is missing", f"add {name}"


def _check_mapping(value: Mapping[object, object], expected: inspect.DictType, path: FieldPath) -> Iterator[Problem]:
    for key, item in value.items():
        below = (*path, str(key))
        if not isinstance(key, str):
            yield below, "wrong-type", f"the name {key!r} is not text", f'write it in quotes: "{key}"'
            continue
        yield from _check(key, expected.key_type, below)
        yield from _check(item, expected.value_type, below)


def _check_list(value: list[object], expected: inspect.ListType, path: FieldPath) -> Iterator[Problem]:
    if expected.min_length is not None and len(value) < expected.min_length:
        yield path, "too-short", "the list is empty", "write at least one item"
    for index, item in enumerate(value):
        yield from _check(item, expected.item_type, (*path, index))


def _check_text(value: str, expected: inspect.StrType, path: FieldPath) -> Iterator[Problem]:
    if expected.min_length is not None and len(value) < expected.min_length:
        yield path, "too-short", "the text is empty", ""
    if expected.pattern is not None and not re.search(expected.pattern, value):
        yield path, "invalid-value", f"{_show(value)} does not have the form that is asked for", _hint(expected.pattern)


def _check_number(
    value: int | float, expected: inspect.IntType | inspect.FloatType, path: FieldPath
) -> Iterator[Problem]:
    if expected.ge is not None and value < expected.ge:
        yield path, "out-of-range", f"{value} is too small", f"at least {expected.ge}"
    if expected.le is not None and value > expected.le:
        yield path, "out-of-range", f"{value} is too large", f"at most {expected.le}"


def _fits(value: object, expected: inspect.Type) -> bool:
    """Whether the value is of the kind that the type wants; a bool is no number here, a whole number is a number."""
    if isinstance(expected, inspect.Metadata):
        return _fits(value, expected.type)
    for kind, python_type, _ in _SCALARS:
        if isinstance(expected, kind):
            if python_type is float:
                return isinstance(value, int | float) and not isinstance(value, bool)
            return isinstance(value, python_type) and (python_type is bool or not isinstance(value, bool))
    return True


def _is_none(expected: inspect.Type) -> bool:
    return isinstance(expected, inspect.NoneType)


def _wanted(expected: inspect.Type) -> str:
    if isinstance(expected, inspect.Metadata):
        return _wanted(expected.type)
    if isinstance(expected, inspect.LiteralType):
        return " or ".join(str(choice) for choice in expected.values)
    return next((words for kind, _, words in _SCALARS if isinstance(expected, kind)), "something else")


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _quote_remedy(value: object, *expected: inspect.Type) -> str:
    wants_text = any(
        isinstance(one.type if isinstance(one, inspect.Metadata) else one, inspect.StrType) for one in expected
    )
    if wants_text and value is not None and not isinstance(value, Mapping | list):
        return f'write it in quotes: "{_show(value)}"'
    return ""


def _hint(pattern: str) -> str:
    """What a pattern of ours means, in words."""
    from lateen.local.fields import DURATION_PATTERN, NAME_PATTERN

    words = {
        NAME_PATTERN: "small letters, digits and dashes, at most 63, with no dash at an end",
        DURATION_PATTERN: "a number and a unit: 500ms, 2s, 1m, 1h",
        "^/": "a path that begins with /",
    }
    return words.get(pattern, f"it must match {pattern}")
