"""Header values are formats of Envoy, as are lines of access logs and tags of spans."""

from __future__ import annotations

import re
from typing import Any

from lateen.resources.checks import Report
from lateen.values.envoy_format import format_problem

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LISTED = re.compile(
    r'%(?:UPSTREAM_METADATA|DYNAMIC_METADATA)\( *\[ *"(?:[^")\\]|\\.)*" *(?:, *"(?:[^")\\]|\\.)*" *)*\] *\)%'
    r"|%PER_REQUEST_STATE\([^)]+\)%"
)
"""Older forms, which Envoy takes in headers alone."""


def check_header_value(report: Report, field: str, value: str) -> None:
    """Refuse what Envoy would refuse: control characters, and commands that are none."""
    check_plain_value(report, field, value)
    check_format(report, field, _LISTED.sub("", value))


def check_plain_value(report: Report, field: str, value: str) -> None:
    """Refuse what no header can have; a percent sign is one."""
    if _FORBIDDEN.search(value):
        report.error(field, "it goes into a header, which cannot hold control characters", "leave them out")


def check_log_format(report: Report, field: str, form: Any) -> None:
    """Refuse an entry of a log, of any depth, in which Envoy would refuse a text."""
    if isinstance(form, str):
        check_format(report, field, form)
    elif isinstance(form, dict):
        for name, value in form.items():
            check_log_format(report, f"{field}.{name}", value)
    elif isinstance(form, list):
        for index, value in enumerate(form):
            check_log_format(report, f"{field}[{index}]", value)


def check_format(report: Report, field: str, text: str) -> None:
    """Refuse a format that Envoy would refuse."""
    if problem := format_problem(text):
        report.error(field, problem, "such as %REQ(x-id)%; write %% for a percent sign")
