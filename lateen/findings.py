"""Findings: what is wrong with what a user wrote, where, and what to write instead.

A user's mistake is a finding and never an exception; an exception is a bug of ours.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.values.names import Origin
from lateen.values.printing import printable

LONGEST_MESSAGE = 1000
"""What a user wrote is quoted in messages, however long it is."""


class Severity(enum.Enum):
    """How bad it is: an error is refused, a warning is accepted."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(msgspec.Struct, frozen=True):
    """One problem, pointing at one field of one resource.

    ``code`` is stable and kebab-case (``unknown-field``); ``message`` says what is wrong in one sentence;
    ``remedy`` says what to write instead (may be empty). ``origin.path/line/field`` say where.
    """

    code: str
    severity: Severity
    message: str
    origin: Origin
    remedy: str = ""

    def __post_init__(self) -> None:
        if len(self.message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            msgspec.structs.force_setattr(self, "message", f"{self.message[:half]} ... {self.message[-half:]}")

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def render(self) -> str:
        """One line for a terminal: ``file:line: error: message [code] at field; remedy``."""
        origin = self.origin
        place = f"{origin.path}:{origin.line}: " if origin.path else ""
        owner = f"{origin.kind} {origin.namespace + '/' if origin.namespace else ''}{origin.name}".strip()
        where = f" ({owner}{' ' + origin.field if origin.field else ''})"
        remedy = f" -> {self.remedy}" if self.remedy else ""
        text = f"{place}{self.severity.value}: {self.message}{where}{remedy} [{self.code}]"
        return printable(text)


def error(code: str, message: str, origin: Origin, remedy: str = "") -> Finding:
    return Finding(code=code, severity=Severity.ERROR, message=message, origin=origin, remedy=remedy)


def warning(code: str, message: str, origin: Origin, remedy: str = "") -> Finding:
    return Finding(code=code, severity=Severity.WARNING, message=message, origin=origin, remedy=remedy)
