"""A log file that is set aside when it is too big or too old.

Comes in: lines. Goes out: ``PATH``, and beside it older ones as ``PATH-TIME``, of which the newest are kept.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MEGABYTE = 1 << 20


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


class RotatedFile:
    """``megabytes`` a file may have; files older than ``days`` go, and all but ``files`` of them (0: no limit)."""

    def __init__(
        self,
        path: Path,
        *,
        megabytes: int,
        days: int,
        files: int,
        clock: Callable[[], datetime.datetime] = now,
    ) -> None:
        self._path = path
        self._longest = megabytes * MEGABYTE
        self._days, self._files = days, files
        self._clock = clock
        self._open: BinaryIO | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Whole lines, which stay together in one file. Raises OSError."""
        if self._open is None:
            self._begin()
        if self._longest and self._size and self._size + len(data) > self._longest:
            self._set_aside()
        assert self._open is not None
        self._open.write(data)
        self._open.flush()
        self._size += len(data)

    def close(self) -> None:
        """The next line opens it again."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _begin(self) -> None:
        self._open = self._path.open("ab")
        self._size = self._open.tell()

    def _set_aside(self) -> None:
        self.close()
        stamp = self._clock().strftime("%Y%m%dT%H%M%S.%fZ")
        self._path.rename(self._path.with_name(f"{self._path.name}-{stamp}"))
        self._begin()
        self._remove_old()

    def _remove_old(self) -> None:
        older = sorted(self._path.parent.glob(f"{self._path.name}-*Z"), reverse=True)
        oldest = self._clock() - datetime.timedelta(days=self._days)
        for index, path in enumerate(older):
            written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
            if (self._files and index >= self._files) or (self._days and written < oldest):
                path.unlink(missing_ok=True)
