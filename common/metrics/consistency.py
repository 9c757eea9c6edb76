"""Does a mask show what the sentence says: sides, zones, number of lesions.

Each quantity is computed for the prediction and for the ground truth: sentences do not describe even the true
mask exactly, so the second is the ceiling of the first and is always printed beside it.
What counts as zone, side and lesion is in :mod:`common.prompts.zones`, also for ``check-data``.
"""

from __future__ import annotations

import numpy as np

from common.errors import UserError
from common.prompts import Findings
from common.prompts.zones import KINDS, count_of_mask, pixels_of_sides, sides_of_mask, table, zones_of_mask

# name -> its title and definition in a table
CONSISTENCY = {
    "laterality": ("sides", "the sides named are the sides that hold lesion"),
    "zone_bits": ("zones, each", "zones both named and shown, or neither"),
    "zones_exact": ("zones, all", "images where all zones agree"),
    "count": ("count", "the number named is the number of 8-connected components"),
    "unnamed_share": ("on a side not named", "share of the mask's pixels; less is better"),
}


def consistency(mask: np.ndarray, findings: Findings, kind: str | None = None) -> dict[str, float | bool | None]:
    """Agreement of one mask with the findings of its sentence.

    Args:
        mask: (H, W) bool, as displayed: the findings' sides are those of the picture.
        findings: of an understood sentence.
        kind: of image, as :mod:`common.prompts.zones` names it; None takes the grammar's usual one.

    Returns:
        ``laterality``: the sides named are the sides that hold lesion, specks not counted;
        ``zone_bits``: share of the zones that are both named and shown, or neither;
        ``zones_exact``: all of them are;
        ``count``: the number named is the number of components, specks not counted; None where the sentence has none;
        ``unnamed_share``: share of the lesion pixels on a side not named, None for an empty mask.
        Polyp sentences name positions and no sides: ``laterality`` and ``unnamed_share`` are None.

    Raises:
        UserError: the kind of image is not one of the sentences' grammar.
    """
    kind = kind or KINDS[findings.grammar]
    if table(kind).grammar != findings.grammar:
        raise UserError(
            f"kind of image {kind!r}: its sentences are of the grammar {table(kind).grammar!r}, "
            f"these of {findings.grammar!r}; give the kind or the grammar of the data set"
        )
    equal = [bool(a) == bool(b) for a, b in zip(findings.zones, zones_of_mask(mask, kind), strict=True)]
    found: dict[str, float | bool | None] = {
        "laterality": None,
        "zone_bits": sum(equal) / len(equal),
        "zones_exact": all(equal),
        "count": None if findings.count is None else count_of_mask(mask) == findings.count,
        "unnamed_share": None,
    }
    if findings.grammar == "chest":
        found["laterality"] = sides_of_mask(mask, kind) == findings.sides
        if mask.any():
            pixels = pixels_of_sides(mask, kind)
            unnamed = sum(n for s, n in pixels.items() if s not in findings.sides)
            found["unnamed_share"] = unnamed / sum(pixels.values())
    return found
