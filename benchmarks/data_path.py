"""What Lateen's own sidecars cost: beside hand-written ones with the least that does the work, in one interleaved run.

    python benchmarks/data_path.py --rate 1000 --connections 4

Direct, one sidecar, two sidecars with mutual TLS, each hand-written and as Lateen configures it: routes, identity
checks, telemetry, access log and all. The load is open-loop (see ``load.py``). The last lines are ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator

from benchmarks.handwritten import Measured, Way, measure, paths
from benchmarks.load import Load
from benchmarks.sidecars import Sidecars

NAMES = ("direct", "one sidecar", "two sidecars")


@contextlib.contextmanager
def mesh_paths(size: int, log: str) -> Iterator[dict[str, Way]]:
    """The same two ways through sidecars as Lateen configures them."""
    sidecars = Sidecars(size, log)
    with sidecars.way(both=False) as one, sidecars.way(both=True) as two:
        yield {"lateen one sidecar": Way(one.url, one.sidecars), "lateen two sidecars": Way(two.url, two.sidecars)}


def ratios(results: dict[str, Measured]) -> dict[str, dict[str, float]]:
    """Lateen's figures over the hand-written ones, for each way through sidecars."""
    found: dict[str, dict[str, float]] = {}
    for name in NAMES[1:]:
        ours, theirs = results[f"lateen {name}"].summary(), results[name].summary()
        found[name] = {
            key: round(ours["latency_ms"][key] / theirs["latency_ms"][key], 3)  # type: ignore[index]
            for key in ("p50", "p90", "p99")
        }
        found[name]["rate"] = round(float(ours["rate"]) / float(theirs["rate"]), 3)  # type: ignore[arg-type]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Latency of Lateen's sidecars beside hand-written ones.")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second; 0: closed loop (1000)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round (5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a response (1024)")
    parser.add_argument("--access-log", default="/dev/null", help="where the sidecars log; empty for no log")
    options = parser.parse_args()
    load = Load("", rate=options.rate, duration=options.seconds, connections=options.connections, warmup=0.5)
    with paths(options.size) as theirs, mesh_paths(options.size, options.access_log) as ours:
        results = measure({**theirs, **ours}, load, options.rounds)
    json.dump({name: measured.summary() for name, measured in results.items()}, sys.stdout, indent=2)
    print()
    json.dump({"lateen over hand-written": ratios(results)}, sys.stdout, indent=2)
    print()
    return 1 if any(measured.result.errors for measured in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
