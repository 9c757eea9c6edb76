"""What every reader's module gives back, and the meta made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.errors import UserError
from common.images.orientation import AS_STORED, affine_of_letters

# Larger than any detector (the largest has about 25 million); stops a forged header before memory is asked for.
MAX_PIXELS = 2**27


@dataclass
class Picture:
    """One picture as stored: rows first, intensities 0..1.

    ``pixels`` is float32, ``(H, W)`` or ``(H, W, 3)``; ``spacing`` is mm between stored rows and between stored columns.
    ``text`` holds the meta keys that are text; see the room's docstring.
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

    Every format comes through here, and ``invert`` subtracts before it divides, so that equal pictures give equal numbers.
    Where ``low == high``, it is a step: above is 1.
    """
    values = values.astype(np.float32, copy=False)
    if not high > low:
        return ((values <= low) if invert else (values > low)).astype(np.float32)
    span = np.float32(high - low)
    out = (np.float32(high) - values) / span if invert else (values - np.float32(low)) / span
    return np.clip(out, 0, 1, out=out)


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
    # Text of a header may be anything: 64 characters hold every defined term and every UID.
    return meta | {key: picture.text.get(key, "")[:64] for key in TEXT_KEYS}
