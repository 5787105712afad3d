"""Literals of CEL: how they are written, and what they are worth.

Comes in: a token as it was written. Goes out: what is wrong with it, or the text that it stands for.
"""

from __future__ import annotations

import re

_HEX = "[0-9a-fA-F]"
_ESCAPE = rf"\\(?:[abfnrtv\"'\\?`]|[xX]{_HEX}{{2}}|u{_HEX}{{4}}|U{_HEX}{{8}}|[0-3][0-7]{{2}})"
_RAW = r"(?:[bB]?[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|\"[^\"\n\r]*\"|'[^'\n\r]*'))"
_PLAIN = (
    rf"(?:[bB]?(?:\"{{3}}(?:[^\\]|{_ESCAPE})*?\"{{3}}|'{{3}}(?:[^\\]|{_ESCAPE})*?'{{3}}"
    rf"|\"(?:[^\"\\\n\r]|{_ESCAPE})*\"|'(?:[^'\\\n\r]|{_ESCAPE})*'))"
)
_NUMBER = rf"(?:[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|0x{_HEX}+[uU]?|[0-9]+[uU]?)"
LITERAL = f"(?:{_RAW}|{_PLAIN}|{_NUMBER})"
"""What a literal looks like; a line break may stand in one that is quoted three times."""
_ESCAPES = re.compile(_ESCAPE)
_FLOAT = re.compile(r"[0-9]*\.[0-9]|[0-9]+[eE]")
_SHORT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_INT, _UINT = 2**63, 2**64
_SURROGATES = range(0xD800, 0xE000)
_HIGHEST = 0x10FFFF


def is_number(literal: str) -> bool:
    return literal[0].isdigit() or literal[0] == "."


def number_problem(literal: str, *, negative: bool) -> str:
    """What is wrong with a number, which may have a sign before it; empty where nothing is."""
    if _FLOAT.match(literal) and not literal.startswith("0x"):
        return ""
    unsigned = literal[-1] in "uU"
    digits = literal.rstrip("uU")
    value = int(digits[2:], 16) if digits.startswith("0x") else int(digits) if len(digits) < 100 else _UINT
    limit = _UINT if unsigned else _INT + negative
    return "" if value < limit else f"the number {literal[:40]} is too large"


def text_problem(literal: str) -> str:
    """What is wrong with a quoted literal; empty where nothing is."""
    prefix, text = _taken_apart(literal)
    if "r" in prefix:
        return "a raw text ends with a backslash" if text.endswith("\\") else ""
    for escape in _ESCAPES.findall(text):
        if escape[1] in "uU" and "b" in prefix:
            return f"{escape} stands in bytes, which have no characters"
        if escape[1] in "uU" and (int(escape[2:], 16) in _SURROGATES or int(escape[2:], 16) > _HIGHEST):
            return f"{escape} is no character"
    return ""


def text_of(literal: str) -> str | None:
    """The text of a literal without a problem; None where it is bytes."""
    prefix, text = _taken_apart(literal)
    if "b" in prefix:
        return None
    return text if "r" in prefix else _ESCAPES.sub(_character, text)


def _taken_apart(literal: str) -> tuple[str, str]:
    quoted = literal.lstrip("bBrR")
    width = 3 if quoted[:3] in ('"""', "'''") else 1
    return literal[: len(literal) - len(quoted)].lower(), quoted[width:-width]


def _character(found: re.Match[str]) -> str:
    kind, rest = found[0][1], found[0][2:]
    if kind in "xXuU":
        return chr(int(rest, 16))
    if kind.isdigit():
        return chr(int(kind + rest, 8))
    return _SHORT.get(kind, kind)
