"""URI templates (RFC 6570) as patterns of paths.

Comes in: a template such as ``/pets/{id}``. Goes out: a pattern of RE2 for the whole path without its query; ValueError
says what a path cannot be held against. As with Mixer, ``*`` is one segment and ``**`` any number of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

_PART = re.compile(r"\{([^{}]*)\}|([^{}]+)|([{}])")
_VARIABLE = re.compile(r"([A-Za-z0-9_.%]+)(?:(\*)|:([0-9]{1,4}))?")
_SEGMENT = "[^/]+"
_UNREAD = {"#": "a fragment is not sent", ".": "labels are not read", ";": "parameters of a path are not read"}


def pattern_of(template: str) -> str:
    """Raises ValueError."""
    if not template.startswith(("/", "{")):
        raise ValueError(f"{template!r} does not begin with /")
    return "".join(_parts(template))


def _parts(template: str) -> Iterator[str]:
    for found in _PART.finditer(template):
        expression, literal, stray = found.groups()
        if stray is not None:
            raise ValueError(f"{stray} stands alone in {template!r}")
        yield _literal(literal) if literal is not None else _expression(expression)


def _literal(text: str) -> str:
    wild = {"*": _SEGMENT, "**": ".*"}
    return "/".join(wild.get(segment, re2.escape(segment)) for segment in text.split("/"))


def _expression(text: str) -> str:
    operator = text[:1] if text[:1] in "+/?&#.;" else ""
    if operator in _UNREAD:
        raise ValueError(f"{{{text}}}: {_UNREAD[operator]}")
    variables = [_VARIABLE.fullmatch(name) for name in text.removeprefix(operator).split(",")]
    found = [one for one in variables if one is not None]
    if len(found) < len(variables):
        raise ValueError(f"{{{text}}} holds no variable")
    if operator in ("?", "&"):
        return ""
    if operator == "+":
        return ".+"
    if operator == "/":
        return "".join(f"(?:/{_SEGMENT})*" if one.group(2) else f"/{_one(one.group(3))}" for one in found)
    return ",".join(_one(one.group(3)) for one in found)


def _one(longest: str | None) -> str:
    return f"[^/]{{1,{max(1, int(longest))}}}" if longest else _SEGMENT
