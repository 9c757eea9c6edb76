"""Parts of a training set: label fractions as the papers draw them, and small draws for quick runs."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import UserError

FRACTIONS = (0.01, 0.02, 0.05, 0.10, 0.15, 0.25, 0.50, 1.0)
DRAWS = ("rounded", "sorted")
_PAPER_SEED = 42


def fraction_rows(names: Sequence[str], fraction: float, seed: int = 0, draw: str = "rounded") -> list[int]:
    """Row numbers, in their old order, of the labelled part of a training set.

    Args:
        names: image names in the sheet's order.
        fraction: one of :data:`FRACTIONS`.
        seed: 0 is the papers' draw (``random.Random(42)``); each further seed is another draw.
        draw: ``"rounded"`` shuffles the rows as they stand and takes ``round(n * fraction)``: 57/114/286/572/857/
            1429/2858 of QaTa-COV19's 5,716 at 1/2/5/10/15/25/50 %, 22/44/109/218/327/546/1092 of MosMedData+'s
            2,183. ``"sorted"`` sorts the names first and takes the floor: 21/43/109/218/327/545/1091 of 2,183.
            Draws of one seed are nested.

    Raises:
        UserError: for another fraction, or another draw.

    Source: BiCLIP's Table 2 (both sets at 1, 5, 10, 25 %, rounded); Semi-MedRef's released split script (1, 2, 5 and
    15 %: QaTa-COV19 rounded, MosMedData+ sorted).
    """
    if draw not in DRAWS:
        raise UserError(f"draw: {draw!r} is no way to draw a fraction; use one of {', '.join(DRAWS)}")
    if fraction not in FRACTIONS:
        known = ", ".join(f"{f:g}" for f in FRACTIONS)
        raise UserError(f"fraction: {fraction!r} is none of the label fractions; use one of {known}")
    rows = list(range(len(names)))
    if fraction == 1:
        return rows
    if draw == "sorted":
        rows.sort(key=lambda row: names[row])
        count = math.floor(len(rows) * fraction)
    else:
        count = round(len(rows) * fraction)
    random.Random(_PAPER_SEED + seed).shuffle(rows)
    return sorted(rows[: max(1, count)])


def limit_rows(total: int, limit: int | None, seed: int = 0) -> list[int]:
    """Row numbers, in their old order, of ``limit`` rows drawn without replacement; all if there are fewer.

    Raises:
        UserError: ``limit`` is below 1.
    """
    if limit is None or limit >= total:
        return list(range(total))
    if limit < 1:
        raise UserError(f"limit: {limit} rows cannot be drawn; use 1 or more, or null for all")
    return sorted(random.Random(seed).sample(range(total), limit))


def shared_subjects(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> list[str]:
    """The subjects that have images in both lists of rows, sorted; [] if the two are disjoint.

    Rows are those of :func:`common.datasets.load_dataset`. An image whose name tells no subject counts as one of its
    own there, so that nothing found is no proof for those (``covid_...`` of QaTa-COV19, ``bjorke_...`` of MosMedData+).
    """
    return sorted({str(row["subject"]) for row in one} & {str(row["subject"]) for row in two})
