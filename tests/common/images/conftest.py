"""Pictures that tests of reading share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def picture() -> np.ndarray:
    """An 8-bit picture, as displayed, that no flip or transposition maps to itself; values 0 and 255 occur."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41), dtype=np.uint8)
    pixels[:3, :5], pixels[-2:, -7:] = 0, 255
    return pixels


@pytest.fixture
def dicom(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes stored pixels (H, W) with any header elements; None leaves an element out."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def write(pixels: np.ndarray, name: str = "image.dcm", sequences: dict | None = None, **elements) -> Path:
        bits = 8 * pixels.itemsize
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
            "SOPInstanceUID": generate_uid(entropy_srcs=["test"]),
            "PatientName": "Doe^Jane",
            "Modality": "CR",
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
        } | elements
        for key, value in values.items():
            if value is not None:
                setattr(dataset, key, value)
        data = np.ascontiguousarray(pixels).tobytes()
        if elements.get("PixelData", b"") is not None:
            dataset.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
        for key, items in (sequences or {}).items():
            setattr(dataset, key, items)
        path = tmp_path / name
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        return path

    return write
