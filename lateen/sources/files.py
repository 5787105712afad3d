"""Files as a source: what stands in a set of files and folders, now and whenever it changes.

Comes in: paths that a user named. Goes out: ``FileEvent``s, one a file: its bytes, or None once it is gone. A folder
means every ``*.yaml``, ``*.yml`` and ``*.json`` below it, hidden files and folders left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
from watchfiles import awatch

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES = 16 * 1024 * 1024


class FileEvent(msgspec.Struct, frozen=True):
    """One file as it is now: ``data`` None: it is gone; ``error`` not empty: it is there and cannot be read."""

    path: str
    data: bytes | None
    error: str = ""


def matching_files(paths: Iterable[Path], excluded: frozenset[Path] = frozenset()) -> list[Path]:
    """Every configuration file that the paths mean, each once, in a stable order."""
    found: dict[Path, None] = {}
    for path in paths:
        candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
        for candidate in candidates:
            below = candidate.relative_to(path).parts if path.is_dir() else ()
            hidden = any(part.startswith(".") for part in below)
            wanted = candidate.suffix in SUFFIXES or not path.is_dir()
            if wanted and not hidden and candidate not in excluded and candidate.is_file():
                found[candidate] = None
    return list(found)


def read_file(path: Path) -> FileEvent:
    """Read one file; a file that is too large or unreadable gives an event that says so."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return FileEvent(str(path), b"", f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
        return FileEvent(str(path), path.read_bytes())
    except FileNotFoundError:
        return FileEvent(str(path), None)
    except OSError as problem:
        return FileEvent(str(path), b"", f"the file cannot be read: {problem.strerror}")


class FileSource:
    """Watches paths. Call ``changed`` for what differs from the last call; ``watch`` yields such lists for ever."""

    def __init__(self, paths: Iterable[Path], excluded: Iterable[Path] = ()) -> None:
        self._paths = tuple(paths)
        self._excluded = frozenset(excluded)
        self._known: dict[str, FileEvent] = {}
        self._marks: dict[str, tuple[int, int, int]] = {}

    def changed(self) -> list[FileEvent]:
        """Every file that is new, different or gone since the last call."""
        events = []
        present = {str(path): self._read(path) for path in matching_files(self._paths, self._excluded)}
        for path, event in present.items():
            if event.data is not None and self._known.get(path) != event:
                events.append(event)
        gone = [FileEvent(path, None) for path in self._known if path not in present]
        self._known = {path: event for path, event in present.items() if event.data is not None}
        return events + gone

    def _read(self, path: Path) -> FileEvent:
        """Read a file again only if its size, time or inode tells that it is another than last time."""
        name = str(path)
        try:
            status = path.stat()
        except OSError:
            return read_file(path)
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
        if name not in self._known or self._marks.get(name) != mark:
            self._marks[name] = mark
            return read_file(path)
        return self._known[name]

    async def watch(self, stop: asyncio.Event, debounce_ms: int = 20) -> AsyncIterator[list[FileEvent]]:
        """Yield the present state first, then every change, until ``stop`` is set.

        The folders of named files are watched, so that editors which replace a file by renaming are seen. Twice a
        second the files are compared without being told to: what happened before the watch stood is not lost.
        """
        yield self.changed()
        roots = {path if path.is_dir() else path.parent for path in self._paths}
        existing = [root for root in roots if root.is_dir()]
        if not existing:
            await stop.wait()
            return
        async for _ in awatch(
            *existing,
            stop_event=stop,
            debounce=debounce_ms,
            step=5,
            watch_filter=None,
            rust_timeout=500,
            yield_on_timeout=True,
        ):
            events = self.changed()
            if events:
                yield events
