"""Curves of training runs as one SVG: a small plot for each column of their ``history.csv``, a line for each run."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from common.errors import UserError

# Okabe and Ito's colours, told apart by everybody; then the dashes tell them apart
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("", "6 3", "2 2")
_WIDTH, _HEIGHT = 300, 170  # px, of a plot
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 28, 34  # px, around it
_MANY = 3  # plots a row
_LINE = 18  # px, of the legend


def read_history(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's ``history.csv``.

    Raises:
        UserError: there is none.
    """
    path = Path(folder) / "history.csv"
    if not path.is_file():
        raise UserError(f"{path}: is not there; give the --output_dir of a training")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def curves(runs: Mapping[str, Sequence[Mapping[str, str]]], columns: Sequence[str]) -> str:
    """The SVG.

    Args:
        runs: rows of each run by its name; values that are empty are left out.
        columns: of the rows, against ``epoch``. A run without a column has no line in its plot.

    Raises:
        UserError: a column that no run has.
    """
    across = min(_MANY, len(columns))
    down = math.ceil(len(columns) / across)
    width = across * (_LEFT + _WIDTH + _RIGHT)
    height = down * (_TOP + _HEIGHT + _BOTTOM) + _LINE * len(runs) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="{width}" height="{height}" fill="#fff"/>'
    ]
    for number, column in enumerate(columns):
        points = {name: _points(rows, column) for name, rows in runs.items()}
        if not any(points.values()):
            held = sorted({key for rows in runs.values() for row in rows for key in row})
            raise UserError(f"--columns {column}: no run has values of it; there are {', '.join(held)}")
        x, y = number % across * (_LEFT + _WIDTH + _RIGHT), number // across * (_TOP + _HEIGHT + _BOTTOM)
        parts.append(f'<g transform="translate({x + _LEFT},{y + _TOP})">{_plot(column, points)}</g>')
    for number, name in enumerate(runs):
        y = down * (_TOP + _HEIGHT + _BOTTOM) + _LINE * number + 10
        parts.append(f'<path d="M{_LEFT} {y - 4}h28" {_stroke(number)}/><text x="{_LEFT + 36}" y="{y}">')
        parts.append(f"{escape(name)}</text>")
    return "".join([*parts, "</svg>\n"])


def _points(rows: Sequence[Mapping[str, str]], column: str) -> list[tuple[float, float]]:
    """(epoch, value) where there is a value."""
    return [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]


def _stroke(number: int) -> str:
    """How the line of a run is drawn."""
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    return f'fill="none" stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2" stroke-dasharray="{dash}"'


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers that reach from at or below ``low`` to at or above ``high``, at most ``most`` + 1 of them."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _plot(title: str, points: Mapping[str, list[tuple[float, float]]]) -> str:
    """One plot, its corner at the origin."""
    epochs, values = zip(*(point for line in points.values() for point in line), strict=True)
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]
    first, last = min(epochs), max(max(epochs), min(epochs) + 1)

    def place(epoch: float, value: float) -> tuple[float, float]:
        return (epoch - first) / (last - first) * _WIDTH, (high - value) / (high - low) * _HEIGHT

    parts = [f'<text x="0" y="-10" font-weight="bold">{escape(title)}</text>']
    for mark in marks:
        y = place(first, mark)[1]
        parts.append(f'<path d="M0 {y:.1f}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{mark:.4g}</text>')
    for epoch, anchor in ((first, "start"), (last, "end")):
        x = place(epoch, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT + 16}" text-anchor="{anchor}">epoch {epoch:.0f}</text>')
    for number, line in enumerate(points.values()):
        if line:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in line))
            parts.append(f'<path d="M{path}" {_stroke(number)}/>')
    return "".join(parts)
