"""The latency chart is drawn by one command: a tiny run of it, on real Envoys and a real mixer."""

from __future__ import annotations

import csv
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("loads")  # one after the other: loads disturb each other

ROOT = Path(__file__).parents[2]
MODES = ("handwritten-both", "nomixer-both", "both-sidecars")


def test_a_tiny_run_writes_rows_chart_and_page(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/latency.py", "--seconds", "0.5", "--rounds", "1", "--connections", "2,4"]
    command += ["--rate", "50", "--modes", ",".join(MODES), "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [(row["mode"], row["connections"]) for row in rows] == [(m, n) for n in "24" for m in MODES]
    assert all(int(row["answered"]) > 0 and row["errors"] == "0" for row in rows)
    lines = ET.parse(tmp_path / "chart.svg").findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3 * len(MODES)
    page = (tmp_path / "README.md").read_text()
    assert all(f"| `{mode}` |" in page for mode in MODES)
    assert "within 10 %" in page
