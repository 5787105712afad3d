"""What holds for every test: Lateen is compiled once, not by each of the hundreds of processes that tests start."""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
