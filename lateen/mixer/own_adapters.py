"""The adapters of your own that are installed beside Lateen, by their entry points.

Comes in: what Python packages declare. Goes out: descriptions, and what is wrong with those that cannot be used. Their
code runs in processes of its own alone: here it is asked in one that ends at once, or is ended.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import NamedTuple

import msgspec

from lateen.resources.mixer.own import Description, know

GROUP = "lateen.adapters"
LENGTH = struct.Struct(">I")
"""What stands before each message between the mixer and a worker."""
LIMIT_S = 20.0
LONGEST_WORDS = 500


class Unusable(NamedTuple):
    """An adapter that is installed and cannot be used, and why."""

    name: str
    why: str


def installed() -> tuple[list[Description], list[Unusable]]:
    """What is installed. None of it is remembered yet: see ``know``."""
    found: list[Description] = []
    wrong: list[Unusable] = []
    for name in sorted({point.name for point in entry_points(group=GROUP)}):
        answer = _described(name)
        (found if isinstance(answer, Description) else wrong).append(answer)  # type: ignore[arg-type]
    return found, wrong


def know_installed() -> list[Unusable]:
    """Let this process know what is installed; what cannot be used is told."""
    found, wrong = installed()
    know(found)
    return wrong


def command(*words: str) -> list[str]:
    """How a process for the code of adapters is started."""
    return [sys.executable, "-m", "lateen.mixer.worker", *words]


def _described(name: str) -> Description | Unusable:
    try:
        done = subprocess.run(
            command("describe", name), stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Unusable(name, f"it does not say within {LIMIT_S:g} s what it is")
    try:
        return msgspec.json.decode(done.stdout, type=Description)
    except msgspec.DecodeError:
        return Unusable(name, next(_last_words(done.stderr), f"it ends with status {done.returncode}"))


def _last_words(told: bytes) -> Iterator[str]:
    for line in reversed(told.decode(errors="replace").splitlines()):
        if line.strip():
            yield line.strip()[:LONGEST_WORDS]
