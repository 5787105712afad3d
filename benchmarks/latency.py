"""What sidecars and Mixer add to a request: the chart of docs/reference/latency, drawn anew.

    python benchmarks/latency.py                 # make benchmark-latency: all of it, ten minutes
    python benchmarks/latency.py --quick         # two minutes, to look at; nothing in docs/ is touched

Ways to one server, through its own sidecar or through both with mutual TLS, as a hand-written Envoy configuration has
them, as Lateen does, and with rules of Mixer. The rate is set in advance, latency counts from the time a request is due
(``load.py``), and the ways take turns, so that a slow spell of the machine meets them all. Each run is a row of
``rows.csv``; the page and the chart are made of the rows alone.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.handwritten import paths
from benchmarks.latency_page import page
from benchmarks.line_chart import Line, Panel, chart
from benchmarks.load import Load, run
from benchmarks.sidecars import Sidecars, Ways
from benchmarks.upstream import cpu_seconds

FOLDER = Path(__file__).parents[1] / "docs" / "reference" / "latency"
AGENT = "benchmark"
DENIER = """
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: nobody}
spec: {compiledAdapter: denier}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: nothing}
spec: {compiledTemplate: checknothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: deny}
spec: {match: 'request.headers["x-user"] == "mallory"', actions: [{handler: nobody, instances: [nothing]}]}
"""
CHECKS = f"""
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: agents}}
spec: {{compiledAdapter: listchecker, params: {{overrides: [{AGENT}]}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: agent}}
spec: {{compiledTemplate: listentry, params: {{value: request.useragent | "none"}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: checks}}
spec: {{actions: [{{handler: agents, instances: [agent]}}]}}
"""
REPORTS = """
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: metrics}
spec:
  compiledAdapter: prometheus
  params: {metrics: [{name: seen, instanceName: seen.default, kind: COUNTER, labelNames: [code, from]}]}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: seen}
spec:
  compiledTemplate: metric
  params: {value: "1", dimensions: {code: response.code | 0, from: source.principal | "unknown"}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: reports}
spec: {actions: [{handler: metrics, instances: [seen]}]}
"""


class Mode(NamedTuple):
    """One way. ``rules`` None: not Lateen's, but one of ``BY_HAND``."""

    name: str
    sidecars: int
    rules: str | None
    what: str


MODES = (
    Mode("baseline", 0, None, "straight to the server"),
    Mode("handwritten-server", 1, None, "the server's sidecar, written by hand: a listener, a route, a cluster"),
    Mode("nomixer-server", 1, "", "the server's sidecar as Lateen has it, no rules of Mixer"),
    Mode("server-sidecar", 1, CHECKS + REPORTS, "the same with a rule that asks Mixer and one that reports to it"),
    Mode("handwritten-both", 2, None, "both sidecars with mutual TLS, written by hand"),
    Mode("handwritten-log-both", 2, None, "the same with a log of requests, in Istio's fields"),
    Mode("nomixer-both", 2, "", "both sidecars as Lateen has them, no rules of Mixer"),
    Mode("compiled-both", 2, DENIER, "the same with a rule that is compiled into the proxy"),
    Mode("checks-both", 2, CHECKS, "the same with a rule that asks Mixer; answers are kept in the proxy"),
    Mode("reports-both", 2, REPORTS, "the same with a rule that reports to Mixer"),
    Mode("both-sidecars", 2, CHECKS + REPORTS, "the same with a rule that asks and one that reports"),
)
BY_HAND = {
    "baseline": "direct",
    "handwritten-server": "one sidecar",
    "handwritten-both": "two sidecars",
    "handwritten-log-both": "two that log",
}
"""Ways of ``handwritten.paths``."""
COLUMNS = (
    "round", "mode", "connections", "rate", "answered", "errors", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "lag_p99_ms",
    "sidecars_cpu_us", "mixer_cpu_us", "sidecars_mb", "mixer_mb", "load_before",
)  # fmt: skip
Row = dict[str, str]


@contextlib.contextmanager
def ways(modes: Sequence[Mode], size: int, log: str) -> Iterator[dict[str, Ways]]:
    """Everything up and running, by the name of the mode."""
    with contextlib.ExitStack() as stack:
        known = stack.enter_context(paths(size, log=log or os.devnull))
        sidecars = Sidecars(size, log)
        found = {}
        for mode in modes:
            if mode.rules is None:
                found[mode.name] = Ways(known[BY_HAND[mode.name]].url, known[BY_HAND[mode.name]].sidecars)
            else:
                found[mode.name] = stack.enter_context(sidecars.way(both=mode.sidecars == 2, rules=mode.rules))
        yield found


