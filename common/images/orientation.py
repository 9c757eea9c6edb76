"""From the stored grid to the picture a radiologist sees, and back.

A *display map* is three ints ``(transpose, flip rows, flip columns)``, applied in this order to stored rows
and columns: the eight ways to lay a picture. Letters are DICOM's: L, R, A, P, H, F say where an axis runs *to*.
"""

from __future__ import annotations

import numpy as np

from common.errors import UserError

AS_STORED = (0, 0, 0)

# Unit vectors of DICOM's letters in RAS millimetres.
_RAS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "H": (0, 0, 1),
    "F": (0, 0, -1),
}

# EXIF orientation, as display map.
EXIF = {
    1: AS_STORED,
    2: (0, 0, 1),
    3: (0, 1, 1),
    4: (0, 1, 0),
    5: (1, 0, 0),
    6: (1, 0, 1),
    7: (1, 1, 1),
    8: (1, 1, 0),
}


def letters_of_vector(vector: np.ndarray) -> str:
    """The letter of the largest component of a RAS ``vector``, shape (3,)."""
    axis = int(np.argmax(np.abs(vector)))
    return ("RL", "AP", "HF")[axis][0 if vector[axis] > 0 else 1]


def vectors_of_letters(along_columns: str, along_rows: str) -> tuple[np.ndarray, np.ndarray]:
    """RAS unit vectors, shape (3,) each, of two letters."""
    return np.array(_RAS[along_columns], float), np.array(_RAS[along_rows], float)


def usable(along_columns: str, along_rows: str) -> bool:
    """Whether two letters span a plane (L and R, or those of an animal, do not)."""
    axes = [
        next((i for i, pair in enumerate(("RL", "AP", "HF")) if x and x in pair), None)
        for x in (along_columns, along_rows)
    ]
    return None not in axes and axes[0] != axes[1]


def display_map(along_columns: str, along_rows: str) -> tuple[int, int, int]:
    """The display map of a grid, from where its stored rows and columns run to.

    Frontal: patient's right at the left, head up. Axial: patient's right at the left, front up. Lateral: head
    up, and the front stays on the side where the file has it.

    Args:
        along_columns: Letter towards which the column index grows (DICOM PatientOrientation's first value).
        along_rows: Letter towards which the row index grows (the second).

    Returns:
        ``(transpose, flip rows, flip columns)``; as stored when the letters span no plane.
    """
    if not usable(along_columns, along_rows):
        return AS_STORED
    plane = {along_columns, along_rows}
    vertical = "HF" if plane & set("HF") else "AP"
    transpose = along_columns in vertical
    down, across = (along_columns, along_rows) if transpose else (along_rows, along_columns)
    return int(transpose), int(down in "HA"), int(across == "R")


def to_display(stored: np.ndarray, display) -> np.ndarray:
    """``(..., W, H)`` in MONAI's axis order to ``(..., rows, columns)`` as displayed, by a display map."""
    transpose, rows, columns = (int(x) for x in display)
    out = stored if transpose else stored.swapaxes(-1, -2)
    out = out[..., ::-1, :] if rows else out
    return np.ascontiguousarray(out[..., ::-1] if columns else out)


def to_stored(displayed: np.ndarray, display) -> np.ndarray:
    """The inverse of :func:`to_display`: ``(..., rows, columns)`` to ``(..., W, H)``."""
    transpose, rows, columns = (int(x) for x in display)
    out = displayed[..., ::-1] if columns else displayed
    out = out[..., ::-1, :] if rows else out
    return np.ascontiguousarray(out if transpose else out.swapaxes(-1, -2))


def index_map(display, shape: tuple[int, int]) -> np.ndarray:
    """The matrix, shape (4, 4), from displayed index (row, column, 0, 1) to stored index (column, row, 0, 1).

    Args:
        display: The display map.
        shape: (rows, columns) as displayed.
    """
    transpose, rows, columns = (int(x) for x in display)
    row = np.array([-1 if rows else 1, 0, 0, shape[0] - 1 if rows else 0])
    column = np.array([0, -1 if columns else 1, 0, shape[1] - 1 if columns else 0])
    first, second = (row, column) if transpose else (column, row)
    return np.stack([first, second, [0, 0, 1, 0], [0, 0, 0, 1]]).astype(float)


def affine_of_letters(along_columns: str, along_rows: str, spacing: tuple[float, float]) -> np.ndarray:
    """A RAS affine, shape (4, 4), origin 0, of a picture of which only the letters are known.

    Without usable letters it is ITK's for a plain picture (columns to the left, rows to the back), which every
    viewer shows as the file shows it.

    Args:
        along_columns: Letter towards which the column index grows.
        along_rows: Letter towards which the row index grows.
        spacing: mm between stored rows and stored columns; 1 is taken where it is nan.
    """
    if not usable(along_columns, along_rows):
        along_columns, along_rows = "L", "P"
    step = [s if np.isfinite(s) else 1.0 for s in spacing]
    x, y = vectors_of_letters(along_columns, along_rows)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = x * step[1], y * step[0], np.cross(x, y)
    affine[affine == 0] = 0.0  # no minus zero
    return affine


def display_of(meta: dict) -> tuple[int, int, int]:
    """The display map in the meta of an image read by ``ChestReader``.

    Raises:
        UserError: The image came from another reader.
    """
    if "display" not in meta:
        name = meta.get("filename_or_obj", "image")
        raise UserError(f"{name}: its meta does not say how to display it; load it with common.images.ChestReader")
    return tuple(int(x) for x in meta["display"])


def mask_display(mask: dict, image: dict) -> tuple[int, int, int]:
    """The display map of a mask, from its meta and its image's, both made by ``ChestReader``.

    A mask whose file knows an orientation (NIfTI, DICOM, EXIF) is shown by it; every other lies in its image's
    *stored* grid and goes the image's way, turned and flipped where that is.

    Raises:
        UserError: One of the two came from another reader.
    """
    own, way = display_of(mask), display_of(image)
    return own if mask["orientation_source"] else way
