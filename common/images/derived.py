"""What objects derived from DICOM images (segmentations, secondary captures) take over from their sources.

Followed: PS3.3 A.51 (SEG), A.8.1 (SC), C.7.1.1 (patient), C.7.2.1 (study), C.7.4.1 (frame of reference), C.7.6.2
(image plane), 10.7.1.1 (orientation). Nothing here depends on the clock or on chance, and no pixel is read.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.images.header import numbers, text, texts
from common.images.meta import one_line, shown

# Both remark on every oddity of a header, and quote values that may be names.
warnings.filterwarnings("ignore", module=r"pydicom|highdicom|common\.images\.(derived|write_seg|write_sc)")
for _library in ("pydicom", "highdicom"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)

# Patient and study: type 2, so that they are there even if empty.
_TYPE_2 = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
# Where a source has its date, the most fitting first; a time beside each.
_DATES = ("Content", "Acquisition", "Series", "Study", "InstanceCreation")
NO_DATE = "19000101"
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True)
class Algorithm:
    """What made a mask, as it stands in the object: a bundle's name and version, and the SHA-256 of its weights."""

    name: str
    version: str
    weights_sha256: str


def derived_uid(*parts: object) -> str:
    """A UID made of ``parts`` alone: the same from the same, another from any other."""
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=[hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()])


def read_source(path: str | Path):
    """The header of a DICOM image, cleaned so that an object derived from it can be written.

    Values are those of the source. Left out: private elements, what cannot be written again, dates and sexes that
    are none. Frame of reference and plane are there only if they are complete.

    Returns:
        A ``pydicom.Dataset`` without pixels, with all type-2 elements of patient and study.

    Raises:
        UserError: The file is no DICOM image of one frame with the UIDs by which an object can refer to it.
    """
    import pydicom

    path = Path(path)
    try:
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        _refuse(path, header)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{shown(path)}: no DICOM file that can be read ({type(error).__name__}); {_NEEDED}") from error
    source = pydicom.Dataset()
    for tag in list(header.keys()):
        if not tag.is_private and tag.group not in (0x0000, 0x0002) and (element := _sound(header, tag)) is not None:
            source.add(element)
    for key in ("NumberOfFrames", "PixelData"):
        source.pop(key, None)
    for key in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if key in source:
            setattr(source, key, text(source, key))  # of several values the first
    _clean_identity(source)
    _clean_plane(source)
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    lossy = text(source, "LossyImageCompression") == "01" or str(syntax) in _LOSSY
    source.LossyImageCompression = "01" if lossy else "00"
    return source


_NEEDED = "a DICOM object can only be derived from DICOM images (PS3.3 C.12.1.1, C.7.6.16.2.6)"
_LOSSY = {"1.2.840.10008.1.2.4." + end for end in ("50", "51", "81", "91", "93", "203")}


def _refuse(path: Path, header) -> None:
    name = shown(path)
    if not texts(header, "SOPClassUID") or not numbers(header, "Rows") or not numbers(header, "Columns"):
        raise UserError(f"{name}: no DICOM image; {_NEEDED}")
    for key in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not texts(header, key):
            raise UserError(f"{name}: has no {key}, a type 1 element, so that nothing can refer to it; add it")
    frames = numbers(header, "NumberOfFrames") or [1]
    if frames[0] > 1 or header.get("SharedFunctionalGroupsSequence"):
        raise UserError(
            f"{name}: a multi-frame object (PS3.3 C.7.6.16); only objects of single frames are derived from"
        )


def _sound(header, tag):
    """The element, without private ones below it; None if it cannot be decoded and written again."""
    import pydicom

    try:
        element = header[tag]
        if element.VR == "SQ":
            for item in element.value:
                item.remove_private_tags()
        alone = pydicom.Dataset()
        if "SpecificCharacterSet" in header:
            alone.SpecificCharacterSet = header.SpecificCharacterSet
        alone.add(element)
        pydicom.dcmwrite(io.BytesIO(), alone, implicit_vr=False, little_endian=True)
    except Exception:  # whatever a damaged element makes pydicom raise
        return None
    return element


def _clean_identity(source) -> None:
    for key in _TYPE_2:
        if key not in source:
            setattr(source, key, "")
    for key in ("PatientBirthDate", "StudyDate"):
        setattr(source, key, _date(text(source, key)))
    source.StudyTime = _time(text(source, "StudyTime"))
    sex = text(source, "PatientSex").upper()
    source.PatientSex = sex if sex in ("M", "F", "O") else ""


