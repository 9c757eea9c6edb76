"""A small, valid DICOM radiograph (DX or CR), for phantoms and tests; the same input gives the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import replacing
from common.images.orientation import display_map, to_stored, usable

# (value, meaning) of the view's code in SNOMED CT (PS3.16 CID 4010).
_VIEWS = {
    "PA": ("399348003", "postero-anterior"),
    "AP": ("399067008", "antero-posterior"),
    "LL": ("399173006", "left lateral"),
}
_CLASSES = {"DX": "1.2.840.10008.5.1.4.1.1.1.1", "CR": "1.2.840.10008.5.1.4.1.1.1"}


def write_radiograph(
    path: str | Path,
    pixels_displayed: np.ndarray,
    *,
    modality: str = "DX",
    photometric: str = "MONOCHROME2",
    patient_orientation: tuple[str, str] | None = ("L", "F"),
    spacing: tuple[float, float] | None = (0.4, 0.4),
    view: str = "PA",
    patient_id: str = "PHANTOM",
) -> str:
    """Write a displayed picture as a DICOM radiograph whose stored grid lies as ``patient_orientation`` says.

    Reading it back gives the intensities of the same array saved as PNG. UIDs are made from the pixels and all
    arguments (not from ``path``), so a rerun writes identical bytes. Dates and names are empty.

    Args:
        path: File to write; its folder exists.
        pixels_displayed: (rows, columns) uint8 or uint16, white is the largest value of the type.
        modality: ``DX`` or ``CR``.
        photometric: ``MONOCHROME2`` or ``MONOCHROME1`` (stored inverted; the picture stays the same).
        patient_orientation: Where stored columns and stored rows run to, such as ``("R", "F")``; None leaves it
            out, as incomplete files do.
        spacing: mm between rows and between columns as displayed; None leaves it out (CR only).
        view: ``PA``, ``AP`` or ``LL``.
        patient_id: The patient's ID.

    Returns:
        The SOPInstanceUID.

    Raises:
        UserError: An argument that this writer does not know.
    """
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = np.asarray(pixels_displayed)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"write_radiograph: pixels are {pixels.dtype} {pixels.shape}; give (rows, columns) uint8 or uint16"
        )
    for name, value, known in (
        ("modality", modality, tuple(_CLASSES)),
        ("photometric", photometric, ("MONOCHROME1", "MONOCHROME2")),
        ("view", view, tuple(_VIEWS)),
    ):
        if value not in known:
            raise UserError(f"write_radiograph: {name} is {value}; it is one of {', '.join(known)}")
    letters = tuple(x[:1] for x in patient_orientation or ())
    if letters and not (len(letters) == 2 and usable(*letters)):
        raise UserError(
            f"write_radiograph: patient_orientation is {patient_orientation}; give two directions, as (L, F)"
        )
    if modality == "DX" and spacing is None:
        raise UserError("write_radiograph: a DX needs its ImagerPixelSpacing (PS3.3 C.8.11.4); give spacing")

    display = display_map(*letters) if letters else (0, 0, 0)
    stored = to_stored(pixels, display).T
    bits = 8 * pixels.itemsize
    if photometric == "MONOCHROME1":
        stored = (2**bits - 1) - stored
    identity = repr(
        (
            modality,
            photometric,
            patient_orientation,
            spacing,
            view,
            patient_id,
            pixels.shape,
            str(pixels.dtype),
        )
    )
    digest = hashlib.sha256(identity.encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
    uid = {level: generate_uid(entropy_srcs=[level, digest]) for level in ("study", "series", "instance")}

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = _CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = uid["instance"]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = pydicom.Dataset()
    ds.file_meta = meta
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID, ds.SOPInstanceUID = _CLASSES[modality], uid["instance"]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid["study"], uid["series"]
    for empty in (
        "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientBirthDate",
        "PatientSex", "StudyID", "Manufacturer", "AcquisitionDate", "ContentDate", "ContentTime",
    ):  # fmt: skip
        setattr(ds, empty, "")
    ds.PatientID, ds.Modality = patient_id, modality
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.BodyPartExamined, ds.ViewPosition = "CHEST", view
    if patient_orientation:
        ds.PatientOrientation = list(patient_orientation)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    # What the reader takes for a PNG of as many bits: the full range of 8, the own range of 16.
    low, high = (0, 255) if bits == 8 else (int(stored.min()), int(stored.max()))
    ds.WindowCenter, ds.WindowWidth = (low + high + 1) / 2, high - low + 1
    if spacing is not None:
        step = spacing[::-1] if display[0] else spacing
        ds.ImagerPixelSpacing = [round(float(x), 6) for x in step]
    if modality == "DX":
        _digital_x_ray(ds, view, photometric)
    ds.add_new("PixelData", "OB" if bits == 8 else "OW", _even(stored.astype(pixels.dtype, copy=False)))
    with replacing(Path(path)) as temporary:
        pydicom.dcmwrite(temporary, ds, enforce_file_format=True)
    return uid["instance"]


def _digital_x_ray(ds, view: str, photometric: str) -> None:
    """The elements that a Digital X-Ray Image needs beyond a Computed Radiography Image (PS3.3 A.26)."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = [_code("51185008", "Chest")]
    ds.ViewCodeSequence = [_code(*_VIEWS[view])]
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = []
    ds.AcquisitionContextSequence = []
    ds.DetectorType = ""
    ds.PositionerType = ""
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = (
        "LOG",
        -1 if photometric == "MONOCHROME2" else 1,
    )
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0, "US"
    ds.PresentationLUTShape = "IDENTITY" if photometric == "MONOCHROME2" else "INVERSE"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"


def _code(value: str, meaning: str):
    import pydicom

    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _even(stored: np.ndarray) -> bytes:
    data = np.ascontiguousarray(stored).tobytes()
    return data + b"\0" * (len(data) % 2)
