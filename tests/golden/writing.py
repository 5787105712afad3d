"""Brings a folder of golden files to what the cases give now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def rewrite_folder(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write every file that differs and remove those of no case; gives what changed. ``texts`` is by a case's name."""
    folder.mkdir(exist_ok=True)
    changed = [path for path in folder.glob("*.json") if path.stem not in texts]
    for path in changed:
        path.unlink()
    for case, text in texts.items():
        path = folder / f"{case}.json"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed
