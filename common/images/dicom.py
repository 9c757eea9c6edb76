"""DICOM radiographs and CT slices: one picture of grey values, by pydicom alone.

Followed: PS3.3 C.7.6.3 (pixels), C.11.1 (modality LUT), C.11.2 (VOI LUT, windows), C.7.5.1.1.2 (padding),
C.7.6.1.1.1 and C.7.6.2.1.1 (orientation), 10.7.1.3 (spacing).
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.images.header import numbers, text, texts
from common.images.meta import CT_WINDOW, Picture, check_size, one_line, own_range, scale, shown
from common.images.orientation import (
    affine_of_letters,
    display_map,
    letters_of_vector,
    usable,
)

# pydicom remarks on every oddity of a header, and quotes values that may be names.
warnings.filterwarnings("ignore", module=r"pydicom|common\.images\.dicom")
logging.getLogger("pydicom").setLevel(logging.ERROR)

# What is no acquired picture, by modality, and how the line names it.
_NO_PICTURE = {
    "SEG": "a segmentation",
    "SR": "a structured report",
    "KO": "a key object note",
    "PR": "a presentation state",
    "RTSTRUCT": "a radiotherapy structure set",
    "RTPLAN": "a radiotherapy plan",
    "RTDOSE": "a radiotherapy dose",
    "RTRECORD": "a radiotherapy record",
    "DOC": "a document",
    "REG": "a registration",
    "ECG": "a waveform",
}
_DICOMDIR = "1.2.840.10008.1.3.10"
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def read_dicom(path: Path) -> Picture:
    """Read a DICOM file: pixels (H, W) as displayed in grey, orientation, spacing.

    Raises:
        UserError: It holds no single picture of grey values. pydicom's exceptions of a damaged file pass through.
    """
    import pydicom

    header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    refuse_header(path, header)
    dataset = pydicom.dcmread(path, force=True)
    if not dataset.get("PixelData"):
        parametric = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        what = "a parametric map of floating-point values" if parametric else "no pixels"
        raise UserError(f"{shown(path)}: {what}; give a DICOM image of grey values")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        syntaxes = {
            (True, True): pydicom.uid.ImplicitVRLittleEndian,
            (False, True): pydicom.uid.ExplicitVRLittleEndian,
            (False, False): pydicom.uid.ExplicitVRBigEndian,
        }
        dataset.file_meta.TransferSyntaxUID = syntaxes[bool(implicit), bool(little)]
    stored = _stored(path, dataset)
    if stored.ndim != 2:
        raise UserError(f"{shown(path)}: its pixels have shape {stored.shape}; give one frame of grey values")
    pixels, intensity = _displayed(dataset, stored)
    spacing, spacing_source = _spacing(dataset)
    letters, orientation_source, affine = orientation_of(dataset, spacing)
    return Picture(
        pixels,
        display=display_map(*letters),
        spacing=spacing,
        affine=affine,
        text={
            "format": "dicom",
            "orientation": "\\".join(letters) if usable(*letters) else "",
            "orientation_source": orientation_source,
            "spacing_source": spacing_source,
            "stored_dtype": str(stored.dtype.newbyteorder("=")),
            "intensity": intensity,
            "modality": text(dataset, "Modality"),
            "body_part": text(dataset, "BodyPartExamined"),
            "view": text(dataset, "ViewPosition"),
            "photometric": text(dataset, "PhotometricInterpretation"),
            "presentation": text(dataset, "PresentationIntentType"),
            "image_type": "\\".join(texts(dataset, "ImageType")),
            "sop_class_uid": text(dataset, "SOPClassUID"),
            "sop_instance_uid": text(dataset, "SOPInstanceUID"),
        },
    )


def refuse_header(path: Path, header) -> None:
    """Refuse what is no single picture of grey values, before its pixels are read.

    Args:
        path: The file.
        header: Its data set with ``file_meta``, without the pixels.

    Raises:
        UserError: It is none.
    """
    name, modality = shown(path), text(header, "Modality").upper()
    media = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    if media == _DICOMDIR or "DirectoryRecordSequence" in header:
        raise UserError(f"{name}: a DICOMDIR, which only lists files; name the images")
    if modality in _NO_PICTURE:
        raise UserError(f"{name}: {_NO_PICTURE[modality]} ({modality}), not an image; give the image it belongs to")
    if not any(key in header for key in ("SOPClassUID", "Modality", "Rows", "PhotometricInterpretation")):
        raise UserError(f"{name}: no image that can be read here; convert it to PNG or DICOM")
    rows, columns = numbers(header, "Rows"), numbers(header, "Columns")
    if not rows or not columns:
        raise UserError(f"{name}: no pixels ({modality or 'no modality'}); give a DICOM image of grey values")
    photometric = text(header, "PhotometricInterpretation")
    samples = numbers(header, "SamplesPerPixel") or [1]
    if not photometric.startswith("MONOCHROME") or samples[0] != 1:
        kind = {"PALETTE COLOR": "palette colour", "": "no photometric interpretation"}.get(
            photometric, f"colour ({photometric})"
        )
        raise UserError(f"{name}: {kind}; give an image of grey values (MONOCHROME1 or MONOCHROME2)")
    frames = numbers(header, "NumberOfFrames") or [1]
    if frames[0] > 1:
        raise UserError(f"{name}: {int(frames[0])} frames; give one frame a file")
    check_size(path, int(columns[0]), int(rows[0]))
    if path.stat().st_size > 8 * rows[0] * columns[0] + 2**28:
        raise UserError(f"{name}: much larger than one picture of {int(columns[0])} x {int(rows[0])}; copy it again")


def _stored(path: Path, dataset) -> np.ndarray:
    """The stored values, decoded where they are compressed.

    gdcm only where nothing else decodes: damaged JPEG-LS and JPEG make it end the process (C++ ``terminate``).
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated:
        try:
            plugins = get_decoder(syntax).available_plugins
        except NotImplementedError:
            plugins = ()
        if not plugins:
            raise UserError(
                f"{shown(path)}: {one_line(syntax.name)} pixels, which nothing installed decodes; decompress it"
            )
        others = [plugin for plugin in plugins if plugin != "gdcm"]
        deep = syntax == JPEGExtended12Bit and dataset.BitsStored > 8  # Pillow's JPEG has 8 bits
        dataset.pixel_array_options(decoding_plugin=others[0] if others and not deep else plugins[0])
    return dataset.pixel_array


