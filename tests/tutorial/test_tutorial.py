"""The tutorial of the book shop, walked from its first command to its last in a copy of the example."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tutorial.walk import parse, report, walk

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "bookinfo.md"
EXAMPLE = ROOT / "examples" / "bookinfo"
GATEWAY_PORT = "8080"


@pytest.fixture
def port() -> str:
    """A free port to stand for the one that the tutorial names, so that a running demo does not matter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(params=["auto", "loopback"])
def workshop(request: pytest.FixtureRequest, port: str) -> Iterator[Path]:
    """A folder with a copy of the example on ``port``; its mesh is taken down at the end, whatever happened.

    Walked twice: with the capture that suits this machine, and with the one that suits every machine.
    """
    with tempfile.TemporaryDirectory(prefix="lateen-") as name:
        folder = Path(name)
        copy = folder / "examples" / "bookinfo"
        shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for file in (copy / "lateen.yaml", copy / "mesh" / "gateway.yaml"):
            file.write_text(file.read_text().replace(GATEWAY_PORT, port))
        with (copy / "lateen.yaml").open("a") as project:
            project.write(f"\nmesh: {{capture: {request.param}}}\n")
        (folder / "run").mkdir(mode=0o700)
        yield folder
        subprocess.run(
            ["lateen", "down"], cwd=copy, env=environment(folder), stdout=subprocess.DEVNULL, timeout=60, check=False
        )


def environment(folder: Path) -> dict[str, str]:
    """The tests' own Python first in the path, and a run directory of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(folder / "run")}


@pytest.mark.mesh
@pytest.mark.xdist_group("mesh")
@pytest.mark.timeout(400)
def test_bookinfo(workshop: Path, port: str) -> None:
    steps = parse(TUTORIAL.read_text().replace(GATEWAY_PORT, port))
    assert len(steps) > 40
    for outcome in walk(steps, workshop, environment(workshop)):
        print(report(outcome), end="\n\n")
        assert not outcome.problem, report(outcome)
