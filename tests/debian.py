"""Programs of Debian's packages that tests need, such as a Redis: the machine's own, or fetched into ``.cache``.

Nothing is installed, and no root is needed: packages are downloaded once and unpacked beside the sources.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).parents[1] / ".cache" / "debian"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib")


class Program(NamedTuple):
    """Where a program is, and the environment that it needs."""

    path: str
    environment: dict[str, str]


def program(name: str, *packages: str) -> Program:
    """A program by its name; ``packages`` are those that have it and its libraries."""
    installed = shutil.which(name)
    if installed:
        return Program(installed, dict(os.environ))
    root = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        if not (root / "complete").exists():
            _fetch(root, packages)
    found = next(path for folder in ("usr/bin", "usr/sbin") if (path := root / folder / name).exists())
    libraries = ":".join(str(root / folder) for folder in LIBRARIES)
    return Program(str(found), {**os.environ, "LD_LIBRARY_PATH": libraries})


def _fetch(root: Path, packages: tuple[str, ...]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    command = ["apt-get", "download", *packages]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    for package in root.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True, timeout=60)
        package.unlink()
    (root / "complete").touch()
