"""One decoded resource: its key, where it came from, and its typed content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lateen.values.names import Origin, ResourceKey

_CAPITAL = re.compile(r"[A-Z]")


class Resource(msgspec.Struct, frozen=True):
    """A resource of any kind. ``spec`` is the struct of its kind; ``lines`` maps field paths to 1-based lines.

    ``places`` says where the fields of a resource that was made from others stand.
    ``creation`` is the RFC 3339 time of creation, empty where none is given: the key of "oldest wins".
    """

    key: ResourceKey
    origin: Origin
    spec: Any
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    creation: str = ""
    lines: Mapping[str, int] = {}
    places: Mapping[str, Origin] = {}

    def origin_at(self, field: str) -> Origin:
        """The origin of one field (``spec.http[0].timeout``), at its line or at that of the nearest field above it. A
        field may be written in either spelling: ``validDuration`` or ``valid_duration``."""
        known = self.places or self.lines
        path = field
        while path and path not in known:
            snake = _CAPITAL.sub(lambda found: f"_{found[0].lower()}", path)
            if snake in known:
                path = snake
                break
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        if self.places:
            return self.places.get(path, self.origin)
        return self.origin.at(field, self.lines.get(path, 0))