def _date(value: str) -> str:
    """``YYYYMMDD``, also of ACR-NEMA's ``YYYY.MM.DD``; empty if it is no date."""
    digits = value.strip().replace(".", "").replace("-", "")
    try:
        return datetime.datetime.strptime(digits, "%Y%m%d").strftime("%Y%m%d") if len(digits) == 8 else ""
    except ValueError:
        return ""


def _time(value: str) -> str:
    """``HHMMSS`` and a fraction, also of ACR-NEMA's ``HH:MM:SS``; empty if it is no time."""
    found = re.fullmatch(
        r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d)(\.\d{1,6})?)?)?", value.strip().replace(":", ""), re.ASCII
    )
    return "".join((found[1], found[2] or "00", found[3] or "00", found[4] or "")) if found else ""


def source_date(source) -> tuple[str, str]:
    """Date and time for an object derived from ``source``: its own, else its acquisition's, series' or study's.

    Without any, it is :data:`NO_DATE` at midnight: the element must not be empty, and today would make another file
    of every run.
    """
    for kind in _DATES:
        if date := _date(text(source, f"{kind}Date")):
            return date, _time(text(source, f"{kind}Time")) or "000000"
    return NO_DATE, "000000"


def _clean_plane(source) -> None:
    """Keep position and orientation only if complete; a slice without thickness gets its distance or 1 mm."""
    from pydicom.valuerep import DSfloat, format_number_as_ds

    values = {key: numbers(source, key) for key in (*_GEOMETRY, "SliceThickness", "SpacingBetweenSlices")}
    counts = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
    right = {key: len(values[key]) == counts.get(key, 1) for key in values}
    right["PixelSpacing"] &= min(values["PixelSpacing"], default=0) > 0
    right["SliceThickness"] &= min(values["SliceThickness"], default=0) > 0
    right["SpacingBetweenSlices"] &= min(values["SpacingBetweenSlices"], default=0) > 0
    if right["ImageOrientationPatient"]:
        axes = np.reshape(values["ImageOrientationPatient"], (2, 3))
        right["ImageOrientationPatient"] = np.allclose(axes @ axes.T, np.eye(2), atol=1e-2)
    placed = all(right[key] for key in _GEOMETRY)
    for key in values:
        if right[key] and (placed or key not in ("ImagePositionPatient", "ImageOrientationPatient")):
            decimals = [DSfloat(format_number_as_ds(value)) for value in values[key]]
            setattr(source, key, decimals if len(decimals) > 1 else decimals[0])
        else:
            source.pop(key, None)
    if placed:
        source.setdefault("SliceThickness", source.get("SpacingBetweenSlices", DSfloat(1)))
    elif "SliceThickness" not in source:
        source.pop("PixelSpacing", None)  # highdicom cannot read back a spacing without a thickness
    if not text(source, "FrameOfReferenceUID"):
        source.pop("FrameOfReferenceUID", None)
        if placed or text(source, "Modality") in ("CT", "MR", "PT"):
            # Slices of one series lie in one frame of reference; a CT without it lacks a type 1 element.
            source.FrameOfReferenceUID = derived_uid("frame of reference", text(source, "SeriesInstanceUID"))


def patient_orientation(source) -> list[str]:
    """PatientOrientation of a source that is not placed in space; empty if it has none of two values."""
    letters = [x.upper() for x in texts(source, "PatientOrientation")]
    return letters if len(letters) == 2 and all(re.fullmatch("[A-Z]{1,6}", x) for x in letters) else []


def number(source, key: str, offset: int = 0) -> int:
    """A number of the source plus ``offset``; 1 is taken where it has none."""
    try:
        value = int(text(source, key))
    except ValueError:
        value = 1
    return offset + (value if 1 <= value < 2**30 else 1)


def encode(dataset, source) -> bytes:
    """A derived object as a file, in the source's character set if that can hold its text, else in UTF-8."""
    import pydicom

    wanted = _texts_of(dataset)
    for charset in (source.get("SpecificCharacterSet"), "ISO_IR 192"):
        dataset.pop("SpecificCharacterSet", None)
        if charset:
            dataset.SpecificCharacterSet = charset
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        buffer.seek(0)
        if _texts_of(pydicom.dcmread(buffer, stop_before_pixels=True)) == wanted:
            break
    return buffer.getvalue()


def _texts_of(dataset) -> list[str]:
    """All values that the character set may spoil."""
    return [one_line(x.value) for x in dataset.iterall() if x.VR in ("PN", "LO", "SH", "ST", "LT", "UC", "UT")]
