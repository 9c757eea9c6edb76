"""All numbers about zones: their names, cuts, centres and spreads, one table a grammar and kind of image.

Fractions are of the picture as displayed (row 0 at the top, column 0 at the left), so "left" is the left of
the picture (on a chest image in standard display the patient's right). No other module holds such a number.

Sources. *radiograph*: cuts 75/224, 100/224 and column 112/224 agree with the six bits of QaTa-COV19's captions on
90.2 % of the bits when a zone counts from 200 lesion pixels at 224 × 224 (thirds of the picture: 71 %); centres and
spreads are a ridge regression of the training masks on the bits. *axial_ct*: MosMedData+'s zones are the top, middle
and bottom of the axial picture (median lesion heights 0.37-0.45, 0.65-0.71, 0.89-0.90); the cuts lie half way between.
Its captions name one level a side, that of the bulk of the lesions, so that cells agree with only 66 % of the bits
(27 % of images; 88 slices), and no other cuts do with more than 74 %. *polyp*: the nine positions of the Kvasir-SEG and
CVC-ClinicDB captions are those of the middle of each component's bounding box, specks of a few pixels included; the
cuts agree with 98.1 % of the bits and 91 % of the 900 Kvasir-SEG training images.

*Specks.* :data:`SPECK` is 20 pixels at 224 × 224, in proportion at other sizes. Measured on ground truth, it agrees
best with the sentences of COVID-19 CT slices (sides 100 %, count 59 %; with 0 or 50 pixels 50 and 44 %) and changes
nothing on QaTa-COV19, whose lesions have 200 or more (sides 98.7 %, count 97.3 %). Kvasir-SEG's sentences count specks
of a single pixel (count 85.6 %; 99.4 % with them). Components are 8-connected (4-connected agree less).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from common.errors import UserError

CHEST = ("L-up", "L-mid", "L-low", "R-up", "R-mid", "R-low")
POLYP = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip


@dataclass(frozen=True)
class ZoneTable:
    """The zones of one kind of image.

    Attributes:
        grammar: the grammar whose bits these are, ``"chest"`` or ``"polyp"``.
        names: one name a bit.
        cells: (row band, column band) of each bit.
        row_cuts: fractions of the height between the row bands.
        column_cuts: fractions of the width between the column bands.
        centres: (row, column) of each zone's lesions, fractions.
        sigmas: (row, column) standard deviations of a zone's lesions, fractions.
        min_area: least share of the picture that must be lesion for a zone to count as present.
    """

    grammar: str
    names: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]
    row_cuts: tuple[float, ...]
    column_cuts: tuple[float, ...]
    centres: tuple[tuple[float, float], ...]
    sigmas: tuple[float, float]
    min_area: float


_CHEST_CELLS = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1))
TABLES = {
    "radiograph": ZoneTable(
        grammar="chest",
        names=CHEST,
        cells=_CHEST_CELLS,
        row_cuts=(75 / 224, 100 / 224),
        column_cuts=(0.5,),
        centres=((0.30, 0.32), (0.44, 0.28), (0.58, 0.28), (0.25, 0.67), (0.43, 0.74), (0.58, 0.77)),
        sigmas=(0.10, 0.08),
        min_area=200 / 224**2,
    ),
    "axial_ct": ZoneTable(
        grammar="chest",
        names=CHEST,
        cells=_CHEST_CELLS,
        row_cuts=(0.545, 0.79),
        column_cuts=(0.5,),
        centres=((0.41, 0.27), (0.68, 0.27), (0.895, 0.27), (0.41, 0.73), (0.68, 0.73), (0.895, 0.73)),
        sigmas=(0.10, 0.08),
        min_area=200 / 224**2,
    ),
    "polyp": ZoneTable(
        grammar="polyp",
        names=POLYP,
        cells=tuple((row, column) for row in range(3) for column in range(3)),
        row_cuts=(1 / 3, 2 / 3),
        column_cuts=(0.28, 0.58),
        centres=tuple((row, column) for row in (0.25, 0.5, 0.75) for column in (0.2, 0.43, 0.7)),
        sigmas=(0.10, 0.10),
        min_area=0.0,
    ),
}
# grammar -> the kind of image that its sentences usually describe
KINDS = {"chest": "radiograph", "polyp": "polyp"}
# least share of the picture that counts as lesion on a side, or as a component
SPECK = 20 / 224**2
# names of the bits of each grammar, in the order of Findings.zones
ZONES = {"chest": CHEST, "polyp": POLYP}


def table(kind: str) -> ZoneTable:
    """The zones of a kind of image: ``"radiograph"``, ``"axial_ct"`` or ``"polyp"``."""
    if kind not in TABLES:
        raise UserError(f"kind of image {kind!r} is unknown; use one of {', '.join(TABLES)}")
    return TABLES[kind]


@lru_cache(maxsize=256)
def composite_prior(bits: tuple[int, ...], shape: tuple[int, int], kind: str = "radiograph") -> np.ndarray:
    """How near each pixel lies to the named zones: SSA's composite 2-D Gaussian mask.

    G_z = exp(−½((row − c_z)/σ_row)² − ½((column − d_z)/σ_col)²) with the table's centres and spreads, and the maximum
    over the named zones (a sum would weigh overlaps twice).

    Args:
        bits: one a zone, as :attr:`Findings.zones`; without a named zone the prior is 1 everywhere.
        shape: (height, width) of the picture as displayed.
        kind: kind of image, a key of ``TABLES``.

    Returns:
        (H, W) float32, 0 to 1; shared between callers, read-only.

    Raises:
        UserError: the kind has another number of zones.
    """
    zones = table(kind)
    if len(bits) != len(zones.names):
        raise UserError(f"{len(bits)} zone bits, but kind of image {kind!r} has {len(zones.names)} zones")
    row, column = ((np.arange(length) + 0.5) / length for length in shape)
    prior = np.zeros(shape) if any(bits) else np.ones(shape)
    for bit, (centre_row, centre_column) in zip(bits, zones.centres, strict=True):
        if bit:
            down, across = (row - centre_row) / zones.sigmas[0], (column - centre_column) / zones.sigmas[1]
            prior = np.maximum(prior, np.exp(-0.5 * (down[:, None] ** 2 + across[None, :] ** 2)))
    prior = prior.astype(np.float32)
    prior.flags.writeable = False
    return prior


def _plane(mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask) > 0
    if mask.ndim != 2:
        raise UserError(f"mask of shape {mask.shape}: zones need one displayed plane (H, W)")
    return mask


def pixels_of_sides(mask: np.ndarray, kind: str = "radiograph") -> dict[str, int]:
    """Lesion pixels at the ``"left"`` and at the ``"right"`` of the picture.

    Args:
        mask: (H, W), true or non-zero where there is lesion, as displayed.
        kind: kind of image, a key of ``TABLES``; a chest's.

    Raises:
        UserError: the kind has no two sides, or the mask is no plane.
    """
    cuts, mask = table(kind).column_cuts, _plane(mask)
    if len(cuts) != 1:
        raise UserError(f"kind of image {kind!r} has no left and right side; use that of a chest image")
    cut = round(cuts[0] * mask.shape[1])
    return {"left": int(mask[:, :cut].sum()), "right": int(mask[:, cut:].sum())}


def sides_of_mask(mask: np.ndarray, kind: str = "radiograph") -> frozenset[str]:
    """The sides of the picture that hold at least :data:`SPECK` of lesion; arguments as :func:`pixels_of_sides`."""
    least = SPECK * np.size(mask)
    return frozenset(side for side, pixels in pixels_of_sides(mask, kind).items() if pixels >= least)


def count_of_mask(mask: np.ndarray) -> int:
    """Number of 8-connected lesions in a mask (H, W), those below :data:`SPECK` not counted."""
    from scipy import ndimage

    parts, _ = ndimage.label(_plane(mask), np.ones((3, 3)))
    return int((np.bincount(parts.ravel())[1:] >= SPECK * parts.size).sum())


def zone_of_point(row: float, column: float, shape: tuple[int, int], kind: str = "radiograph") -> int:
    """The index of the zone that holds a point of a displayed picture of ``shape`` (height, width)."""
    zones = table(kind)
    cell = (
        bisect_right(zones.row_cuts, row / shape[0]),
        bisect_right(zones.column_cuts, column / shape[1]),
    )
    return zones.cells.index(cell)


def zones_of_mask(mask: np.ndarray, kind: str = "radiograph") -> tuple[int, ...]:
    """The bits of the zones that a lesion mask touches.

    A chest zone is present if its cell holds at least ``min_area`` of the picture as lesion (200 pixels at
    224 × 224). Of polyps, each 8-connected component names the one zone that holds the middle of its
    bounding box.

    Args:
        mask: (H, W), true or non-zero where there is lesion, as displayed.
        kind: kind of image, a key of ``TABLES``.
    """
    zones, mask = table(kind), _plane(mask)
    if zones.grammar == "polyp":
        return _zones_of_components(mask, zones, kind)
    rows = [0, *(round(cut * mask.shape[0]) for cut in zones.row_cuts), mask.shape[0]]
    columns = [0, *(round(cut * mask.shape[1]) for cut in zones.column_cuts), mask.shape[1]]
    least = max(1.0, zones.min_area * mask.size)
    return tuple(int(mask[rows[r] : rows[r + 1], columns[c] : columns[c + 1]].sum() >= least) for r, c in zones.cells)


def _zones_of_components(mask: np.ndarray, zones: ZoneTable, kind: str) -> tuple[int, ...]:
    from scipy import ndimage

    bits = [0] * len(zones.names)
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    for rows, columns in ndimage.find_objects(labels):
        middle = ((rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2)
        bits[zone_of_point(*middle, mask.shape, kind)] = 1
    return tuple(bits)
