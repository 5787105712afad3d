"""What may be the name of a label on a page that Prometheus reads: one that may not has it refuse the whole page."""

from __future__ import annotations

import re
from collections.abc import Collection

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")


def as_label(name: str) -> str:
    """The name with ``_`` for what cannot stand there."""
    found = _NOT_IN_NAMES.sub("_", name)
    return found if _NAME.fullmatch(found) else f"_{found}"


def label_problem(name: str, taken: Collection[str]) -> str:
    """Why a label may not have a name, as the rest of a sentence; empty where it may."""
    if not _NAME.fullmatch(name):
        return "is no name of a label for Prometheus"
    if name.startswith("__"):
        return "is a name that Prometheus keeps for itself"
    return "is a label that is there already" if name in taken else ""
