"""Overlays as DICOM Secondary Capture (PS3.3 A.8.1): a colour picture beside the image in its study."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from common.files import replacing
from common.images.derived import Algorithm, derived_uid, encode, number, read_source, source_date
from common.images.header import text

_CLASS = "1.2.840.10008.5.1.4.1.1.7"
# Patient and study as the source has them; a curated few, since a picture for people needs no more.
_COPIED = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "StudyDescription", "ReferringPhysicianName", "StudyInstanceUID", "BodyPartExamined",
    "Laterality",     "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip


def write_secondary_capture(path: str | Path, source: str | Path, rgb: np.ndarray, *, algorithm: Algorithm) -> str:
    """Write a picture made of a DICOM image as Secondary Capture; the same input gives the same bytes.

    It says that it may identify the patient (BurnedInAnnotation YES), as the sentence drawn into it may; no
    orientation is claimed for the picture (PatientOrientation is empty), as it holds more than the patient.

    Args:
        path: File to write, whole or not at all; its folder is made if missing.
        source: The DICOM image that the picture was made of.
        rgb: (rows, columns, 3) uint8, as displayed.
        algorithm: What made it.

    Returns:
        The SOPInstanceUID.

    Raises:
        UserError: The source is no DICOM image of one frame, cannot be referred to, or the file cannot be written.
        ValueError: ``rgb`` is no such picture.
    """
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"a picture is (rows, columns, 3) uint8, not {rgb.shape} {rgb.dtype}")
    header = read_source(source)
    ds = pydicom.Dataset()
    for key in _COPIED:
        if key in header:
            ds[key] = header[key]
    model = (algorithm.name, algorithm.version, algorithm.weights_sha256)
    pixels = np.ascontiguousarray(rgb).tobytes()
    series = derived_uid("series", "SC", model, text(header, "SeriesInstanceUID"))
    original = text(header, "SOPInstanceUID")
    ds.SOPClassUID = _CLASS
    ds.SOPInstanceUID = derived_uid("instance", series, original, rgb.shape, hashlib.sha256(pixels).hexdigest())
    ds.SeriesInstanceUID, ds.Modality = series, "OT"
    ds.SeriesNumber = number(header, "SeriesNumber", 2000)
    ds.InstanceNumber = number(header, "InstanceNumber")
    ds.SeriesDescription = f"overlay by {algorithm.name}, research use only"[:64]
    ds.PatientOrientation = []
    if not text(header, "BodyPartExamined"):
        ds.Laterality = ""  # type 2C unless the body part is known to be no paired one
    ds.ContentDate, ds.ContentTime = source_date(header)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.Manufacturer = ds.SecondaryCaptureDeviceManufacturer = "chest-refseg"
    ds.ManufacturerModelName = ds.SecondaryCaptureDeviceManufacturerModelName = algorithm.name
    ds.SoftwareVersions = ds.SecondaryCaptureDeviceSoftwareVersions = algorithm.version
    ds.DeviceSerialNumber = algorithm.weights_sha256
    ds.DerivationDescription = "Overlay of a segmentation, research use only"
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = text(header, "SOPClassUID"), original
    ds.SourceImageSequence = [reference]
    ds.BurnedInAnnotation = "YES"
    # What was lost in the source is lost here too (PS3.3 C.7.6.1.1.5).
    ds.LossyImageCompression = header.LossyImageCompression
    for key in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if header.LossyImageCompression == "01" and key in header:
            ds[key] = header[key]
    ds.Rows, ds.Columns = rgb.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = _CLASS, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = encode(ds, header)
    with replacing(Path(path)) as part:
        part.write_bytes(data)
    return str(ds.SOPInstanceUID)
