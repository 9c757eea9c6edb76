"""The two conversions of MONAI Label's DICOMweb datastore, by our reader and our writer.

MONAI Label keeps a series as ``<series>.nii.gz`` beside the folder ``<series>`` of its DICOM files; labels as NIfTI.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import __version__
from common.errors import UserError
from common.files import sha256_of
from common.images import Algorithm, read_image, to_display, to_stored, write_seg
from common.images.meta import shown
from common.images.orientation import mask_display
from common.serving.label.series import affine_of, masks_on, volume_of
from common.serving.label.steps import series_of, source_of

_READ = (".nii", ".nii.gz", ".png")  # of labels that our reader reads; ITK reads the others


def dicom_to_nifti(series_dir: str, is_seg: bool = False) -> str:
    """A series, or a segmentation, as a NIfTI file (W, H, N) in the image's stored grid; N is 1 of a radiograph.

    The image has the grey values that networks get, 0..1, and its orientation, where the DICOM file tells one.

    Args:
        series_dir: folder of the series, or a file.
        is_seg: a DICOM Segmentation: lesion is 1 wherever any segment is.

    Returns:
        The path of a new file.

    Raises:
        UserError: the series has several images that are no stack, or they cannot be read.
    """
    import nibabel

    folder = Path(series_dir)
    if is_seg:
        source = source_of(series_dir)
        slices = series_of(_segmented(source, folder))
        if slices:
            values = np.stack([mask.T for mask in masks_of_seg(source, slices)], axis=-1).astype(np.uint8)
            affine, told = affine_of(slices), True
        else:
            # in the image's stored grid, which is what a file without orientation means
            values, affine, told = mask_of_seg(source).T.astype(np.uint8)[..., None], np.eye(4), False
    elif slices := series_of(series_dir):
        (values, affine), told = volume_of(slices), True
    else:
        pixels, meta = read_image(source_of(series_dir))
        values, affine, told = pixels[..., None], np.asarray(meta["affine"], float), bool(meta["orientation_source"])
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    for set_code in (image.set_sform, image.set_qform):
        set_code(affine, code=1 if told else 0)
    path = Path(tempfile.mkdtemp()) / f"{folder.name}.nii.gz"
    if folder.is_dir() and not is_seg:
        # the first answer is made from this file: beside it stands, as later beside its copy, the series
        (path.parent / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    image.to_filename(path)
    return str(path)


def _segmented(seg: Path, folder: Path) -> Path:
    """The folder of the series that a segmentation is of, where MONAI Label keeps it; else the segmentation."""
    import pydicom

    try:
        dataset = pydicom.dcmread(seg, stop_before_pixels=True)
        series = str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID)
    except Exception:  # pydicom meets damage with exceptions of every kind; its pixels are read next
        return seg
    # beside the folder labels, in which it lies as final/<label>
    there = folder.resolve().parents[2] / series
    return there if there.is_dir() else seg


def masks_of_seg(path: Path, slices: Sequence[Path]) -> list[np.ndarray]:
    """For each slice of a series (rows, columns) bool of its DICOM Segmentation: where any of its segments is.

    Raises:
        UserError: it is none, or another series'.
    """
    import highdicom
    import pydicom

    uids = [str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in slices]
    try:
        seg = highdicom.seg.segread(path)
        frames = seg.get_pixels_by_source_instance(
            uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
    except Exception as error:  # highdicom meets damage with exceptions of every kind
        raise UserError(f"{shown(path.name)}: no segmentation of the series; submit the label again") from error
    return list((frames > 0).any(axis=-1))


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
    """A mask as DICOM Segmentation of the series' image, or of its slices.

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
    sources = series_of(series_dir)
    if sources:
        masks = masks_on(_readable(label), sources)
    else:
        sources = [source_of(series_dir)]
        masks = [mask_on(label, read_image(sources[0])[1])]
    info = label_info[0] if label_info and isinstance(label_info[0], Mapping) else {}
    served = _served(str(info.get("model_name") or ""))
    if served is None and not by_person:
        raise UserError('label_info: names no served model; write [{"name": "lesion", "model_name": "MODEL"}]')
    path = Path(tempfile.mkdtemp()) / "segmentation.dcm"
    algorithm = served or Algorithm("drawn in a viewer", __version__, "none")
    write_seg(
        path, sources, masks, fractional=False, algorithm=algorithm,
        label=str(info.get("name") or "lesion")[:64],
        by="AUTOMATIC" if not by_person else "SEMIAUTOMATIC" if served else "MANUAL",
    )  # fmt: skip
    return str(path)


def submitted(save: Callable[..., str]) -> Callable[..., str]:
    """MONAI Label's keeping of labels in a folder of studies: what cannot be learnt from is refused at once.

    Labels in formats that only ITK reads (3D Slicer's NRRD) become NIfTI.
    """

    @functools.wraps(save)
    def checked(datastore: Any, image_id: str, label_filename: str, *args: Any, **kwargs: Any) -> str:
        from monailabel.datastore.local import LocalDatastore

        image = datastore.get_image_uri(image_id) if type(datastore) is LocalDatastore else ""
        if image:
            label_filename = str(_readable(label_filename))
            mask_on(label_filename, read_image(image)[1])
        return save(datastore, image_id, label_filename, *args, **kwargs)

    return checked


def _readable(label: str) -> Path:
    """The label in a format that our reader reads.

    Raises:
        UserError: ITK does not read it either.
    """
    import SimpleITK

    path = Path(label)
    if path.name.endswith(_READ):
        return path
    # ITK's formats know an orientation, which NIfTI keeps
    path = Path(tempfile.mkdtemp()) / "label.nii.gz"
    try:
        SimpleITK.WriteImage(SimpleITK.ReadImage(label), str(path))
    except RuntimeError as error:
        raise UserError("label: cannot be read; write it again as .nii.gz or .nrrd") from error
    return path


def mask_on(label: str, image: dict[str, Any]) -> np.ndarray:
    """(rows, columns) bool of a mask in the stored grid of its image, where it lies as training lays it.

    Raises:
        UserError: it cannot be read, or is of another size.
    """
    path = _readable(label)
    try:
        pixels, own = read_image(path)
    except UserError as error:
        reason = str(error).removeprefix(f"{shown(path)}: ").removeprefix(f"{path}: ")
        raise UserError(f"label: {reason}") from error
    mask = to_stored(to_display(pixels > 0, mask_display(own, image)), image["display"]).T
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
