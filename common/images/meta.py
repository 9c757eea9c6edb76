"""What every reader's module gives back, and the meta made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.errors import UserError
from common.images.orientation import AS_STORED, affine_of_letters

# Larger than any detector (the largest has about 25 million); stops a forged header before memory is asked for.
MAX_PIXELS = 2**27

# HU from black to white. A lung window: in 88 pictures of MosMedData+ the medians of the greys of lung and of soft
# tissue are 0.17 and 0.85, which this window gives to -870 and +45 HU.
CT_WINDOW = (-1100.0, 250.0)


@dataclass
class Picture:
    """One picture as stored: rows first, intensities 0..1.

    ``pixels`` is float32, ``(H, W)`` or ``(H, W, 3)``; ``spacing`` is mm between stored rows and between stored
    columns. ``text`` holds the meta keys that are text; see the room's docstring.
    """

    pixels: np.ndarray
    display: tuple[int, int, int] = AS_STORED
    spacing: tuple[float, float] = (float("nan"), float("nan"))
    affine: np.ndarray = field(default_factory=lambda: affine_of_letters("", "", (1.0, 1.0)))
    text: dict[str, str] = field(default_factory=dict)


TEXT_KEYS = (
    "orientation",
    "orientation_source",
    "spacing_source",
    "format",
    "stored_dtype",
    "intensity",
    "modality",
    "body_part",
    "view",
    "photometric",
    "presentation",
    "image_type",
    "sop_class_uid",
    "sop_instance_uid",
)


def scale(values: np.ndarray, low: float, high: float, invert: bool = False) -> np.ndarray:
    """``values`` from low..high to 0..1, clipped, float32; 1..0 with ``invert``.

    Every format comes through here, and ``invert`` subtracts before it divides, so that equal pictures give
    equal numbers. Where ``low == high``, it is a step: above is 1. What is not finite becomes 0.
    """
    values = values.astype(np.float32, copy=False)
    if not high > low:
        return ((values <= low) if invert else (values > low)).astype(np.float32)
    span = np.float32(high - low)
    out = (np.float32(high) - values) / span if invert else (values - np.float32(low)) / span
    return np.nan_to_num(np.clip(out, 0, 1, out=out), copy=False)


def unit_or_own(values: np.ndarray, invert: bool = False) -> tuple[np.ndarray, str]:
    """Values without a range of their own to 0..1: as they are when within 0..1, else by their finite range."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and high <= 1:
        return scale(values, 0, 1, invert), "unit"
    return own_range(values, low, high, invert), "own range"


def own_range(values: np.ndarray, low: float, high: float, invert: bool = False) -> np.ndarray:
    """``values`` from low..high to 0..1; all 0 when every value is the same."""
    return scale(values, low, high, invert) if high > low else np.zeros(values.shape, np.float32)


def one_line(text: object) -> str:
    """``text`` without line breaks and control characters: what a damaged header says may hold any."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())


def shown(path: object) -> str:
    """A file name for a message of one line: quoted and escaped if it holds a newline or the like."""
    name = str(path)
    return name if name.isprintable() else repr(name)


def check_size(path: object, width: int, height: int) -> None:
    """Refuse an empty picture and one that is larger than any detector.

    Raises:
        UserError: Width or height is 0, or there are more than ``MAX_PIXELS`` pixels.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise UserError(f"{shown(path)}: {width} x {height} pixels; a picture has 1 to {MAX_PIXELS} of them")


def check_mask_size(path: object, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Refuse a mask of another size than its image; both sizes are (rows, columns) as displayed.

    Raises:
        UserError: They differ.
    """
    if tuple(mask) != tuple(image):
        size, other = (f"{columns} x {rows}" for rows, columns in (mask, image))
        raise UserError(f"{shown(path)}: the mask is {size} pixels, its image {other}; give a mask on its image's grid")


def meta_of(picture: Picture, path: object) -> dict:
    """The meta of a picture, as the room's docstring lists it."""
    height, width = picture.pixels.shape[:2]
    spacing = np.array(picture.spacing, float)
    meta = {
        "affine": picture.affine.copy(),
        "original_affine": picture.affine.copy(),
        "space": "RAS",
        "spatial_shape": np.array([width, height], np.int64),
        "original_channel_dim": float("nan") if picture.pixels.ndim == 2 else 0,
        "display": np.array(picture.display, np.int64),
        "spacing_mm": spacing[::-1].copy() if picture.display[0] else spacing,
        "filename_or_obj": str(path),
    }
    # Text of a header may be of any length: 128 characters hold every UID and every defined term.
    return meta | {key: picture.text.get(key, "")[:128] for key in TEXT_KEYS}
