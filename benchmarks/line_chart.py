"""A chart of lines as SVG, with a panel for each quantity: x grows by doubling, y begins at 0.

Comes in: lines as points. Goes out: a document without scripts, fonts or anything from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 34, 40
LEGEND_ROW, LEGEND_COLUMNS = 20, 3
TICKS = 5
COLOURS = (
    "#7f7f7f", "#8c564b", "#1f77b4", "#17becf", "#bcbd22", "#2ca02c", "#9467bd", "#ff7f0e", "#e377c2", "#d62728",
)  # fmt: skip
DASHES = ("", "6 3", "2 2")


class Line(NamedTuple):
    name: str
    points: Sequence[tuple[int, float]]


class Panel(NamedTuple):
    title: str
    lines: Sequence[Line]


def chart(title: str, x_title: str, panels: Sequence[Panel]) -> str:
    """The panels side by side, and one legend below them."""
    names = [line.name for line in panels[0].lines]
    rows = math.ceil(len(names) / LEGEND_COLUMNS)
    width, height = WIDTH * len(panels), HEIGHT + 16 + LEGEND_ROW * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * WIDTH} 0)">{_panel(panel, names, x_title)}</g>')
    step = width // LEGEND_COLUMNS
    for index, name in enumerate(names):
        x, y = LEFT + (index % LEGEND_COLUMNS) * step, HEIGHT + 12 + LEGEND_ROW * (index // LEGEND_COLUMNS)
        parts.append(f'<line x1="{x}" y1="{y}" x2="{x + 30}" y2="{y}" {_stroke(index)}/>')
        parts.append(f'<text x="{x + 38}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, names: Sequence[str], x_title: str) -> str:
    points = [point for line in panel.lines for point in line.points]
    places = sorted({x for x, _ in points})
    top = _round_up(max(y for _, y in points))

    def across(x: int) -> float:
        span = math.log2(places[-1] / places[0]) or 1.0
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log2(x / places[0]) / span

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top

    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{escape(panel.title)}</text>']
    for tick in range(TICKS + 1):
        y = top * tick / TICKS
        parts.append(f'<line x1="{LEFT}" y1="{up(y):.1f}" x2="{WIDTH - RIGHT}" y2="{up(y):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    bottom = HEIGHT - BOTTOM + 16
    parts.extend(f'<text x="{across(x):.1f}" y="{bottom}" text-anchor="middle">{x}</text>' for x in places)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    for line in panel.lines:
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        index = names.index(line.name)
        parts.append(f'<polyline points="{path}" fill="none" {_stroke(index)}/>')
        colour = COLOURS[index % len(COLOURS)]
        parts.extend(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.5" fill="{colour}"/>' for x, y in line.points)
    return "".join(parts)


def _stroke(index: int) -> str:
    dash = DASHES[index % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="2"{dashes}'


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)
