"""PNG, JPEG, TIFF, BMP and WebP, by Pillow."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.images.meta import Picture, check_size, scale, shown
from common.images.orientation import AS_STORED, EXIF

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262


def read_raster(path: Path, channels: int) -> Picture:
    """Read a picture file; ``channels`` 1 gives (H, W) luminance, 3 gives (H, W, 3) RGB.

    Raises:
        UserError: Several frames, or too large. Pillow's own exceptions of a damaged file pass through.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's size warning: check_size decides
        image = Image.open(io.BytesIO(path.read_bytes()), formats=_FORMATS)
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


def _grey_or_colour(image, inverted: bool, channels: int) -> tuple[np.ndarray, str, str]:
    """Pixels in 0..1, the stored type, and what made the intensities."""
    lossless = image.format in ("PNG", "TIFF", "BMP")
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if values.dtype.kind == "f" or image.mode == "I" and (values.min() < 0 or values.max() > 65535):
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            unit = low >= 0 and high <= 1
            pixels = scale(
                np.nan_to_num(values, nan=low), *((0, 1) if unit else (low, high)), invert=inverted
            )
            return _channels(pixels, channels), str(values.dtype), "unit" if unit else "own range"
        # Pillow turns MinIsWhite round in 8-bit files, not in these.
        grey, full, stored = values, 65535, "uint16"
        if inverted:
            grey = full - values.astype(np.int64)
    elif image.mode in ("1", "L", "LA"):
        grey, full, stored = np.asarray(image.convert("L")), 255, "bool" if image.mode == "1" else "uint8"
    else:
        rgb = np.asarray(image.convert("RGB"))
        if channels == 3:
            return scale(rgb, 0, 255), "uint8", "full range"
        mask = _coloured_mask(rgb) if lossless else None
        if mask is not None:
            return mask, "uint8", "mask"
        grey, full, stored = np.asarray(image.convert("RGB").convert("L")), 255, "uint8"
    if lossless and grey.max() == 1:
        return _channels(grey.astype(np.float32), channels), stored, "mask"
    return _channels(scale(grey, 0, full), channels), stored, "full range"


def _coloured_mask(rgb: np.ndarray) -> np.ndarray | None:
    """0/1 of a picture that holds black and exactly one colour that is no grey; else None."""
    on = rgb.any(-1)
    if not on.any() or on.all():
        return None
    colour = rgb[on][0]
    if len(set(colour.tolist())) == 1 or not (rgb[on] == colour).all():
        return None
    return on.astype(np.float32)


def _channels(grey: np.ndarray, channels: int) -> np.ndarray:
    return np.repeat(grey[..., None], 3, -1) if channels == 3 else grey
