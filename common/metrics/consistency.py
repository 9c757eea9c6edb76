"""Does a mask show what the sentence says: sides, zones, number of lesions.

Each quantity is computed for the prediction and for the ground truth: sentences do not describe even the true
mask exactly, so the second is the ceiling of the first and is always printed beside it.

``SPECK`` is the least that counts as lesion on a side or as a component: 20 pixels at 224 × 224, in
proportion at other sizes. Measured on ground truth, it agrees best with the sentences of COVID-19 CT slices
(sides 100 %, count 59 %; with 0 or 50 pixels 50 and 44 %) and changes nothing on QaTa-COV19, whose lesions
have 200 or more (sides 98.7 %, count 97.3 %). Kvasir-SEG's sentences count specks of a single pixel (count
85.6 %; 99.4 % with them). Components are 8-connected (4-connected agree less).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

from common.prompts import Findings
from common.prompts.zones import table, zones_of_mask

SPECK = 20 / 224**2  # of the picture's area
KINDS = {"chest": "radiograph", "polyp": "polyp"}  # grammar -> usual kind of image
# name -> its title and definition in a table
CONSISTENCY = {
    "laterality": ("sides", "the sides named are the sides that hold lesion"),
    "zone_bits": ("zones, each", "zones both named and shown, or neither"),
    "zones_exact": ("zones, all", "images where all zones agree"),
    "count": ("count", "the number named is the number of 8-connected components"),
    "unnamed_share": ("on a side not named", "share of the mask's pixels; less is better"),
}


def components(mask: np.ndarray) -> int:
    """Number of 8-connected lesions in a mask (H, W), those below :data:`SPECK` not counted."""
    parts, _ = label(mask, np.ones((3, 3)))
    return int((np.bincount(parts.ravel())[1:] >= SPECK * mask.size).sum())


def consistency(mask: np.ndarray, findings: Findings, kind: str | None = None) -> dict[str, float | bool | None]:
    """Agreement of one mask with the findings of its sentence.

    Args:
        mask: (H, W) bool, as displayed: the findings' sides are those of the picture.
        findings: of an understood sentence.
        kind: of image, as :mod:`common.prompts.zones` names it; None takes the grammar's usual one.

    Returns:
        ``laterality``: the sides named are the sides that hold at least :data:`SPECK` of lesion;
        ``zone_bits``: share of the zones that are both named and shown, or neither;
        ``zones_exact``: all of them are;
        ``count``: the number named is the number of components, None where the sentence has none;
        ``unnamed_share``: share of the lesion pixels on a side not named, None for an empty mask.
        Polyp sentences name positions and no sides: ``laterality`` and ``unnamed_share`` are None.
    """
    kind = kind or KINDS[findings.grammar]
    equal = [bool(a) == bool(b) for a, b in zip(findings.zones, zones_of_mask(mask, kind), strict=True)]
    found: dict[str, float | bool | None] = {
        "laterality": None,
        "zone_bits": sum(equal) / len(equal),
        "zones_exact": all(equal),
        "count": None if findings.count is None else components(mask) == findings.count,
        "unnamed_share": None,
    }
    if findings.grammar == "chest":
        cut = round(table(kind).column_cuts[0] * mask.shape[1])
        pixels = {"left": int(mask[:, :cut].sum()), "right": int(mask[:, cut:].sum())}
        found["laterality"] = {s for s, n in pixels.items() if n >= SPECK * mask.size} == set(findings.sides)
        if mask.any():
            unnamed = sum(n for s, n in pixels.items() if s not in findings.sides)
            found["unnamed_share"] = unnamed / sum(pixels.values())
    return found
