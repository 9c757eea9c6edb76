"""NIfTI-1 and NIfTI-2, one slice, compressed or not, by nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.images.meta import CT_WINDOW, Picture, check_size, scale, shown, unit_or_own
from common.images.orientation import display_map, letters_of_vector

# Air in the chest is below, and no other picture's values are.
_HOUNSFIELD_BELOW = -500
_LONGEST_HEADER = 2**24


def open_nifti(path: Path):
    """The image of a ``.nii`` or ``.nii.gz`` file, whatever its name; refused before a volume is read.

    Raises:
        UserError: More than one slice, or values that are no numbers (RGB, complex).
    """
    import nibabel

    opener = gzip.open if path.open("rb").read(2) == b"\x1f\x8b" else open
    with opener(path, "rb") as file:
        start = file.read(348)
        size = int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")
        cls = nibabel.Nifti2Image if 540 in size else nibabel.Nifti1Image
        file.seek(0)
        header = cls.header_class.from_fileobj(file)
        shape = header.get_data_shape()
        if len(shape) < 2 or any(n != 1 for n in shape[2:]):
            size = " x ".join(map(str, shape))
            raise UserError(f"{shown(path)}: a volume of {size}; give one slice, width x height or width x height x 1")
        check_size(path, *shape[:2])
        if header.get_data_dtype().kind not in "iuf":
            raise UserError(f"{shown(path)}: its values are {header.get_data_dtype()}, not grey values; convert it")
        pixels_at = int(header.get_data_offset())
        if pixels_at > _LONGEST_HEADER:
            raise UserError(f"{shown(path)}: its header claims {pixels_at} bytes; write the file again")
        file.seek(0)
        # No more than the slice: what follows may be without end when it is unpacked.
        return cls.from_bytes(file.read(pixels_at + int(np.prod(shape)) * header.get_data_dtype().itemsize))


def read_nifti(path: Path) -> Picture:
    """Read one slice: pixels (H, W), orientation and spacing from the affine.

    An affine that is the identity matrix says nothing (programs write it when they know nothing): as displayed.

    Raises:
        UserError: See :func:`open_nifti`; or an affine that is singular.
    """
    import nibabel

    image = open_nifti(path)
    stored = image.header.get_data_dtype()
    values = np.asarray(image.get_fdata(dtype=np.float32))
    values = values.reshape(values.shape[:2]).T
    affine = np.asarray(image.affine, float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise UserError(f"{shown(path)}: its affine cannot be inverted; write the file again with a valid one")
    told = bool(image.header["sform_code"] or image.header["qform_code"]) and not np.array_equal(affine, np.eye(4))
    letters = (letters_of_vector(affine[:3, 0]), letters_of_vector(affine[:3, 1])) if told else ("", "")
    across, down = (float(x) for x in nibabel.affines.voxel_sizes(affine)[:2])
    pixels, intensity = _intensity(values, stored)
    return Picture(
        pixels,
        display=display_map(*letters),
        spacing=(down, across) if told else (float("nan"), float("nan")),
        affine=affine,
        text={
            "format": "nifti",
            "orientation": "\\".join(letters) if told else "",
            "orientation_source": "affine" if told else "",
            "spacing_source": "affine" if told else "",
            "stored_dtype": str(stored),
            "intensity": intensity,
        },
    )


def _intensity(values: np.ndarray, stored: np.dtype) -> tuple[np.ndarray, str]:
    """Values to 0..1 and what made them so."""
    if (values < _HOUNSFIELD_BELOW).any():
        return scale(values, *CT_WINDOW), "CT window"
    if stored == np.uint8 and 1 < values.max() <= 255:
        return scale(values, 0, 255), "full range"
    return unit_or_own(values)
