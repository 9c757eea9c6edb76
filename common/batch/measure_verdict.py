"""How often the verdict is given, and how often rightly: figures and fits, from images, masks and true sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from common.images import display_array
from common.prompts import Findings, parse
from common.prompts.findings import Grammar

from . import mirror, upright
from .verdict import verdict

# as a PNG is read: nothing is known, and it is taken as displayed
PLAIN = {"orientation": "", "view": "", "format": "raster"}
# what may be wrong with a picture of greys from 0 to 1, and what is to be told of it
TURNS = {
    "upside down": (lambda picture: picture[::-1], "upside down"),
    "turned on one side": (lambda picture: picture.swapaxes(0, 1), "sideways"),
    "turned on the other": (lambda picture: picture.swapaxes(0, 1)[::-1], "sideways"),
    "inverted": (lambda picture: 1 - picture, upright.INVERTED),
}


def _read(items: Iterable[Mapping[str, Any]], grammar: Grammar) -> Iterable[tuple[np.ndarray, np.ndarray, Findings]]:
    """Picture, mask and findings of each row; only the understood sentences."""
    for item in items:
        findings = parse(item["text_prompt"], item["laterality"], grammar)
        if findings.understood:
            yield display_array(item["image"]), display_array(item["label"]) > 0.5, findings


def measure(items: Iterable[Mapping[str, Any]], kind: str, grammar: Grammar) -> dict[str, Any]:
    """Count verdicts at the ground-truth masks.

    Args:
        items: rows of a data set.
        kind: of its images.
        grammar: of its sentences.

    Returns:
        ``rows``: understood sentences; ``false_alarms``: those with a verdict of review, ``false_reasons``: how many
        for each reason (a row may have several), ``notes``: those with a note;
        ``mirrored``: (caught, counted) of sentences whose mirror image is another sentence, replaced by it, with a
        verdict of review; ``mirrored_one_side`` and ``mirrored_both``: the same, by the sides that they name;
        ``levels``: (caught, counted) with upper and lower exchanged where that is another sentence (chest only);
        ``turns``: for each turn of the picture, the share that is told as that (radiographs only).
    """
    reasons: Counter[str] = Counter()
    caught: dict[str, list[bool]] = {"mirrored": [], "mirrored_one_side": [], "mirrored_both": [], "levels": []}
    turns: dict[str, list[bool]] = {name: [] for name in TURNS} if kind == "radiograph" else {}
    rows = alarms = notes = 0
    for picture, mask, findings in _read(items, grammar):
        rows += 1
        true = verdict(mask, findings, kind, PLAIN, picture)
        alarms += true.level == "review"
        notes += true.level == "note"
        if true.level == "review":
            reasons.update(line.split(":")[0] for line in true.reasons if ":" in line)

        def review(said: Findings, mask: np.ndarray = mask) -> bool:
            # without the picture: being turned is no catch of a sentence
            return verdict(mask, said, kind, PLAIN).level == "review"

        if findings.mirrored().zones != findings.zones:
            found = review(findings.mirrored())
            caught["mirrored"].append(found)
            caught["mirrored_one_side" if len(findings.sides) == 1 else "mirrored_both"].append(found)
        if grammar == "chest":
            zones = tuple(findings.zones[place] for place in (2, 1, 0, 5, 4, 3))
            if zones != findings.zones:
                caught["levels"].append(review(Findings(grammar, zones)))
        for name, told in turns.items():
            turn, right = TURNS[name]
            told.append(upright.turned(turn(picture)) == right)
    return {
        "rows": rows,
        "false_alarms": alarms,
        "false_reasons": dict(reasons),
        "notes": notes,
        **{name: (sum(found), len(found)) for name, found in caught.items()},
        "turns": {name: float(np.mean(told)) for name, told in turns.items()},
    }


def fit(items: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of :mod:`.mirror` and :mod:`.upright`, from radiographs as displayed and their true sentences.

    Returns:
        The weights, (3, 9), with one decimal; the template's left columns, (7, 4), whole numbers from -9 to 9.
    """
    pictures, pairs = [], []
    for picture, mask, findings in _read(items, "chest"):
        pictures.append(upright.ranks(picture))
        cut = mask.shape[1] // 2
        pairs.append(((mask[:, :cut].mean(1), mask[:, cut:].mean(1)), findings))
    mean = np.mean(pictures, 0)
    mean = mean + mean[:, ::-1]
    template = np.round(9 * mean / np.abs(mean).max()).astype(int)
    return mirror.fit(pairs).round(1), template[:, : upright.CELLS // 2 + 1]


def lines(found: Mapping[str, Any]) -> list[str]:
    """What :func:`measure` found, a line each, to print."""

    def share(part: int, whole: int) -> str:
        return f"{part} of {whole} ({part / whole:.2%})" if whole else "none"

    text = [
        f"true sentences: review {share(found['false_alarms'], found['rows'])}, "
        f"note {share(found['notes'], found['rows'])}",
        *(f"  {reason}: {share(count, found['rows'])}" for reason, count in sorted(found["false_reasons"].items())),
        f"mirrored sentences that are another sentence: caught {share(*found['mirrored'])}",
        f"  naming one side: {share(*found['mirrored_one_side'])}",
        f"  naming both sides or none: {share(*found['mirrored_both'])}",
        f"upper and lower exchanged: caught {share(*found['levels'])}",
    ]
    return text + [f"picture {name}: told {told:.2%}" for name, told in found["turns"].items()]