def _displayed(dataset, stored: np.ndarray) -> tuple[np.ndarray, str]:
    """Stored values (H, W) to 0..1 as displayed, and what made them: modality LUT, VOI, polarity, padding."""
    invert = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    padding = _padding(dataset, stored)
    values = _modality(dataset, stored)
    pixels, intensity = _voi(dataset, stored, values, ~padding if padding.any() else None, invert)
    pixels[padding] = 0
    return pixels, intensity


def _padding(dataset, stored: np.ndarray) -> np.ndarray:
    """Where the stored values are padding, (H, W) bool (C.7.5.1.1.2)."""
    ends = (numbers(dataset, "PixelPaddingValue") + numbers(dataset, "PixelPaddingRangeLimit"))[:2]
    if not ends:
        return np.zeros(stored.shape, bool)
    if stored.dtype.kind == "i":  # some writers give the bits of a negative value as unsigned
        bits = 8 * stored.dtype.itemsize
        ends = [x - 2**bits if x >= 2 ** (bits - 1) else x for x in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _modality(dataset, stored: np.ndarray) -> np.ndarray:
    """Stored values to the manufacturer's units: the modality LUT, else rescale (C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _lut(dataset, dataset.ModalityLUTSequence[0], stored)[0]
    slope = (numbers(dataset, "RescaleSlope") or [1.0])[0] or 1.0
    intercept = (numbers(dataset, "RescaleIntercept") or [0.0])[0]
    if (slope, intercept) == (1.0, 0.0):
        return stored
    return (stored * slope + intercept).astype(np.float32)


def _lut(dataset, item, values: np.ndarray) -> tuple[np.ndarray, int]:
    """``values`` through a LUT of C.11.1.1 or C.11.2.1.1, and its largest possible output."""
    entries, first, bits = (int(x) for x in numbers(item, "LUTDescriptor"))
    entries = entries or 2**16
    if first >= 2**15 and values.min() < 0:  # given as the unsigned bits of a negative value
        first -= 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        table = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * entries else "u1")
    else:
        table = np.asarray(data, np.int64) & 0xFFFF
    table = table[:entries].astype(np.float32)
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    # Some files say 8 bits and use more.
    full = max(2**bits - 1, 2 ** int(table.max()).bit_length() - 1)
    return table[index], full


def _voi(
    dataset, stored: np.ndarray, values: np.ndarray, real: np.ndarray | None, invert: bool
) -> tuple[np.ndarray, str]:
    """Values to 0..1: the CT window, VOI LUT, the first window, the full or the own range."""
    inside = values if real is None else values[real]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    if _hounsfield(dataset):
        return scale(values, *CT_WINDOW, invert=invert), "CT window"
    if dataset.get("VOILUTSequence"):
        table, full = _lut(dataset, dataset.VOILUTSequence[0], values)
        return scale(table, 0, full, invert=invert), "VOI LUT"
    centre, width = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if centre and width and width[0] > 0:
        function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
        if function == "SIGMOID":
            steps = np.clip(-4 * (values.astype(np.float32) - centre[0]) / width[0], -50, 50)
            curve = 1 / (1 + np.exp(steps))
            return scale(curve, 0, 1, invert=invert), "window"
        exact = function == "LINEAR_EXACT"
        half = width[0] / 2 if exact else max(width[0] - 1, 0) / 2
        middle = centre[0] if exact else centre[0] - 0.5
        if middle - half < high and middle + half > low:
            return scale(values, middle - half, middle + half, invert=invert), "window"
    bits = int((numbers(dataset, "BitsStored") or [8 * stored.dtype.itemsize])[0])
    if bits == 8 and "ModalityLUTSequence" not in dataset:
        ends = _modality(dataset, np.array([-128, 127] if stored.dtype.kind == "i" else [0, 255], np.int16))
        return scale(values, float(ends.min()), float(ends.max()), invert=invert), "full range"
    return own_range(values, low, high, invert), "own range"


def _hounsfield(dataset) -> bool:
    """Whether the values are Hounsfield units: CT with rescale, and no localiser."""
    return (
        text(dataset, "Modality") == "CT"
        and bool(numbers(dataset, "RescaleIntercept"))
        and text(dataset, "RescaleType").upper() in ("", "HU")
        and "LOCALIZER" not in (x.upper() for x in texts(dataset, "ImageType"))
    )


def _spacing(dataset) -> tuple[tuple[float, float], str]:
    """Millimetres between rows and between columns, and the element they are from."""
    for key in _SPACINGS:
        values = numbers(dataset, key)
        if len(values) == 2 and min(values) > 0:
            return (values[0], values[1]), key
    return (float("nan"), float("nan")), ""


def orientation_of(dataset, spacing: tuple[float, float]) -> tuple[tuple[str, str], str, np.ndarray]:
    """Letters of the stored columns' and rows' directions, their source, and the affine (4, 4) in RAS."""
    cosines = np.array(numbers(dataset, "ImageOrientationPatient"))
    if cosines.shape == (6,):
        x, y = cosines[:3] * (-1, -1, 1), cosines[3:] * (-1, -1, 1)  # LPS to RAS
        if abs(np.linalg.norm(x) - 1) < 0.01 and abs(np.linalg.norm(y) - 1) < 0.01 and abs(x @ y) < 0.01:
            letters = letters_of_vector(x), letters_of_vector(y)
            if usable(*letters):
                return letters, "ImageOrientationPatient", _affine(dataset, x, y, spacing)
    letters = tuple(value[:1].upper() for value in texts(dataset, "PatientOrientation"))
    animal = text(dataset, "AnatomicalOrientationType").upper() == "QUADRUPED"
    if len(letters) == 2 and usable(*letters) and not animal:
        return letters, "PatientOrientation", affine_of_letters(*letters, spacing)
    return ("", ""), "", affine_of_letters("", "", spacing)


def _affine(dataset, x: np.ndarray, y: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """The affine of a slice with a place in the patient; thickness (or 1 mm) across it."""
    down, across = (s if np.isfinite(s) else 1.0 for s in spacing)
    thickness = (numbers(dataset, "SliceThickness") or [1.0])[0]
    position = numbers(dataset, "ImagePositionPatient")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = x * across, y * down
    affine[:3, 2] = np.cross(x, y) * (thickness if thickness > 0 else 1.0)
    if len(position) == 3:
        affine[:3, 3] = np.array(position) * (-1, -1, 1)
    return affine
