"""What finding needs of a DICOM file, read without its pixels: cheap, bounded, and never raising."""

from __future__ import annotations

import io
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.images.header import numbers, text, texts
from common.images.reader import fault_of

_TAGS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "AccessionNumber", "Modality",
    "PresentationIntentType", "InstitutionName", "StudyDescription", "SeriesDescription", "AnatomicRegionSequence",
    "PatientID", "PatientSpeciesDescription", "PatientBreedDescription", "BodyPartExamined", "ProtocolName",
    "AcquisitionDeviceProcessingDescription", "ViewPosition", "StudyInstanceUID", "SeriesInstanceUID",
    "PatientOrientation", "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID",
    "AnatomicalOrientationType", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "PixelSpacing", "ViewCodeSequence",
)  # fmt: skip
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "StudyDescription")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DICOMDIR = "1.2.840.10008.1.3.10"
# what any header is shorter than: bytes read of a file, and bytes inflated
_MOST = 2**22
_LONGEST_VALUE = 2**16
_DIRECTORY = 0x00041220
_LAST = 0x7FE00010
_PIXELS = {0x7FE00008: "float", 0x7FE00009: "float", 0x7FE00010: "integer"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a DICOM file says of itself; ``""`` where it does not, and in files of other formats.

    Attributes:
        sop_class: SOPClassUID.
        sop_instance: SOPInstanceUID.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        accession: AccessionNumber.
        patient: PatientID.
        modality: Modality.
        body_part: BodyPartExamined, or the meaning of AnatomicRegionSequence.
        view: ViewPosition, or the meaning of ViewCodeSequence.
    """

    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""
    accession: str = ""
    patient: str = ""
    modality: str = ""
    body_part: str = ""
    view: str = ""


NO_HEADER = Header()


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a CT slice lies: ``stack`` is the same for slices that can be one volume, ``place`` mm along its normal."""

    stack: tuple
    place: float


@dataclass(frozen=True, slots=True)
class Scan:
    r"""A DICOM file without its pixels.

    Attributes:
        header: what is kept of it.
        fault: why it holds no picture that can be read, in the reader's words; ``""`` if it may.
        directory: a DICOMDIR.
        orientation: letters such as ``"L\F"``, or ``""``.
        image_type: values of ImageType.
        texts: SeriesDescription, ProtocolName, AcquisitionDeviceProcessingDescription, StudyDescription.
        animal: what says that the patient is none.
        raw: "FOR PROCESSING".
        slice: of CT with a position and orientation, else None.
    """

    header: Header = NO_HEADER
    fault: str = ""
    directory: bool = False
    orientation: str = ""
    image_type: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    animal: str = ""
    raw: bool = False
    slice: Slice | None = None


def scan(path: Path) -> Scan:
    """Read the header of a DICOM file.

    At most 4 MiB are read, values of more than 64 KiB are skipped, and pixels never are; whatever the file holds,
    nothing is raised.
    """
    from common.images.dicom import refuse_header

    try:
        dataset, seen = _read(path)
        if seen == _DIRECTORY or dataset.file_meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
            return Scan(directory=True)
        fault = ""
        try:
            refuse_header(path, dataset)
            if seen not in _PIXELS:
                fault = "no pixels: the file ends before them; copy it again"
            elif _PIXELS[seen] == "float":
                fault = "a parametric map of floating-point values; give a DICOM image of grey values"
        except UserError as refusal:
            fault = bare(path, refusal)
        return _facts(dataset, fault)
    except Exception as error:  # damage meets pydicom in every way
        return Scan(fault=bare(path, fault_of(path, error)))


def bare(path: Path, error: UserError) -> str:
    """The line of a fault without the file's name before it."""
    from common.images.meta import shown

    return str(error).removeprefix(f"{shown(path)}: ")


class _Bounded:
    """A file of which no more than :data:`_MOST` bytes can be read, whatever a damaged header asks for."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file, self.left, self.name = file, _MOST, "header"
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data


def _read(path: Path):
    """The elements :data:`_TAGS` of a file, and the tag before which reading stopped (0: at the end)."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset, read_partial

    tags = [tag_for_keyword(key) for key in _TAGS]
    stopped = [0]

    def stop(tag, vr, length) -> bool:
        if tag == _DIRECTORY or tag in _PIXELS or tag > _LAST:
            stopped[0] = int(tag)
        # zeros are no elements, however many follow
        return bool(stopped[0]) or tag == 0

    with path.open("rb") as file:
        start = file.read(2048)
        if _DEFLATED.encode() in start and start[128:132] == b"DICM" and start[132:138] == b"\2\0\0\0UL":
            # the end of the file meta information, after which the rest is deflated (PS3.5 A.5)
            file.seek(144 + int.from_bytes(start[140:144], "little"))
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_MOST), _MOST)
            dataset = read_dataset(io.BytesIO(inflated), False, True, stop_when=stop, specific_tags=tags)
            dataset.file_meta = FileMetaDataset()
        else:
            file.seek(0)
            dataset = read_partial(
                _Bounded(file), stop_when=stop, defer_size=_LONGEST_VALUE, force=True, specific_tags=tags
            )
    return dataset, stopped[0]


