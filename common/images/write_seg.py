"""Masks as DICOM Segmentation (PS3.3 A.51), written by highdicom; the same input gives the same bytes.

Decided here:

- One segment, ``Lesion`` (SCT 52988006, CID 7159) of category ``Morphologically Abnormal Structure`` (49755003, CID
  7150) in the ``Lung`` (39607008). Not ``Infection``: what causes a lesion no picture tells.
- Frames without any lesion are left out, as highdicom advises: a series of slices has many, and all slices that were
  looked at stand in ReferencedSeriesSequence. Where no frame has a lesion all are kept: an object must have a frame,
  and it says that nothing was found, which a missing object does not.
- Fractional: PROBABILITY in 256 levels, 0 to 255.
- A radiograph lies in no space: no frame of reference, and PatientOrientation of the source, without which nobody
  could tell sides (type 2C; highdicom leaves it out). A CT slice without a frame of reference gets one of its series.
- UIDs come from those of the sources, the algorithm and the mask: another sentence gives another mask and another
  object, as two objects of one UID must not differ. Content date and time are the source's; InstanceCreationDate is
  left out. Uncompressed (Explicit VR Little Endian), which everybody reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from common.errors import UserError
from common.files import replacing
from common.images.derived import (
    Algorithm,
    derived_uid,
    encode,
    number,
    patient_orientation,
    read_source,
    source_date,
)
from common.images.header import numbers, text
from common.images.meta import shown

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
_LEVELS = 255


def write_seg(
    path: str | Path,
    sources: Sequence[str | Path],
    masks: Sequence[np.ndarray],
    *,
    fractional: bool,
    algorithm: Algorithm,
    label: str = "lesion",
    by: AlgorithmType = "AUTOMATIC",
) -> str:
    """Write the masks of a radiograph, or of the slices of one CT series, as one DICOM Segmentation.

    Args:
        path: File to write, whole or not at all; its folder is made if missing.
        sources: The DICOM images, of one frame each; pixels are not read.
        masks: For each source, in its stored grid (rows, columns): bool, or probabilities 0..1 with ``fractional``.
        fractional: Write probabilities; else a binary segmentation.
        algorithm: What made the masks.
        label: Of the segment, for people to read.
        by: Who drew it, as DICOM says it (PS3.3 C.8.20.4): ``AUTOMATIC``, ``SEMIAUTOMATIC`` (a person corrected it),
            ``MANUAL`` (no algorithm is named).

    Returns:
        The SOPInstanceUID.

    Raises:
        UserError: A source is no DICOM image of one frame, cannot be referred to, or the sources are no one series
            of parallel slices with a place each; or the file cannot be written.
        ValueError: The masks are not in the sources' grids, or no bool or probabilities.
    """
    path = Path(path)
    frames = [_levels(mask) if fractional else _bits(mask) for mask in masks]
    if not frames or len(frames) != len(sources):
        raise ValueError(f"{len(frames)} masks for {len(sources)} sources")
    images, frames = _distinct(sources, [read_source(source) for source in sources], frames)
    for image, frame in zip(images, frames, strict=True):
        if frame.shape != (grid := (int(image.Rows), int(image.Columns))):
            raise ValueError(f"a mask of shape {frame.shape} for a source of {grid} rows and columns")
    _one_series(sources[0], images)
    try:
        seg = _segmentation(images, np.ascontiguousarray(np.stack(frames)), fractional, algorithm, label, by)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # highdicom names the rule but may quote values, and those may be a patient's
        raise UserError(
            f"{shown(sources[0])}: no segmentation can refer to it ({type(error).__name__} in highdicom); "
            "repair its header, the mask is written as PNG all the same"
        ) from error
    data = encode(seg, images[0])
    with replacing(path) as part:
        part.write_bytes(data)
    return str(seg.SOPInstanceUID)


def _bits(mask: np.ndarray) -> np.ndarray:
    if mask.dtype != bool or mask.ndim != 2:
        raise ValueError(f"a mask is bool (rows, columns), not {mask.dtype} {mask.shape}")
    return mask


def _levels(mask: np.ndarray) -> np.ndarray:
    """Probabilities as levels, uint8: what rounds to 0 is no lesion, also where empty frames are left out."""
    inside = np.isfinite(mask).all() and -1e-3 <= mask.min() <= mask.max() <= 1 + 1e-3  # interpolation rounds
    if mask.dtype.kind != "f" or mask.ndim != 2 or not inside:
        raise ValueError(f"probabilities are floats of 0..1 (rows, columns), not {mask.dtype} {mask.shape}")
    return np.rint(np.clip(mask, 0, 1) * np.float32(_LEVELS)).astype(np.uint8)


def _distinct(paths: Sequence[str | Path], images: list, frames: list[np.ndarray]) -> tuple[list, list[np.ndarray]]:
    """Each SOP instance once: the same slice may lie in a folder under two names.

    Raises:
        UserError: Two files of one SOPInstanceUID have different masks.
    """
    found: dict[str, int] = {}
    for index, image in enumerate(images):
        first = found.setdefault(text(image, "SOPInstanceUID"), index)
        if not np.array_equal(frames[first], frames[index]):
            raise UserError(
                f"{shown(paths[index])}: has the SOPInstanceUID of {shown(paths[first])} and is another image; "
                "a UID must be unique (PS3.5 9), leave one out"
            )
    return [images[index] for index in found.values()], [frames[index] for index in found.values()]


def _one_series(path: str | Path, images: list) -> None:
    """Check that several sources are parallel slices of one series; slight differences of writing are evened out.

    Raises:
        UserError: They are not.
    """
    name, first = shown(path), images[0]
    for image in images[1:]:
        for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"):
            if text(image, key) != text(first, key):
                raise UserError(
                    f"{name}: slices of its series differ in {key}; a segmentation is of one series in one frame of "
                    "reference and one size (PS3.3 C.8.20.2, C.7.6.16); segment them apart"
                )
    if len(images) == 1:
        return
    if not all("ImagePositionPatient" in image for image in images):
        raise UserError(
            f"{name}: slices of its series have no position (ImagePositionPatient, ImageOrientationPatient and "
            "PixelSpacing, PS3.3 C.7.6.2); they cannot be one segmentation, segment them apart"
        )
    for key in ("ImageOrientationPatient", "PixelSpacing"):
        for image in images:
            if not np.allclose(numbers(image, key), numbers(first, key), rtol=0, atol=1e-3):
                raise UserError(
                    f"{name}: slices of its series differ in {key}; the frames of a segmentation share it "
                    "(PS3.3 C.7.6.16.2); segment them apart"
                )
            setattr(image, key, getattr(first, key))
    if len({tuple(numbers(image, "ImagePositionPatient")) for image in images}) < len(images):
        raise UserError(
            f"{name}: several slices of its series lie in one place; a segmentation needs a place for each frame "
            "(PS3.3 C.7.6.17); segment them apart"
        )


def _segmentation(
    images: list, frames: np.ndarray, fractional: bool, algorithm: Algorithm, label: str, by: AlgorithmType
):
    """The object, of frames (N, rows, columns) bool or uint8 levels, before it is encoded."""
    import highdicom
    from pydicom.sr.coding import Code

    kind = "FRACTIONAL" if fractional else "BINARY"
    category = Code("49755003", "SCT", "Morphologically Abnormal Structure")
    identification = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=Code("123110", "DCM", "Artificial Intelligence"),
        version=algorithm.version,
        source="chest-refseg",
        parameters={"weights sha256": algorithm.weights_sha256},
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=label,
        segmented_property_category=category,
        segmented_property_type=Code("52988006", "SCT", "Lesion"),
        algorithm_type=by,
        algorithm_identification=None if by == "MANUAL" else identification,
        anatomic_regions=[Code("39607008", "SCT", "Lung")],
    )
    model = (algorithm.name, algorithm.version, algorithm.weights_sha256)
    if by != "AUTOMATIC":
        model = (*model, by)
    series = derived_uid("series", kind, model, label, text(images[0], "SeriesInstanceUID"))
    content = hashlib.sha256(np.packbits(frames) if frames.dtype == bool else frames).hexdigest()
    instances = [text(image, "SOPInstanceUID") for image in images]
    instance = derived_uid("instance", series, instances, frames.shape, content)
    date, time = source_date(images[0])
    # highdicom remarks on names in warnings that quote them, and refuses some that files do have
    name = images[0]["PatientName"]
    del images[0]["PatientName"]
    images[0].PatientName = ""
    seg = highdicom.seg.Segmentation(
        source_images=images,
        # highdicom takes levels as 0..1 and rounds them to the same levels again
        pixel_array=frames / _LEVELS if fractional else frames,
        segmentation_type=kind,
        segment_descriptions=[segment],
        series_instance_uid=series,
        series_number=number(images[0], "SeriesNumber", 1000),
        sop_instance_uid=instance,
        instance_number=number(images[0], "InstanceNumber"),
        manufacturer="chest-refseg",
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number=algorithm.weights_sha256,
        max_fractional_value=_LEVELS,
        content_description="Lesions, research use only",
        content_label="LESION",
        content_date=date,
        content_time=time,
        series_description=f"{label} by {algorithm.name}, research use only"[:64],
        specific_character_set=None,
    )
    seg["PatientName"] = name
    _without_now_and_chance(seg, derived_uid("dimensions", instance))
    if "ImageOrientationPatient" not in images[0]:
        seg.PatientOrientation = patient_orientation(images[0])
    return seg


def _without_now_and_chance(seg, dimensions: str) -> None:
    """Replace what highdicom takes from the clock and from a random generator."""
    for key in ("InstanceCreationDate", "InstanceCreationTime"):
        seg.pop(key, None)
    for item in seg.ContributingEquipmentSequence:
        if item.get("ManufacturerModelName") == "highdicom":
            item.pop("ContributionDateTime", None)
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
