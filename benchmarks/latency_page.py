"""The page of the latency chart, made of the rows of a run.

Comes in: medians by mode and connections. Goes out: Markdown, with what the aims were and what came.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence

Medians = Mapping[str, Mapping[int, float]]
AIMS = """
## The aims, and what came

"""
HEAD = """# What sidecars and Mixer add to a request

This page, the chart and `rows.csv` are written by `make benchmark-latency` (ten minutes; nothing else should run). Each
way leads to a server of 1 kB answers, at {rate:g} requests a second, set in advance: latency counts from the time at
which a request is due, whether or not earlier ones are answered, so nothing slow is left out. HTTP/1.1 all the way,
with mutual TLS between two sidecars, one worker a proxy. The ways take turns, {rounds} rounds of {answered} requests
each; figures are medians of the rounds. Generator, server, proxies and mixer share {cores} cores.

![latency by connections](chart.svg)

"""


def page(modes: Sequence[tuple[str, str]], figures: Mapping[str, Medians], rows: Sequence[Mapping[str, str]]) -> str:
    """The whole page. ``modes`` are names and what they mean, in order."""
    present = [(name, what) for name, what in modes if name in figures["p50_ms"]]
    text = HEAD.format(
        rate=float(rows[0]["rate"]),
        rounds=len({row["round"] for row in rows}),
        answered=round(statistics.median(int(row["answered"]) for row in rows)),
        cores=os.cpu_count(),
    )
    text += "".join(f"- `{name}`: {what}.\n" for name, what in present)
    text += "\n" + _table(present, figures) + AIMS + "".join(f"- {line}\n" for line in _aims(figures))
    load = statistics.median(float(row["load_before"]) for row in rows)
    lag = statistics.median(float(row["lag_p99_ms"]) for row in rows)
    return text + (
        f"\nThe generator itself adds {lag:.2f} ms at the 99th percentile (median of all runs). Before a run, the load "
        f"was {load:.1f} (median), most of it the benchmark's own.\n"
    )


def _table(modes: Sequence[tuple[str, str]], figures: Mapping[str, Medians]) -> str:
    """Medians over all numbers of connections."""
    lines = [
        "| | p50 | p90 | p99 | CPU of sidecars, a request | of the mixer | memory of sidecars | of the mixer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, _ in modes:
        cells = [
            *(f"{over_all(figures[column], name):.2f} ms" for column in ("p50_ms", "p90_ms", "p99_ms")),
            *(_or_none(over_all(figures[column], name), "µs") for column in ("sidecars_cpu_us", "mixer_cpu_us")),
            *(_or_none(over_all(figures[column], name), "MB") for column in ("sidecars_mb", "mixer_mb")),
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _or_none(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value else ""


def over_all(medians: Medians, mode: str) -> float:
    """The median over all numbers of connections."""
    return statistics.median(medians[mode].values())


def _aims(figures: Mapping[str, Medians]) -> list[str]:
    found = []
    names = figures["p50_ms"].keys()

    def at(column: str, name: str) -> float:
        return over_all(figures[column], name)

    def over(name: str) -> str:
        columns = (("p50_ms", "p50"), ("p90_ms", "p90"), ("p99_ms", "p99"), ("sidecars_cpu_us", "CPU"))
        return ", ".join(
            f"{what} {at(column, 'nomixer-both') / at(column, name) * 100 - 100:+.0f} %" for column, what in columns
        )

    if {"nomixer-both", "handwritten-both"} <= names:
        found.append(
            f"`nomixer-both` within 10 % of the hand-written one: {over('handwritten-both')}. What it does beyond that "
            "is to tell who called whom: the log and the metrics ([figures](../figures.md#data-path))."
        )
    if {"nomixer-both", "handwritten-log-both"} <= names:
        found.append(f"of the hand-written one that logs: {over('handwritten-log-both')}.")
    if {"nomixer-both", "compiled-both"} <= names:
        found.append(f"compiled rules as none: {_added(figures, 'compiled-both')}.")
    if {"nomixer-both", "checks-both"} <= names:
        found.append(
            f"kept answers at most 1 ms more at p99 (the old Mixer: about 6): {_added(figures, 'checks-both')}."
        )
    if "reports-both" in names:
        cores = at("mixer_cpu_us", "reports-both") * 1000 / 1e6
        found.append(f"reports of 1,000 requests a second at most 0.3 core (the old Mixer: 0.6): {cores:.2f} core.")
    return found


def _added(figures: Mapping[str, Medians], mode: str) -> str:
    return ", ".join(
        f"{name} {over_all(figures[f'{name}_ms'], mode) - over_all(figures[f'{name}_ms'], 'nomixer-both'):+.2f} ms"
        for name in ("p50", "p90", "p99")
    )
