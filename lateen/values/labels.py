"""Labels of Kubernetes: which texts are names and values of them."""

from __future__ import annotations

import re

_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def is_label_name(text: str) -> bool:
    """A name of 63 characters at most, with a domain and ``/`` before it or not."""
    return _NAME.fullmatch(text) is not None


def is_label_value(text: str) -> bool:
    """Empty, or 63 characters at most that begin and end with a letter or digit."""
    return _VALUE.fullmatch(text) is not None