def measured(way: Ways, load: Load) -> Row:
    """One run."""
    before, mixer_before, busy = _cpu(way.sidecars), _cpu(_mixer(way)), os.getloadavg()[0]
    result = run(load._replace(url=way.url))
    summary = result.summary()
    latency, lag = summary["latency_ms"], summary["lag_ms"]
    each = 1e6 / max(1, result.answered)
    figures: dict[str, object] = {
        "connections": load.connections,
        "rate": load.rate,
        "answered": result.answered,
        "errors": sum(result.errors.values()),
        **{f"{name}_ms": latency.get(name, "") for name in ("p50", "p90", "p99", "mean")},  # type: ignore[attr-defined]
        "lag_p99_ms": lag.get("p99", ""),  # type: ignore[attr-defined]
        "sidecars_cpu_us": round((_cpu(way.sidecars) - before) * each, 1),
        "mixer_cpu_us": round((_cpu(_mixer(way)) - mixer_before) * each, 1),
        "sidecars_mb": round(_memory(way.sidecars), 1),
        "mixer_mb": round(_memory(_mixer(way)), 1),
        "load_before": round(busy, 2),
    }
    return {name: str(value) for name, value in figures.items()}


def _mixer(way: Ways) -> tuple[int, ...]:
    return () if way.mixer is None else (way.mixer,)


def _cpu(pids: Iterable[int]) -> float:
    return sum(map(cpu_seconds, pids))


def _memory(pids: Iterable[int]) -> float:
    """Resident memory, in MB."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def medians(rows: Iterable[Mapping[str, str]], column: str) -> dict[str, dict[int, float]]:
    """By mode and connections, the median of the rounds."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row[column]:
            at = found.setdefault(row["mode"], {}).setdefault(int(row["connections"]), [])
            at.append(float(row[column]))
    return {mode: {at: statistics.median(values) for at, values in by.items()} for mode, by in found.items()}


def drawn(rows: Sequence[Mapping[str, str]]) -> str:
    """The chart as SVG: a panel for each percentile."""
    order = [mode.name for mode in MODES]
    panels = []
    for percentile in ("p50", "p90", "p99"):
        found = medians(rows, f"{percentile}_ms")
        lines = [Line(name, sorted(found[name].items())) for name in order if name in found]
        panels.append(Panel(f"{percentile} in ms", lines))
    return chart("Latency by connections", "connections", panels)


def written(folder: Path, rows: Sequence[Row]) -> None:
    """Rows, chart and page."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "chart.svg").write_text(drawn(rows))
    columns = ("p50_ms", "p90_ms", "p99_ms", "sidecars_cpu_us", "mixer_cpu_us", "sidecars_mb", "mixer_mb")
    names = [(mode.name, mode.what) for mode in MODES]
    (folder / "README.md").write_text(page(names, {name: medians(rows, name) for name in columns}, rows))


def main() -> int:
    parser = argparse.ArgumentParser(description="What sidecars and Mixer add to a request.")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second (500)")
    parser.add_argument("--connections", default="2,4,8,16,32,64")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (3)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a response (1024)")
    parser.add_argument("--modes", default=",".join(mode.name for mode in MODES))
    parser.add_argument("--access-log", default="/dev/null", help="where the sidecars log; empty for no log")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where rows, chart and page go")
    parser.add_argument("--quick", action="store_true", help="a short run, into a folder of its own")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds, options.connections = 1.5, 1, "2,16,64"
        options.folder = Path(tempfile.mkdtemp(prefix="lateen-latency-"))
    wanted = options.modes.split(",")
    modes = [mode for mode in MODES if mode.name in wanted]
    if len(modes) != len(set(wanted)):
        parser.error(f"the modes are {', '.join(mode.name for mode in MODES)}")
    rows: list[Row] = []
    with ways(modes, options.size, options.access_log) as running:
        for number in range(options.rounds):
            for connections in map(int, options.connections.split(",")):
                load = Load("", options.rate, options.seconds, connections, min(0.5, options.seconds / 4))
                load = load._replace(headers=(f"User-Agent: {AGENT}",))
                for name, way in running.items():
                    row = {"round": str(number), "mode": name, **measured(way, load)}
                    rows.append(row)
                    print(" ".join(row[column] for column in COLUMNS), flush=True)
    written(options.folder, rows)
    print(f"rows, chart and page: {options.folder}")
    return 1 if any(int(row["errors"]) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
