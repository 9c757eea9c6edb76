"""Does a chest radiograph stand upright, with bright bones? Told from the picture alone, where its tags may be wrong.

Black borders are cut off, the picture is shrunk to 7 x 7 cells, the cells are ranked by brightness, and the ranks are
compared with :data:`TEMPLATE` (dark lungs either side of a bright middle, brightest below) upright, upside down,
lying on either side, and with black and white exchanged. Ranks make it independent of window and contrast.

Measured on QaTa-COV19's pictures, all of them as displayed (template and threshold of the 5,716 training rows): 18 of
these (0.31 %) and 1 of the 1,429 validation rows (0.07 %) are called turned, most of them lateral views or pictures in
a bright or slanted frame. Of the validation pictures turned upside down 97.6 % are told, of those on a side 95.2 and
96.2 %, of those inverted 98.3 %. ``python -m tools measure-verdict`` prints these figures.

*Left and right exchanged is not told.* The side of the heart names it right in 84 % of the pictures at best (a logistic
regression of 14 x 14 ranked cells, right against left half); at 0.5 % false alarms that catches 8 % of the mirrored
ones (28 x 28 cells: 12 %), since opacities, effusions and rotation hide the heart. So a mirrored picture is no reason.
"""

from __future__ import annotations

import numpy as np

# Mean ranks over the training rows and their mirror images, -9 dark to 9 bright: the left four columns; the right three
# are their mirror image.
TEMPLATE = (
    (-7, -6, -3, 1),
    (-2, -2, -4, 0),
    (0, -2, -5, 2),
    (-1, -2, -2, 5),
    (-2, 0, 2, 7),
    (-2, 4, 6, 8),
    (-2, 6, 8, 9),
)  # fmt: skip
CELLS = 7
INVERTED = "as if black and white were exchanged"
# by how much another position must fit better (a difference of two correlations)
MARGIN = 0.3
# a border is a row or column where less than this share of the pixels is brighter than this share of the white
_BORDER_SHARE, _BORDER_LEVEL = 0.3, 0.2
# pixels: a larger picture is thinned to less than twice this, which changes no rank that matters
_THINNED = 256


def ranks(picture: np.ndarray) -> np.ndarray:
    """Ranks of the brightness of 7 x 7 cells, mean 0 and norm 1, (7, 7); borders are cut off before.

    Args:
        picture: (H, W), of any range, or (H, W, 3).
    """
    grey = _without_borders(_thinned(picture))
    cells = grey
    for axis in (0, 1):
        cuts = np.linspace(0, grey.shape[axis], CELLS + 1).astype(int)[:-1]
        parts = np.add.reduceat(cells, cuts, axis)
        sizes = np.diff(np.append(cuts, grey.shape[axis]))
        cells = parts / (sizes[:, None] if axis == 0 else sizes)
    order = cells.ravel().argsort(kind="stable").argsort(kind="stable") - (CELLS**2 - 1) / 2
    return (order / np.linalg.norm(order)).reshape(CELLS, CELLS)


def _thinned(picture: np.ndarray) -> np.ndarray:
    """Every n-th grey of a picture, (H, W), float."""
    rows, columns = (max(1, n // _THINNED) for n in np.shape(picture)[:2])
    some = np.asarray(picture[::rows, ::columns], np.float32)
    return some.mean(-1) if some.ndim == 3 else some


def _without_borders(grey: np.ndarray) -> np.ndarray:
    """The picture inside its dark frame; as it is where less than a quarter of a side would be left."""
    low, high = np.quantile(grey, (0, 0.98))
    bright = grey > low + _BORDER_LEVEL * (high - low)
    for axis in (0, 1):
        kept = np.flatnonzero(bright.mean(1 - axis) > _BORDER_SHARE)
        if kept.size < max(CELLS, grey.shape[axis] // 4):
            return grey
        inside = slice(kept[0], kept[-1] + 1)
        grey, bright = (grey[inside], bright[inside]) if axis == 0 else (grey[:, inside], bright[:, inside])
    return grey


def turned(picture: np.ndarray) -> str:
    """``"upside down"``, ``"sideways"`` or :data:`INVERTED` if a radiograph looks so, else ``""``.

    Whether it is mirrored makes no difference.

    Args:
        picture: frontal chest radiograph as displayed, (H, W) or (H, W, 3), bright bones, of any range.
    """
    if min(np.shape(picture)[:2]) < CELLS:
        return ""
    picture = _thinned(picture)
    if not np.ptp(picture):
        return ""
    found, half = ranks(picture), np.array(TEMPLATE, float)
    template = np.hstack([half, half[:, -2::-1]])
    template -= template.mean()
    template /= np.linalg.norm(template)
    fits = {
        "": (found * template).sum(),
        "upside down": (found * template[::-1]).sum(),
        INVERTED: -(found * template).sum(),
        "sideways": max((found * template.T).sum(), (found * template.T[::-1]).sum()),
    }
    best = max(fits, key=lambda position: float(fits[position]))
    return best if fits[best] - fits[""] > MARGIN else ""
