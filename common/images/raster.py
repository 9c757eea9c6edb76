"""PNG, JPEG, TIFF, BMP and WebP, by Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from common.images.meta import Picture, check_size, scale, shown, unit_or_own
from common.images.orientation import AS_STORED, EXIF

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # check_size decides
_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262


def read_raster(path: Path, channels: int) -> Picture:
    """Read a picture file; ``channels`` 1 gives (H, W) luminance, 3 gives (H, W, 3) RGB.

    Raises:
        UserError: Several frames, or too large. Pillow's own exceptions of a damaged file pass through.
    """
    with Image.open(path, formats=_FORMATS) as image:
        return _read(path, image, channels)


def _read(path: Path, image: Image.Image, channels: int) -> Picture:
    check_size(path, *image.size)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a telephone's JPEG carries its preview as second picture
        raise UserError(f"{shown(path)}: holds {frames} pictures; give one picture a file")
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    display = EXIF.get(orientation, AS_STORED)
    inverted = image.format == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0  # MinIsWhite
    pixels, stored, intensity = _grey_or_colour(image, inverted, channels)
    return Picture(
        pixels,
        display=display,
        text={
            "format": "jpeg" if image.format == "MPO" else image.format.lower(),
            "orientation_source": "" if display == AS_STORED else "EXIF",
            "stored_dtype": stored,
            "intensity": intensity,
        },
    )


def _grey_or_colour(image: Image.Image, inverted: bool, channels: int) -> tuple[np.ndarray, str, str]:
    """Pixels in 0..1, the stored type, and what made the intensities."""
    lossless = image.format in ("PNG", "TIFF", "BMP")
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits; Pillow turns MinIsWhite round in 8-bit files only
        pixels, stored, intensity = _deep(np.asarray(image), inverted)
    elif image.mode in ("1", "L", "LA"):
        grey = np.asarray(image.convert("L"))
        mask = lossless and grey.max() == 1
        pixels, intensity = scale(grey, 0, 1 if mask else 255), "mask" if mask else "full range"
        stored = "bool" if image.mode == "1" else "uint8"
    else:
        rgb, stored = image.convert("RGB"), "uint8"
        if channels == 3:
            return scale(np.asarray(rgb), 0, 255), stored, "full range"
        mask = _coloured_mask(np.asarray(rgb)) if lossless else None
        pixels = scale(np.asarray(rgb.convert("L")), 0, 255) if mask is None else mask
        intensity = "full range" if mask is None else "mask"
    return (np.repeat(pixels[..., None], 3, -1) if channels == 3 else pixels), stored, intensity


def _deep(values: np.ndarray, inverted: bool) -> tuple[np.ndarray, str, str]:
    """16-bit and 32-bit grey: 0..1, the stored type, and what made it."""
    stored = str(values.dtype.newbyteorder("="))
    if values.dtype.kind != "f" and values.min() == values.max() > 1:
        # One value: its own range would lose a mask that is lesion everywhere.
        return scale(values, 0, 65535, inverted), stored, "full range"
    pixels, intensity = unit_or_own(values, inverted)
    return pixels, stored, "mask" if intensity == "unit" and values.dtype.kind != "f" else intensity


def _coloured_mask(rgb: np.ndarray) -> np.ndarray | None:
    """0/1 of a picture that holds black and exactly one colour that is no grey; else None."""
    on = rgb.any(-1)
    if not on.any() or on.all():
        return None
    colour = rgb[on][0]
    if len(set(colour.tolist())) == 1 or not (rgb[on] == colour).all():
        return None
    return on.astype(np.float32)
