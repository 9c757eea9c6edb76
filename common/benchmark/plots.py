"""The benchmark's plots, as SVG: bars with intervals, curves over label fraction or degradation, reliability."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from common.benchmark.cells import DEGRADED, OWN
from common.benchmark.report import DEGRADE_WORDS
from common.benchmark.results import Filled, Line

# Okabe and Ito's colours, told apart by everybody
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_KINDS = (("micro", "micro", "#0072b2"), ("per_image", "per image", "#e69f00"))


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    # the same numbers give the same bytes; words stay words
    matplotlib.rcParams |= {"svg.hashsalt": "chest-refseg", "svg.fonttype": "none", "font.size": 9}
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def bars(filled: Filled) -> str:
    """Both definitions of Dice of each line, with their intervals."""
    lines = filled.scored
    figure, axes = _figure(7.5, 1.2 + 0.42 * len(lines))
    for at, (key, word, colour) in enumerate(_KINDS):
        found = [line.summary()["dice"][key] for line in lines]
        values = [100 * s["value"] for s in found]
        ends = [
            [max(0.0, v - 100 * s["low"]) for v, s in zip(values, found, strict=True)],
            [max(0.0, 100 * s["high"] - v) for v, s in zip(values, found, strict=True)],
        ]
        places = [number + 0.38 * (at - 0.5) for number in range(len(lines))]
        axes.barh(places, values, 0.36, xerr=ends, color=colour, label=word, error_kw={"lw": 1, "capsize": 2})
    axes.set_yticks(range(len(lines)), [line.row.name for line in lines])
    axes.invert_yaxis()
    axes.set_xlabel("Dice, % (95 % interval over subjects)")
    axes.set_xlim(0, 100)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return _svg(figure)


def curve(filled: Filled) -> str | None:
    """Micro Dice over the share of masks, or over the degradations; None where there is nothing to join."""
    points = _over_fraction(filled) if filled.table.curve == "fraction" else _over_degradation(filled)
    points = {name: line for name, line in points.items() if len(line) > 1}
    if not points:
        return None
    figure, axes = _figure(7.5, 3.4)
    for number, (name, line) in enumerate(points.items()):
        x, y, low, high = zip(*line, strict=True)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(x, y, marker="o", color=colour, label=name, ls="-" if number < len(COLOURS) else "--")
        axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    if filled.table.curve == "fraction":
        axes.set_xscale("log")
        ticks = sorted({x for line in points.values() for x, *_ in line})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("masks, % of the training images")
    axes.set_ylabel("Dice micro, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure)


def _point(x: Any, summary: Mapping[str, Any]) -> tuple[Any, float, float, float]:
    found = summary["dice"]["micro"]
    return x, 100 * found["value"], 100 * found["low"], 100 * found["high"]


def _over_fraction(filled: Filled) -> dict[str, list[tuple[Any, float, float, float]]]:
    found: dict[str, list[tuple[Any, float, float, float]]] = {}
    for line in sorted(filled.scored, key=lambda one: one.row.fraction):
        name = line.row.name.rpartition(",")[0]
        found.setdefault(name, []).append(_point(100 * line.row.fraction, line.summary()))
    return found


def _over_degradation(filled: Filled) -> dict[str, list[tuple[Any, float, float, float]]]:
    found = {}
    for line in filled.scored:
        held = [(name, line.summary(name)) for name in (OWN, *DEGRADED)]
        found[line.row.name] = [_point(DEGRADE_WORDS[name], summary) for name, summary in held if summary]
    return found


def reliability(lines: Sequence[Line]) -> str | None:
    """Share of lesion pixels against predicted probability, of each line's first scored seed; None without any."""
    held = {
        line.row.name: each[0]["reliability"] for line in lines if (each := line.each()) and each[0].get("reliability")
    }
    if not held:
        return None
    figure, axes = _figure(5.5, 4.2)
    axes.plot([0, 1], [0, 1], color="#999", lw=1, ls=":")
    for number, (name, found) in enumerate(held.items()):
        pairs = [
            pair for pair in zip(found["probability"], found["lesion"], strict=True) if None not in pair
        ]  # fmt: skip
        unsure = found["error_unsure"]
        words = f"{name}: error {100 * found['error']:.1f} %" + (f", unsure {100 * unsure:.1f} %" if unsure else "")
        axes.plot(
            *zip(*pairs, strict=True), marker=".", color=COLOURS[number % len(COLOURS)], label=words,
            ls="-" if number < len(COLOURS) else "--",
        )  # fmt: skip
    axes.set_xlabel("predicted probability of lesion")
    axes.set_ylabel("share of lesion pixels")
    axes.set_aspect("equal")
    axes.legend(fontsize=7, loc="upper left")
    return _svg(figure)
