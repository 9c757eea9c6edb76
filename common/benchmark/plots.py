"""The benchmark's plots, as SVG: bars with intervals, curves over label fraction or degradation, reliability."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from common.benchmark.cells import DEGRADED, OWN
from common.benchmark.report import DEGRADE_WORDS
from common.benchmark.results import Filled, Line

# Okabe and Ito's colours, told apart by everybody
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_KINDS = (("micro", "micro", "#0072b2"), ("per_image", "per image", "#e69f00"))


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    # the same numbers give the same bytes; words stay words
    matplotlib.rcParams |= {
        "svg.hashsalt": "chest-refseg", "svg.fonttype": "none", "font.size": 9,
        "text.parse_math": False,  # a "$" in a row's name is one
    }  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def bars(filled: Filled) -> str:
    """Both definitions of Dice of each line, with their 95 % intervals over subjects."""
    lines = filled.scored
    figure, axes = _figure(7.5, 1.2 + 0.46 * len(lines))
    for at, (key, word, colour) in enumerate(_KINDS):
        found = [line.summary()["dice"][key] for line in lines]
        values = [100 * s["value"] for s in found]
        ends = [
            [max(0.0, v - 100 * s["low"]) for v, s in zip(values, found, strict=True)],
            [max(0.0, 100 * s["high"] - v) for v, s in zip(values, found, strict=True)],
        ]
        places = [number + 0.38 * (at - 0.5) for number in range(len(lines))]
        axes.barh(places, values, 0.36, xerr=ends, color=colour, label=word, error_kw={"lw": 1, "capsize": 2})
    axes.set_yticks(range(len(lines)), [textwrap.fill(line.row.name, 34) for line in lines])
    axes.invert_yaxis()
    axes.set_xlabel("Dice, %")
    axes.set_xlim(0, 100)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return _svg(figure)


def curve(filled: Filled) -> str | None:
    """Micro Dice over the share of masks, or over the degradations; None where there is nothing to join."""
    if filled.table.curve == "fraction":
        parts = [_over_fraction(filled)]
    else:  # each kind of its own: no line leads from noise to blur
        kinds = dict.fromkeys(name.rstrip("0123456789") for name in DEGRADED)
        parts = [_over_degradation(filled, kind) for kind in kinds]
    parts = [{name: line for name, line in part.items() if len(line) > 1} for part in parts]
    parts = [part for part in parts if part]
    if not parts:
        return None
    figure, found = _figure(7.5, 3.8, len(parts))
    places = [found] if len(parts) == 1 else list(found)
    names = list(dict.fromkeys(name for part in parts for name in part))
    for axes, part in zip(places, parts, strict=True):
        for name, line in part.items():
            x, y, low, high = zip(*line, strict=True)
            number = names.index(name)
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(x, y, marker="o", color=colour, label=name, ls="-" if number < len(COLOURS) else "--")
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
        if filled.table.curve == "fraction":
            axes.set_xscale("log")
            ticks = sorted({x for line in part.values() for x, *_ in line})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel("masks, % of the training images")
        axes.grid(alpha=0.3)
    places[0].set_ylabel("Dice micro, %")
    drawn = {label: line for axes in places for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return _svg(figure)


def _point(x: Any, summary: Mapping[str, Any]) -> tuple[Any, float, float, float]:
    found = summary["dice"]["micro"]
    return x, 100 * found["value"], 100 * found["low"], 100 * found["high"]


def _over_fraction(filled: Filled) -> dict[str, list[tuple[Any, float, float, float]]]:
    """Lines that differ in the share of masks alone are points of one curve."""
    found: dict[str, list[tuple[Any, float, float, float]]] = {}
    names: dict[str, str] = {}
    for line in sorted(filled.scored, key=lambda one: one.row.fraction):
        row = line.row
        override = {key: value for key, value in row.override.items() if key not in ("fraction", "draw")}
        method = json.dumps([row.bundle, row.overlays, override, row.stage_one], sort_keys=True, default=dict)
        if method not in names:
            short = row.name.rpartition(",")[0]  # "SSA, 15 %"
            names[method] = short if short and short not in names.values() else row.name
        name = names[method]
        found.setdefault(name, []).append(_point(100 * row.fraction, line.summary()))
    return found


def _over_degradation(filled: Filled, kind: str) -> dict[str, list[tuple[Any, float, float, float]]]:
    found = {}
    shown = (OWN, *(name for name in DEGRADED if name.startswith(kind)))
    for line in filled.scored:
        same = line.of_same_seeds((OWN, *DEGRADED))
        held = [(name, same.summary(name)) for name in shown]
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
