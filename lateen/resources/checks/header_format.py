"""Header values are format strings of Envoy: every ``%`` begins a command such as ``%REQ(x-id)%``, or is doubled."""

from __future__ import annotations

import re

from lateen.resources.checks import Report

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PLAIN_ARGUMENT = r'[^\s\["](?:[^)\\"]|\\.)*\)'
_LISTED_ARGUMENT = r'\[ *"(?:[^")\\]|\\.)*" *(?:, *"(?:[^")\\]|\\.)*" *)*\] *\)'
_COMMAND = re.compile(rf"%(?:[^%(]+|[^%(]*\( *(?:{_PLAIN_ARGUMENT}|{_LISTED_ARGUMENT}) *)%", re.DOTALL)


def check_header_value(report: Report, field: str, value: str) -> None:
    """Refuse what Envoy would refuse: control characters, and commands that do not end."""
    if _FORBIDDEN.search(value):
        report.error(field, "a header value cannot hold control characters")
    if not is_format(value):
        report.error(field, "a single % begins a command that does not end", "write %% for a percent sign")


def is_format(value: str) -> bool:
    """Whether every ``%`` of a text is doubled or belongs to a complete command."""
    position = value.find("%")
    while position >= 0:
        if value.startswith("%%", position):
            position = value.find("%", position + 2)
            continue
        command = _COMMAND.match(value, position)
        if command is None:
            return False
        position = value.find("%", command.end())
    return True
