"""Masks in their source's own grid, written all or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import replacing
from common.images.meta import shown

# fields of a NIfTI or Analyze header that hold what people wrote
_TEXTS = {
    "descrip", "db_name", "aux_file", "intent_name", "data_type", "patient_id", "originator", "generated", "scannum",
    "exp_date", "exp_time",
}  # fmt: skip


def write_mask(mask_stored: np.ndarray, source_meta: dict, path: str | Path) -> None:
    """Write a mask in its source's stored grid: PNG (0 and 255) or NIfTI (0 and 1, with the source's affine).

    A NIfTI mask of a NIfTI source keeps its number of axes and its header's codes and units, not its texts and
    extensions.

    Args:
        mask_stored: (W, H) or (1, W, H), in the stored grid (after ``Invertd``); lesion is 0.5 and above.
        source_meta: The meta that ``ChestReader`` gave.
        path: Ends with ``.png``, ``.nii`` or ``.nii.gz``; its folder is made if missing.

    Raises:
        UserError: Another ending, or the file cannot be written.
        ValueError: The mask is not in the source's grid.
    """
    path = Path(path)
    mask = np.asarray(mask_stored)
    mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
    grid = tuple(int(n) for n in source_meta["spatial_shape"])
    if mask.shape != grid:
        raise ValueError(f"a mask of shape {mask.shape} for a source whose stored grid is {grid}")
    mask = (mask >= 0.5).astype(np.uint8)
    if path.name.lower().endswith(".png"):
        from PIL import Image

        with replacing(path) as temporary:
            Image.fromarray(mask.T * np.uint8(255)).save(temporary, format="PNG")
    elif path.name.lower().endswith((".nii", ".nii.gz")):
        image = _nifti(mask, source_meta)
        with replacing(path) as temporary:
            image.to_filename(temporary)
    else:
        raise UserError(f"{shown(path)}: masks are written as .png, .nii or .nii.gz; choose one of these")


def _nifti(mask: np.ndarray, source_meta: dict):
    import nibabel

    if source_meta["format"] == "nifti":
        from common.images.nifti import open_nifti

        source = open_nifti(Path(source_meta["filename_or_obj"]))
        header = source.header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header["cal_min"], header["cal_max"] = 0, 0
        # free text may name a patient, and whoever hides names sees to file names only
        for name in _TEXTS.intersection(header.keys()):
            header[name] = b""
        if hasattr(header, "extensions"):
            header.extensions.clear()
        return type(source)(mask.reshape(source.shape), source.affine, header)
    image = nibabel.Nifti1Image(mask[..., None], np.asarray(source_meta["affine"], float))
    image.header.set_xyzt_units("mm")
    return image
