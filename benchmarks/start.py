"""How long from ``lateen up`` to the first answer through the gateway and two sidecars with mutual TLS.

    python benchmarks/start.py --rounds 5

Each round brings up two services (the feature tests' project) and takes them down. The yardstick of the same run is how
long a bare Envoy with a static file takes to answer: the ratio says what the mesh adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.upstream import direct_response_config, free_port, run_envoy
from tests.features.running import BIN, Mesh


def bare_envoy() -> float:
    """Seconds until one Envoy with a static file accepts."""
    port = free_port()
    started = time.perf_counter()
    with run_envoy(direct_response_config(port), port):
        return time.perf_counter() - started


def whole_mesh(capture: str) -> float:
    """Seconds until a request passes the gateway and two sidecars."""
    with tempfile.TemporaryDirectory(prefix="lb-") as name:
        mesh = Mesh(Path(name), capture)
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(BIN / "lateen"), "up", "--capture", capture],
            cwd=mesh.project,
            env=mesh.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while time.perf_counter() - started < 60:
                try:
                    if mesh.fetch("http://echo:8000/echo").status == 200:
                        return time.perf_counter() - started
                except (OSError, AssertionError):
                    time.sleep(0.01)
            raise RuntimeError("the mesh did not answer within 60 s")
        finally:
            process.terminate()
            process.wait(30)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time from lateen up to the first request over mutual TLS.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--capture", choices=["auto", "namespaces", "loopback"], default="auto")
    options = parser.parse_args()
    bare, mesh = [], []
    for _ in range(options.rounds):
        bare.append(bare_envoy())
        mesh.append(whole_mesh(options.capture))
    figures = {
        "bare_envoy_s": round(statistics.median(bare), 3),
        "first_mtls_answer_s": {"median": round(statistics.median(mesh), 3), "max": round(max(mesh), 3)},
        "ratio": round(statistics.median(mesh) / statistics.median(bare), 1),
    }
    json.dump(figures, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
