"""Files as a source: what stands in a set of files and folders, now and whenever it changes.

Comes in: paths that a user named. Goes out: ``FileEvent``s, one a file: its bytes, or None once it is gone. A folder
means every ``*.yaml``, ``*.yml`` and ``*.json`` below it, hidden files and folders left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
from watchfiles import awatch

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES = 16 * 1024 * 1024
COMPARE_S = 0.5
FIRST_COMPARE_S = 0.01


class FileEvent(msgspec.Struct, frozen=True):
    """One file as it is now: ``data`` None: it is gone; ``error`` not empty: it is there and cannot be read."""

    path: str
    data: bytes | None
    error: str = ""


def matching_files(paths: Iterable[Path], excluded: frozenset[Path] = frozenset()) -> list[Path]:
    """Every configuration file that the paths mean, each once, in a stable order. A last part may have wildcards."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            walked = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
            candidates = sorted(file for file in walked if file.suffix in SUFFIXES)
            candidates = [
                file for file in candidates if not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
        elif is_pattern(path):
            candidates = [file for file in sorted(path.parent.glob(path.name)) if not file.name.startswith(".")]
        else:
            candidates = [path]
        found.update((file, None) for file in candidates if file not in excluded and _is_there(file))
    return list(found)


def _is_there(file: Path) -> bool:
    """Whether it is a file, or a link that leads nowhere: a user who made one expects that it is read."""
    return file.is_file() or (file.is_symlink() and not file.exists())


def is_pattern(path: Path) -> bool:
    """Whether the last part of a path has wildcards."""
    return any(character in path.name for character in "*?[")


def read_file(path: Path) -> FileEvent:
    """Read one file; a file that is too large or unreadable gives an event that says so."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return FileEvent(str(path), b"", f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
        return FileEvent(str(path), path.read_bytes())
    except OSError as problem:
        if path.is_symlink():
            why = f"it is a symbolic link to {path.readlink()}: {problem.strerror}"
            return FileEvent(str(path), b"", f"the file cannot be read: {why}")
        if isinstance(problem, FileNotFoundError):
            return FileEvent(str(path), None)
        return FileEvent(str(path), b"", f"the file cannot be read: {problem.strerror}")


class FileSource:
    """Watches paths. Call ``changed`` for what differs from the last call; ``watch`` yields such lists for ever.

    ``back_s``: how long, in seconds, a file may be away before ``watch`` says that it is gone.
    """

    def __init__(self, paths: Iterable[Path], excluded: Iterable[Path] = (), back_s: float = 0.0) -> None:
        self._paths = tuple(paths)
        self._back_s = back_s
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
        known = {path: event for path, event in present.items() if event.data is not None}
        gone = [FileEvent(path, None) for path in self._known if path not in known]
        self._known = known
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

    async def _until_back(self, touched: asyncio.Event) -> None:
        """Wait until all known files are there, but no longer than may be: what is not back then is gone."""
        end = time.monotonic() + self._back_s
        while (left := end - time.monotonic()) > 0 and not all(os.path.lexists(name) for name in self._known):
            touched.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, COMPARE_S)):
                    await touched.wait()

    async def watch(self, stop: asyncio.Event, debounce_ms: int = 20) -> AsyncIterator[list[FileEvent]]:
        """Yield every change from now on, until ``stop`` is set.

        The folders of named files are watched, so that editors which replace a file by renaming are seen. Soon at
        first and later twice a second the files are compared without being told to: what happened before the watch
        stood is not lost.
        """
        touched = asyncio.Event()
        deep = [path for path in self._paths if path.is_dir()]
        flat = {path.parent for path in self._paths if not path.is_dir() and path.parent.is_dir()}
        watchers = [
            asyncio.ensure_future(self._notice(roots, recursive, stop, debounce_ms, touched))
            for roots, recursive in ((deep, True), (sorted(flat), False))
            if roots
        ]
        pause = FIRST_COMPARE_S
        try:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await touched.wait()
                touched.clear()
                pause = min(COMPARE_S, 2 * pause)
                await self._until_back(touched)
                events = self.changed()
                if events:
                    yield events
        finally:
            for watcher in watchers:
                watcher.cancel()

    async def _notice(
        self, roots: list[Path], recursive: bool, stop: asyncio.Event, debounce_ms: int, touched: asyncio.Event
    ) -> None:
        async for _ in awatch(
            *roots,
            stop_event=stop,
            debounce=debounce_ms,
            step=5,
            watch_filter=None,
            rust_timeout=500,
            recursive=recursive,
        ):
            touched.set()
