"""The safety verdict on a mask: ok, a note, or a reason why somebody has to look at it.

What is compared is the mask with its sentence, with its picture and with what masks are like; pure NumPy.

Thresholds were tuned on QaTa-COV19's 5,716 training rows; the figures are of its 1,429 validation rows (one sentence is
not understood), at the ground-truth masks. ``python -m tools measure-verdict`` prints them.

*False alarms*: 41 of 1,428 true sentences get any reason for a review (2.9 %; training rows 2.6 %). 16 of them name the
side opposite to their lesions: real contradictions in the data, counted as false alarms all the same. 23 name both
sides and fit exchanged sides better, one is outside, one picture looks turned.

*Catches*: a sentence is replaced by its mirror image. 614 sentences name the same on both sides: they are their own
mirror image, there is nothing to catch, and they are not counted. Of the other 814 are caught 776 (95.3 %; training
rows 95.9 %): of those that name one side 406 of 421 (96.4 %; the rest contradicts its mask as it is), of those that
name both sides 370 of 393 (94.1 %).

*What is hardly caught*: upper and lower exchanged (36 %). The named zones hold only two thirds of the lesions of true
sentences, so that only what lies a quarter of the height away counts. On CT slices a sentence that names both sides
is never caught: one level a side says too little. Polyps: 73 of 100 mirrored positions, 1 % false alarms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from common.errors import UserError
from common.images.sides import plane, sides_unknown
from common.prompts import Findings
from common.prompts.zones import SPECK, table

from . import mirror
from .upright import turned

# the word before the colon of a reason for a review -> what it means
REASONS = {
    "other side": "most of the mask is on a side that the sentence does not name",
    "exchanged": "the mask fits the sentence with left and right exchanged better",
    "outside": "most of the mask is far from the zones that the sentence names",
    "unnamed": "the sentence names no lesion, the mask shows one",
    "empty": "the sentence names a lesion, the mask shows none",
    "large": "more is marked than lesions take up",
    "turned": "the picture does not stand as its tags, or its display, say",
}
# half of a picture as displayed -> the patient's side
_PATIENT = {"left": "patient right", "right": "patient left"}
_OTHER = {"left": "right", "right": "left"}
# share of the mask on the side that is not named
_OTHER_SIDE = 0.5
# share of the picture by grammar, and of a half of the chest; the largest of 900 polyps of Kvasir-SEG has 81 %
_LARGE, _LARGE_HALF = {"chest": 0.45, "polyp": 0.85}, 0.65
# kind of image -> fractions of height and width by which the named zones are grown, share of the mask outside them.
# Zones of axial CT agree too little with true masks (common.prompts.zones).
_OUTSIDE = {"radiograph": (0.25, 0.0, 0.6), "polyp": (0.1, 0.1, 0.8)}
# pixels: a larger mask is thinned to less than twice this
_THINNED = 256
# the planes in which a kind of image has its zones; a file that cannot tell is taken for it
_PLANES = {"radiograph": ("", "frontal"), "axial_ct": ("", "axial"), "polyp": ("", "frontal", "axial", "lateral")}


@dataclass(frozen=True)
class Verdict:
    """What to do with a mask.

    Attributes:
        level: ``"review"``: somebody has to look; ``"note"``: something is to be known; ``"ok"``.
        reasons: one line each, reviews first. Those for a review begin with a key of :data:`REASONS` and a colon.
            Sides are the patient's ("patient left"), or the picture's where nobody knows the patient's.
    """

    level: Literal["ok", "note", "review"]
    reasons: tuple[str, ...] = ()


def verdict(
    mask: np.ndarray,
    findings: Findings | None,
    kind: str,
    meta: Mapping[str, Any],
    picture: np.ndarray | None = None,
) -> Verdict:
    """Judge one mask.

    Args:
        mask: (H, W), true where there is lesion, as displayed.
        findings: of the sentence that was given, in picture sides; None without one. One that was not understood, and
            the default sentence, which was not given, count as None.
        kind: of the bundle's images, a key of :data:`common.prompts.zones.TABLES`.
        meta: the reader's facts about the file.
        picture: (H, W) or (H, W, 3) as displayed, of any range; None leaves its test out.

    Raises:
        UserError: the kind is unknown, the mask is no plane, or the sentence is of another grammar.
    """
    mask = np.asarray(mask)
    mask = mask if mask.dtype == bool else mask > 0
    if mask.ndim != 2 or not mask.size:
        raise UserError(f"mask of shape {mask.shape}: a verdict needs one displayed plane (H, W)")
    # every n-th pixel of a large mask: what is told apart here is far larger
    mask = mask[tuple(slice(None, None, max(1, n // _THINNED)) for n in mask.shape)]
    grammar = table(kind).grammar
    if findings is not None and findings.grammar != grammar:
        raise UserError(f"kind of image {kind!r} has sentences of {grammar!r}, not {findings.grammar!r}")
    fits = plane(meta) in _PLANES[kind]
    unknown = sides_unknown(meta) if grammar == "chest" else ""
    reviews, notes = [], [unknown] if unknown else []
    if findings is not None and findings.understood:
        reviews += _against_nothing(mask, findings)
        if not reviews and mask.any():
            if grammar == "chest" and plane(meta) != "lateral":
                side = _other_side(mask, findings, bool(unknown))
                reviews += side or (_exchanged(mask, findings) if kind == "radiograph" and fits else [])
                notes += _missing_side(mask, findings, bool(unknown))
            if fits and kind in _OUTSIDE:
                reviews += _outside(mask, findings, kind)
    reviews += _large(mask, grammar, bool(unknown))
    if kind == "radiograph" and fits and picture is not None and (position := turned(picture)):
        whose = "its orientation tags say that it is upright" if plane(meta) else "it is taken as displayed"
        reviews.append(f"turned: the picture looks {position}; {whose}")
    return Verdict("review" if reviews else "note" if notes else "ok", (*reviews, *notes))


def _name(side: str, unknown: bool) -> str:
    return f"picture {side}" if unknown else _PATIENT[side]


def _halves(mask: np.ndarray) -> dict[str, np.ndarray]:
    """(H,) share of lesion in each row of the left and of the right half."""
    cut = mask.shape[1] // 2
    return {"left": mask[:, :cut].mean(1) if cut else np.zeros(len(mask)), "right": mask[:, cut:].mean(1)}


def _against_nothing(mask: np.ndarray, findings: Findings) -> list[str]:
    if any(findings.zones):
        return [] if mask.mean() >= SPECK else ["empty: nothing is marked, the sentence names a lesion"]
    return [] if mask.mean() < SPECK else ["unnamed: a lesion is marked, the sentence names none"]


def _other_side(mask: np.ndarray, findings: Findings, unknown: bool) -> list[str]:
    if len(findings.sides) != 1:
        return []
    (named,) = findings.sides
    halves = _halves(mask)
    other = _OTHER[named]
    share = halves[other].sum() / (halves["left"].sum() + halves["right"].sum())
    if share <= _OTHER_SIDE:
        return []
    return [
        f"other side: {share:.0%} of the mask is {_name(other, unknown)}, the sentence names {_name(named, unknown)}"
    ]


def _exchanged(mask: np.ndarray, findings: Findings) -> list[str]:
    if not mirror.tells(findings) or mirror.score(tuple(_halves(mask).values()), findings) >= 0:
        return []
    return ["exchanged: the mask fits the sentence with left and right exchanged better than the sentence"]


def _missing_side(mask: np.ndarray, findings: Findings, unknown: bool) -> list[str]:
    if len(findings.sides) != 2:
        return []
    least = 2 * SPECK  # of a half
    empty = [side for side, rows in _halves(mask).items() if rows.mean() < least]
    return [f"nothing is marked {_name(side, unknown)}, which the sentence names" for side in empty]


def _outside(mask: np.ndarray, findings: Findings, kind: str) -> list[str]:
    """Of a chest image only what lies on a named side is counted: the other side has a reason of its own."""
    zones, (up, across, most) = table(kind), _OUTSIDE[kind]
    rows, columns = ((np.arange(n) + 0.5) / n for n in mask.shape)
    row_cuts, column_cuts = (0.0, *zones.row_cuts, 1.0), (0.0, *zones.column_cuts, 1.0)
    near = np.zeros(mask.shape, bool)
    counted = np.full(mask.shape[1], zones.grammar == "polyp")
    for (row, column), bit in zip(zones.cells, findings.zones, strict=True):
        if bit:
            across_cell = (columns >= column_cuts[column] - across) & (columns < column_cuts[column + 1] + across)
            down_cell = (rows >= row_cuts[row] - up) & (rows < row_cuts[row + 1] + up)
            near |= down_cell[:, None] & across_cell
            counted |= across_cell
    share = (mask & ~near & counted).sum() / mask.sum()
    return [f"outside: {share:.0%} of the mask is far from the zones that the sentence names"] if share > most else []


def _large(mask: np.ndarray, grammar: str, unknown: bool) -> list[str]:
    if (share := mask.mean()) > _LARGE[grammar]:
        return [f"large: {share:.0%} of the picture is marked"]
    if grammar != "chest":
        return []
    return [
        f"large: {rows.mean():.0%} of the half {_name(side, unknown)} is marked"
        for side, rows in _halves(mask).items()
        if rows.mean() > _LARGE_HALF
    ]
