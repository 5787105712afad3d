"""Files as they were when all that they said held, kept for the next control plane of the same run.

Comes in: the files that hold as they are. Goes out: the same after a restart, so that an edit which was refused or has
to wait does not come into force because the control plane was killed meanwhile. One file of mode 0600 for each path,
in the run directory: its first line is the path, the rest the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from lateen.local.rundir import write_atomically


class LastGood:
    """The kept files; ``folder`` is made when something is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = dict(self._read())

    @property
    def files(self) -> Mapping[str, bytes]:
        """The bytes of each file by its path."""
        return self._kept

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keep exactly these; what is kept already is not written again."""
        for path in self._kept.keys() - files.keys():
            self._place(path).unlink(missing_ok=True)
            del self._kept[path]
        for path, data in files.items():
            if self._kept.get(path) != data:
                write_whole(self._place(path), path.encode() + b"\n" + data)
                self._kept[path] = data

    def _place(self, path: str) -> Path:
        return self._folder / blake2b(path.encode(), digest_size=16).hexdigest()

    def _read(self) -> list[tuple[str, bytes]]:
        if not self._folder.is_dir():
            return []
        found = [place.read_bytes().partition(b"\n") for place in self._folder.glob("[!.]*")]
        return [(path.decode(), data) for path, _, data in found]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 so that readers see all of it or what was there before; its folder is made."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, data)
