"""Rewrites all golden files: ``python -m tests.golden.rewrite``. Read the diff afterwards.

Each seam is a folder beside this file whose ``golden.py`` has a ``rewrite()`` that returns the paths that changed.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    for found in sorted(Path(__file__).parent.glob("*/golden.py")):
        for path in importlib.import_module(f"tests.golden.{found.parent.name}.golden").rewrite():
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
