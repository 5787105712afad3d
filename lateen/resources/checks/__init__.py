"""The semantic checks of each kind, and the report that they write to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lateen.findings import Finding, Severity, error, warning
from lateen.resources.base import StringMatch
from lateen.resources.resource import Resource
from lateen.values.labels import is_label_name, is_label_value
from lateen.values.network import MAX_PORT, is_label
from lateen.values.patterns import MAX_PROGRAM
from lateen.values.protocol import parse_protocol

MAX_PATTERN = 1024
MAX_LABEL = 63
MAX_UNIX_PATH = 107
UNIX_PATH = f"the path of a Unix socket is absolute, and has {MAX_UNIX_PATH} bytes at most"
_HEADER = re.compile(r"[-_A-Za-z0-9]+")
_PROTOCOLS = frozenset({"UDP", "HTTP_PROXY", "HBONE", "DOUBLE_HBONE"})


class Report:
    """Collects what is wrong with one resource."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.findings: list[Finding] = []

    def error(self, field: str, message: str, remedy: str = "", code: str = "invalid-value") -> None:
        self.findings.append(error(code, message, self.resource.origin_at(field), remedy))

    def warn(self, field: str, message: str, remedy: str = "", code: str = "questionable") -> None:
        self.findings.append(warning(code, message, self.resource.origin_at(field), remedy))

    def note(self, field: str, message: str, remedy: str = "", code: str = "questionable") -> None:
        self.findings.append(Finding(code, Severity.INFO, message, self.resource.origin_at(field), remedy))

    def is_given(self, *fields: str) -> bool:
        """Whether the document has one of these fields, even with a value that is the default."""
        return any(field in self.resource.lines for field in fields)


# --- names -----------------------------------------------------------------------------------------------------------


def is_header(text: str) -> bool:
    """Whether a text is a plain header name: letters, digits, dashes and underscores."""
    return bool(_HEADER.fullmatch(text))


def is_protocol(text: str) -> bool:
    """Whether a text names a protocol of a port, in any case; empty text names none."""
    return bool(text) and (parse_protocol(text) is not None or text.upper() in _PROTOCOLS)


def is_unix_path(path: str) -> bool:
    """Whether a text is the path of a Unix socket: absolute and not a folder, or ``@`` and a name; as long as one may
    be."""
    fits = len(path.encode()) <= MAX_UNIX_PATH and "\0" not in path
    return fits and (path.startswith("@") or (path.startswith("/") and not path.endswith("/")))


def check_port(report: Report, field: str, number: int | None) -> None:
    if number is not None and not 1 <= number <= MAX_PORT:
        report.error(field, f"port {number} is not between 1 and {MAX_PORT}")


def check_labels(report: Report, field: str, labels: Mapping[str, str]) -> None:
    for name, value in labels.items():
        if not is_label_name(name):
            report.error(f"{field}.{name}", f"{name!r} is not a label name")
        if not is_label_value(value):
            report.error(f"{field}.{name}", f"{value!r} is not a label value")


def check_selector(report: Report, field: str, labels: Mapping[str, str]) -> None:
    """Rules of ``matchLabels``: no empty names, no wildcards."""
    if not labels:
        report.warn(field, "an empty selector selects every workload of the namespace", "leave the selector out")
    for name, value in labels.items():
        if not name:
            report.error(field, "a selector has an empty label name")
        elif "*" in name or "*" in value:
            report.error(f"{field}.{name}", "a selector cannot have wildcards", "name the label's value in full")
        elif len(value) > MAX_LABEL:
            report.error(f"{field}.{name}", f"a label's value has at most {MAX_LABEL} characters")


def check_export_to(report: Report, entries: Iterable[str]) -> None:
    """``exportTo``: ``.``, ``*``, ``~`` or namespaces; the two last alone."""
    field = "spec.exportTo"
    seen: set[str] = set()
    own = report.resource.key.namespace
    listed = tuple(entries)
    for entry in listed:
        meaning = own if entry == "." else entry
        if meaning in seen:
            report.error(field, f"{entry!r} stands twice in exportTo", "name each namespace once")
        seen.add(meaning)
        if entry == "~" and report.resource.key.kind != "ServiceEntry":
            report.error(field, "~ is for services alone", "use . to keep it in its namespace")
        elif entry not in (".", "*", "~") and not is_label(entry):
            report.error(field, f"{entry!r} is no namespace", "use ., * or a namespace's name")
    if len(listed) > 1 and ("*" in listed or "~" in listed):
        report.error(field, "* and ~ stand alone in exportTo", "leave the other entries out")


# --- strings ---------------------------------------------------------------------------------------------------------


def check_pattern(report: Report, field: str, pattern: str) -> None:
    """An RE2 pattern of at most 1024 characters that compiles."""
    import re2

    if not pattern:
        report.error(field, "the pattern is empty", "leave the field out to match everything")
        return
    if len(pattern.encode()) > MAX_PATTERN:
        report.error(field, f"the pattern is longer than {MAX_PATTERN} bytes")
        return
    options = re2.Options()
    options.log_errors = False
    try:
        size = re2.compile(pattern, options).programsize
        if size > MAX_PROGRAM:
            report.error(field, f"the pattern is too large: {size} steps, where {MAX_PROGRAM} may be", "repeat less")
    except re2.error as problem:
        text = problem.args[0].decode() if isinstance(problem.args[0], bytes) else str(problem)
        report.error(field, f"the pattern does not compile: {text}", "write an RE2 pattern", "invalid-regex")


def check_string_match(report: Report, field: str, match: StringMatch | None) -> None:
    if match is None:
        report.error(field, "nothing stands where a match is expected", "write exact, prefix or regex")
        return
    given = [name for name in ("exact", "prefix", "regex") if getattr(match, name) is not None]
    if len(given) > 1:
        report.error(field, f"{' and '.join(given)} exclude each other", "keep one of them")
    if match.prefix == "":
        report.error(f"{field}.prefix", "the prefix is empty", "leave the match out to match everything")
    if match.regex is not None:
        check_pattern(report, f"{field}.regex", match.regex)


def check_duration(report: Report, field: str, seconds: float | None, *, zero_allowed: bool = False) -> None:
    """At least a millisecond, in whole milliseconds."""
    if seconds is None or (zero_allowed and seconds == 0):
        return
    if seconds < 0.001:
        report.error(field, "a duration has to be at least 1ms")
    elif abs(seconds * 1000 - round(seconds * 1000)) > 1e-6:
        report.error(field, "a duration has to be whole milliseconds")


def check_percentage(report: Report, field: str, value: float | None) -> None:
    if value is None:
        return
    if not 0 <= value <= 100:
        report.error(field, f"{value} is not between 0 and 100")
    elif 0 < value < 0.0001:
        report.error(field, "the smallest percentage is 0.0001")
