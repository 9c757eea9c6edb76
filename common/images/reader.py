"""``ChestReader``: one MONAI reader for every format, and functions for who needs no MONAI."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.data import ImageReader

from common.errors import UserError
from common.images.meta import Picture, check_mask_size, meta_of, one_line, shown
from common.images.orientation import mask_display, to_display

_KNOWN = "PNG, JPEG, TIFF, BMP, WebP, NIfTI or DICOM"


class ChestReader(ImageReader):
    """Read a chest image of any format as the room's docstring says.

    Args:
        channels: 1 gives ``(W, H)``; 3 gives ``(3, W, H)``, for networks on colour pictures (grey is repeated).
    """

    def __init__(self, channels: int = 1) -> None:
        if channels not in (1, 3):
            raise UserError(f"ChestReader: channels is {channels}; it is 1 or 3")
        self.channels = channels

    def verify_suffix(self, filename: Sequence[str] | str) -> bool:
        """Always True: names say nothing."""
        return True

    def read(self, data: Sequence[str] | str, **kwargs) -> list[Path]:
        """The path, unopened: what fails here would make ``LoadImage`` try MONAI's own readers."""
        return [Path(data)] if isinstance(data, str | Path) else [Path(name) for name in data]

    def get_data(self, img: list[Path]) -> tuple[np.ndarray, dict]:
        """The stored grid ``(W, H)`` or ``(3, W, H)``, float32 in 0..1, and its meta.

        Raises:
            UserError: The file cannot be read as one picture; one line with the reason.
        """
        if len(img) != 1:
            raise UserError(f"{shown(img[0]) if img else 'image'}: {len(img)} files for one image; name one file")
        return read_image(img[0], channels=self.channels)


def read_image(path: str | Path, channels: int = 1) -> tuple[np.ndarray, dict]:
    """Read one picture.

    Args:
        path: The file.
        channels: 1 or 3.

    Returns:
        The stored grid ``(W, H)`` or ``(3, W, H)`` in MONAI's axis order, float32 in 0..1, and its meta.

    Raises:
        UserError: The file cannot be read as one picture; one line with the reason.
    """
    path = Path(path)
    try:
        picture = _read(path, channels)
    except UserError:
        raise
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise fault_of(path, error) from error
    pixels = picture.pixels.transpose(2, 1, 0) if picture.pixels.ndim == 3 else picture.pixels.T
    return np.ascontiguousarray(pixels), meta_of(picture, path)


def display_array(path: str | Path) -> np.ndarray:
    """The picture as a radiologist sees it: (rows, columns), float32 in 0..1.

    Raises:
        UserError: As :func:`read_image`.
    """
    pixels, meta = read_image(path)
    return to_display(pixels, meta["display"])


def read_mask(path: str | Path, image_meta: dict) -> np.ndarray:
    """The mask of an image as a radiologist sees it: (rows, columns), bool.

    It lies as training and evaluation lay it: by its own orientation if its file knows one, else in the stored grid
    of its image (:func:`common.images.orientation.mask_display`).

    Args:
        path: The mask; lesion is 0.5 and above.
        image_meta: The meta that :func:`read_image` or ``ChestReader`` gave for the image.

    Raises:
        UserError: As :func:`read_image`; the mask has another size than the image.
    """
    stored, meta = read_image(path)
    mask = to_display(stored >= 0.5, mask_display(meta, image_meta))
    columns, rows = (int(n) for n in image_meta["spatial_shape"])
    check_mask_size(path, mask.shape, (columns, rows) if int(image_meta["display"][0]) else (rows, columns))
    return mask


def _read(path: Path, channels: int) -> Picture:
    if path.is_dir():
        raise UserError(f"{shown(path)}: a folder, not an image; name a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{shown(path)}: no ordinary file; name an image file")
    with path.open("rb") as file:
        start = file.read(544)
    kind = _kind(path, start)
    if kind == "raster":
        from common.images.raster import read_raster

        return read_raster(path, channels)
    if kind == "nifti":
        from common.images.nifti import read_nifti

        picture = read_nifti(path)
    else:
        from common.images.dicom import read_dicom

        picture = read_dicom(path)
    if channels == 3:
        picture.pixels = np.repeat(picture.pixels[..., None], 3, -1)
    return picture


def format_of(path: Path) -> str:
    """The format of a file by its first bytes: ``raster``, ``nifti`` or ``dicom``.

    Raises:
        UserError: None that :class:`ChestReader` reads, or the file cannot be opened; the line that reading it gives.
    """
    try:
        with path.open("rb") as file:
            return _kind(path, file.read(544))
    except OSError as error:
        raise fault_of(path, error) from error


def fault_of(path: Path, error: Exception) -> UserError:
    """What went wrong with a file as one line that says what to do."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{shown(path)}: no such file; check the path")
    if isinstance(error, PermissionError):
        return UserError(f"{shown(path)}: may not be read by this user; change its permissions")
    if isinstance(error, OSError) and error.errno:
        return UserError(f"{shown(path)}: cannot be read ({error.strerror}); check the path and the disk")
    reason = one_line(error)[:200] or type(error).__name__
    return UserError(f"{shown(path)}: cannot be decoded, damaged or truncated ({reason}); copy it again")


def _kind(path: Path, start: bytes) -> str:
    """``raster``, ``nifti`` or ``dicom``, by the file's first 544 bytes."""
    if not start:
        raise UserError(f"{shown(path)}: empty (0 bytes); copy it again")
    if start[128:132] == b"DICM":  # first: its preamble may pose as TIFF
        return "dicom"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")):
        return "raster"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "raster"
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path, "rb") as file:
                start = file.read(544)
        except (OSError, EOFError, zlib.error):
            raise UserError(f"{shown(path)}: a damaged gzip file; copy it again") from None
    if start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0":
        return "nifti"
    if start[344:348] == b"ni1\0" or start[4:8] == b"ni2\0":
        raise UserError(f"{shown(path)}: a NIfTI header whose pixels are in another file; save it as one .nii file")
    if _looks_like_dicom(start):
        return "dicom"
    raise UserError(f"{shown(path)}: no image that can be read here; convert it to {_KNOWN}")


def _looks_like_dicom(start: bytes) -> bool:
    """Whether a file without preamble starts with a plausible element of group 0002 or 0008."""
    little, big = int.from_bytes(start[:2], "little"), int.from_bytes(start[:2], "big")
    return len(start) >= 8 and (little in (2, 8) or big in (2, 8)) and start[:4] != b"\0\0\0\0"
