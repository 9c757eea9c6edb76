"""The two conversions of MONAI Label's DICOMweb datastore, by our reader and our writer.

MONAI Label keeps a series as ``<series>.nii.gz`` beside the folder ``<series>`` of its DICOM files; labels as NIfTI.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import __version__
from common.errors import UserError
from common.files import sha256_of
from common.images import Algorithm, read_image, to_display, to_stored, write_seg
from common.images.meta import shown
from common.images.orientation import mask_display
from common.serving.label.steps import source_of


def dicom_to_nifti(series_dir: str, is_seg: bool = False) -> str:
    """A series of one image, or a segmentation, as a NIfTI file (W, H, 1) in the image's stored grid.

    The image has the grey values that networks get, 0..1, and its orientation, where the DICOM file tells one.

    Args:
        series_dir: folder of the series, or a file.
        is_seg: a DICOM Segmentation: lesion is 1 wherever any segment is.

    Returns:
        The path of a new file.

    Raises:
        UserError: the series has several images, or they cannot be read.
    """
    import nibabel

    source = source_of(series_dir)
    if is_seg:
        # in the image's stored grid, which is what a file without orientation means
        values, affine, told = mask_of_seg(source).T.astype(np.uint8), np.eye(4), False
    else:
        values, meta = read_image(source)
        affine, told = np.asarray(meta["affine"], float), bool(meta["orientation_source"])
    image = nibabel.Nifti1Image(values[..., None], affine)
    image.header.set_xyzt_units("mm")
    for set_code in (image.set_sform, image.set_qform):
        set_code(affine, code=1 if told else 0)
    folder = Path(series_dir)
    path = Path(tempfile.mkdtemp()) / f"{folder.name}.nii.gz"
    if folder.is_dir() and not is_seg:
        # the first answer is made from this file: beside it stands, as later beside its copy, the series
        (path.parent / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    image.to_filename(path)
    return str(path)


def mask_of_seg(path: Path) -> np.ndarray:
    """(rows, columns) bool of a DICOM Segmentation of one image: where any of its segments is.

    Raises:
        UserError: it is none, or has frames of several images.
    """
    import pydicom

    try:
        seg = pydicom.dcmread(path)
        frames = np.atleast_3d(seg.pixel_array.T).T > 0
    except Exception as error:  # pydicom meets damage with exceptions of every kind
        raise UserError(f"{shown(path.name)}: no segmentation that can be read; submit the label again") from error
    segments = len(seg.get("SegmentSequence", []))
    if len(frames) > max(1, segments):
        raise UserError(f"{shown(path.name)}: a segmentation of several images; one image is learnt from at a time")
    return frames.any(axis=0)


def nifti_to_dicom_seg(
    series_dir: str,
    label: str,
    label_info: Sequence[Mapping[str, Any]] | None,
    file_ext: str = "*",
    use_itk: bool = True,
    by_person: bool = False,
) -> str:
    """A mask as DICOM Segmentation of the series' image.

    Args:
        series_dir: folder of the series, or a file.
        label: the mask, of any format that ITK reads.
        label_info: of the first segment, ``name`` and ``model_name``.
        file_ext: MONAI Label's; every file of the folder is looked at.
        use_itk: MONAI Label's; highdicom writes it.
        by_person: a person drew it or corrected it.

    Returns:
        The path of a new file.

    Raises:
        UserError: the image does not allow it, or the mask is another's.
    """
    source = source_of(series_dir)
    mask = _mask_on(label, read_image(source)[1])
    info = label_info[0] if label_info and isinstance(label_info[0], Mapping) else {}
    served = _served(str(info.get("model_name") or ""))
    if served is None and not by_person:
        raise UserError('label_info: names no served model; write [{"name": "lesion", "model_name": "MODEL"}]')
    path = Path(tempfile.mkdtemp()) / "segmentation.dcm"
    algorithm = served or Algorithm("drawn in a viewer", __version__, "none")
    write_seg(
        path, [source], [mask], fractional=False, algorithm=algorithm,
        label=str(info.get("name") or "lesion")[:64],
        by="AUTOMATIC" if not by_person else "SEMIAUTOMATIC" if served else "MANUAL",
    )  # fmt: skip
    return str(path)


def _mask_on(label: str, image: dict[str, Any]) -> np.ndarray:
    """(rows, columns) bool of a mask in the stored grid of its image, where it lies as training lays it."""
    import SimpleITK

    path = Path(label)
    if not path.name.endswith((".nii", ".nii.gz", ".png")):
        # ITK's formats know an orientation, which NIfTI keeps
        path = Path(tempfile.mkdtemp()) / "label.nii.gz"
        SimpleITK.WriteImage(SimpleITK.ReadImage(label), str(path))
    pixels, own = read_image(path)
    # of an image that knows no orientation, the pixels' order is all there is
    way = mask_display(own, image) if image["orientation_source"] else image["display"]
    mask = to_stored(to_display(pixels > 0, way), image["display"]).T
    columns, rows = (int(size) for size in image["spatial_shape"])
    if mask.shape != (rows, columns):
        size = " x ".join(map(str, mask.shape[::-1]))
        raise UserError(f"label: is {size} pixels, its image {columns} x {rows}; draw it on the image's own grid")
    return mask


def _served(model: str) -> Algorithm | None:
    """The served bundle of that name; the only one, where no name is given."""
    # MONAI Label sets it, in the processes it starts, too
    models = Path(os.environ["MONAI_LABEL_APP_DIR"]) / "model"
    folders = {folder.name: folder for folder in models.iterdir()}
    folder = folders.get(model) if model or len(folders) != 1 else next(iter(folders.values()))
    if folder is None:
        return None
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return Algorithm(metadata["name"], metadata["version"], sha256_of(folder / "models" / "model.pt"))
