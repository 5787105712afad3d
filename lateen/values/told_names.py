"""Names of a workload in one text: as its certificate has them, and what clients know of those that they call.

Comes in: the name of a workload and its labels. Goes out: ``WORKLOAD/APP/VERSION/SERVICE/REVISION`` (the last two are
canonical), a text that needs no quoting anywhere on its way, and the names in such a text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from lateen.values.canonical import canonical_names

FIELDS = ("workload", "app", "version", "canonical_service", "canonical_revision")
PREFIX = "lateen/"
"""So begins what a certificate's subject tells."""
LONGEST = 900
"""Characters; an X.509 description holds 1,024."""
_PLAIN = frozenset((string.ascii_letters + string.digits + "._-").encode())
_ESCAPE = re.compile("(?:~[0-9A-F]{2})+")


def told_names(workload: str, labels: Mapping[str, str]) -> str:
    """The names of a workload; its own name alone where labels are longer than a certificate takes."""
    names = (workload, labels.get("app", ""), labels.get("version", ""), *canonical_names(workload, labels))
    text = joined(names)
    return text if len(text) <= LONGEST else told_workload(workload)


def told_workload(workload: str) -> str:
    """The name of a workload of which no more is known."""
    text = joined((workload, *[""] * (len(FIELDS) - 1)))
    return text if len(text) <= LONGEST else ""


def names_in(text: str) -> dict[str, str]:
    """The names by field, those that there are; none if it is no such text."""
    parts = parted(text)
    return {field: part for field, part in zip(FIELDS, parts, strict=True) if part} if len(parts) == len(FIELDS) else {}


def joined(parts: tuple[str, ...]) -> str:
    """Texts as one, with ``/`` between."""
    return "/".join(escaped(part) for part in parts)


def parted(text: str) -> tuple[str, ...]:
    """The texts that were joined."""
    return tuple(whole(part) for part in text.split("/"))


def escaped(text: str) -> str:
    """A text in letters, digits and ``._-~``: every other byte is ``~`` and two hex digits."""
    data = text.encode(errors="surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"~{byte:02X}" for byte in data)


def whole(text: str) -> str:
    """The text that was escaped."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[0].replace("~", "")).decode(errors="replace"), text)