def _facts(dataset, fault: str) -> Scan:
    from common.images.dicom import orientation_of

    header = Header(
        sop_class=_kept(text(dataset, "SOPClassUID")),
        sop_instance=text(dataset, "SOPInstanceUID")[:64],
        study=_kept(text(dataset, "StudyInstanceUID")),
        series=_kept(text(dataset, "SeriesInstanceUID")),
        accession=_kept(text(dataset, "AccessionNumber")),
        patient=_kept(text(dataset, "PatientID")),
        modality=_kept(text(dataset, "Modality").upper()),
        body_part=_kept(text(dataset, "BodyPartExamined") or _meaning(dataset, "AnatomicRegionSequence")),
        view=_kept(text(dataset, "ViewPosition") or _meaning(dataset, "ViewCodeSequence")),
    )
    letters, affine = ("", ""), None
    if not fault:
        letters, _, affine = orientation_of(dataset, (1.0, 1.0))
    species = text(dataset, "PatientSpeciesDescription").casefold()
    animal = "PatientSpeciesDescription" if species and not {"human", "homo"} & set(species.split()) else ""
    if text(dataset, "AnatomicalOrientationType").upper() == "QUADRUPED":
        animal = "AnatomicalOrientationType"
    elif text(dataset, "PatientBreedDescription"):
        animal = "PatientBreedDescription"
    elif "veterin" in text(dataset, "InstitutionName").casefold():
        animal = "InstitutionName"
    return Scan(
        header,
        fault,
        orientation="\\".join(letters) if all(letters) else "",
        image_type=tuple(value.upper() for value in texts(dataset, "ImageType")),
        texts=tuple(text(dataset, key).upper()[:128] for key in _DESCRIPTIONS),
        animal=animal,
        raw=text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING",
        slice=_slice(dataset, affine),
    )


def _slice(dataset, affine: np.ndarray | None) -> Slice | None:
    cosines = numbers(dataset, "ImageOrientationPatient")
    if affine is None or len(cosines) != 6 or len(numbers(dataset, "ImagePositionPatient")) != 3:
        return None
    stack = (
        *(round(x, 3) for x in cosines), *numbers(dataset, "Rows"), *numbers(dataset, "Columns"),
        *(round(x, 4) for x in numbers(dataset, "PixelSpacing")), text(dataset, "FrameOfReferenceUID"),
    )  # fmt: skip
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    return Slice(stack, float(normal @ affine[:3, 3]))


def _meaning(dataset, key: str) -> str:
    """The meaning of the code in a sequence of one item."""
    try:
        return text(dataset[key].value[0], "CodeMeaning")
    except Exception:  # absent, empty, no sequence
        return ""


def _kept(value: str) -> str:
    """A value of a header that many files share: held once, whatever its length no longer than a UID."""
    return sys.intern(value.strip()[:64])
