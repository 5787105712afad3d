"""Labels that are the same for all that a logger counts, packed into one: Envoy pays for each label of each request.

Comes in: labels. Goes out: the value of the one label that stands for them, and back, in a text of Prometheus. Whoever
reads a proxy's metrics takes them apart first (``whole``), so that nobody else meets a packed one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

PACKED = "lateen_labels"
_IN_TEXT = re.compile(rb'(?<=[{,])lateen_labels="((?:[^"\\]|\\.)*)"')


def packed(labels: Iterable[tuple[str, str]]) -> str:
    """``name=value;name=value``. Names are those that Prometheus takes."""
    return ";".join(f"{name}={value.replace('~', '~0').replace(';', '~1')}" for name, value in labels)


def whole(text: bytes) -> bytes:
    """A Prometheus text in which each packed label is what it stands for."""
    return _IN_TEXT.sub(lambda found: _unpacked(found[1]), text)


@lru_cache(maxsize=4096)
def _unpacked(value: bytes) -> bytes:
    """What Prometheus escapes stays so: no part of an escape means anything here."""
    pairs = (pair.partition(b"=") for pair in value.split(b";"))
    return b",".join(name + b'="' + found.replace(b"~1", b";").replace(b"~0", b"~") + b'"' for name, _, found in pairs)
