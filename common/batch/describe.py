"""What a row of ``results.csv`` says of a sentence and a mask, and whose sides it speaks of."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.images.sides import plane, sides_unknown
from common.prompts import Findings
from common.prompts.findings import LEVELS
from common.prompts.zones import ZONES, zones_of_mask
from common.runtime.model import Segmentation

from .verdict import verdict

# columns of a picture as displayed -> the patient's side
PATIENT = {"left": "patient right", "right": "patient left"}
# the plane in which the zones of a kind of image mean something; a file that cannot tell is taken for it
_PLANES = {"radiograph": "frontal", "axial_ct": "axial"}
DEFAULT_USED = "no sentence: the default one, which asserts disease everywhere, was used"


def marker(result: Segmentation, grammar: str) -> str:
    """What stands at the left of the picture: "R" where that is known to be the patient's right, else nothing."""
    return "R" if grammar == "chest" and not sides_unknown(result.meta) else ""


def whose_sides(result: Segmentation, grammar: str, laterality: str) -> str:
    """Whose sides the row tells the sentence in: ``"patient"``, or ``"image"`` where the patient's are not known.

    A clinician's sentence stays the patient's whatever the picture shows. Positions of polyps are the picture's.

    Args:
        result: of the image.
        grammar: of the sentence.
        laterality: whose sides the sentence was given in.
    """
    if grammar == "polyp":
        return "image"
    return "patient" if laterality == "patient" or not sides_unknown(result.meta) else "image"


def describe(
    result: Segmentation, grammar: str, kind: str, laterality: str, picture: np.ndarray | None = None
) -> dict[str, Any]:
    """Columns of ``results.csv``.

    Args:
        result: of the image.
        grammar: of the bundle.
        kind: of the bundle's images, a key of :data:`common.prompts.zones.TABLES`.
        laterality: whose sides the sentence was given in; any without one.
        picture: as displayed; None leaves out what the verdict asks of it.
    """
    mask, meta = result.displayed, result.meta
    facts: dict[str, Any] = {
        "prompt_used": result.prompt_used,
        "orientation": meta["orientation"], "orientation_source": meta["orientation_source"],
        "rows": result.mask.shape[0], "columns": result.mask.shape[1], "pixels": int(mask.sum()),
        "share": round(float(mask.mean()), 6),
        "area_mm2": "" if result.area_mm2 is None else round(result.area_mm2, 2),
    }  # fmt: skip
    if not (sides_unknown(meta) and grammar == "chest"):
        shown = Findings(grammar, zones_of_mask(mask, kind))
        if grammar == "chest":
            facts["mask_sides"] = sides(shown, "patient")
        if grammar == "polyp" or plane(meta) in ("", _PLANES[kind]):
            facts["mask_zones"] = zones(shown, "patient")
    findings = result.findings
    given = findings is not None and findings.understood
    found = verdict(mask, findings if given else None, kind, meta, picture)
    notes = list(found.reasons)
    if result.prompt_used == "default":
        notes.append(DEFAULT_USED)
    if given:
        whose = whose_sides(result, grammar, laterality)
        facts |= {
            "understood": findings.caption(whose),
            "understood_laterality": whose,
            "sides_named": zones(findings, whose) if grammar == "polyp" else sides(findings, whose),
        }
        notes += findings.warnings
    elif findings is not None:
        notes.append(f"sentence not understood: {', '.join(findings.unreadable)}; the network got it as it is")
    level = "note" if notes and found.level == "ok" else found.level
    return facts | {"warnings": " | ".join(notes), "verdict": level}


def sides(findings: Findings, whose: str) -> str:
    """Such as "patient left, patient right", or "picture left"."""
    return ", ".join(sorted(PATIENT[side] if whose == "patient" else f"picture {side}" for side in findings.sides))


def zones(findings: Findings, whose: str) -> str:
    """Such as "patient left lower"; of polyps, whose positions are always the picture's, "picture top left"."""
    named = [place for place, bit in enumerate(findings.zones) if bit]
    if findings.grammar == "polyp":
        return ", ".join(f"picture {ZONES['polyp'][place]}" for place in named)
    words = []
    for place in named:
        side = ("left", "right")[place // len(LEVELS)]
        words.append(f"{PATIENT[side] if whose == 'patient' else f'picture {side}'} {LEVELS[place % len(LEVELS)]}")
    return ", ".join(words)
