"""Files and metadata that several tests of the room use."""

import json

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from common.batch import find
from common.bundle import bundle_folder
from common.images import write_radiograph

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="session")
def radiographs():
    """Metadata of a bundle for chest radiographs."""
    return json.loads((bundle_folder("mmi_unet") / "configs" / "metadata.json").read_text())


@pytest.fixture(scope="session")
def slices(radiographs):
    """Metadata of a bundle for chest CT."""
    return radiographs | {"modality": "CT"}


@pytest.fixture
def radiograph():
    """Write a radiograph, then set elements (None: remove), and save it as another transfer syntax or without meta."""

    def write(path, *, preamble=True, **elements):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_radiograph(path, np.full((8, 8), sum(path.name.encode()) % 256, np.uint8), modality="CR")
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
        for key, value in elements.items():
            if value is None:
                del dataset[key]
            else:
                setattr(dataset, key, value)
        if preamble:
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
        else:
            del dataset.file_meta
            dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return path

    return write


@pytest.fixture
def ct():
    """Write a CT slice; its position along the normal is ``z``."""

    def write(path, z=0.0, series="1.2.3", cosines=(1, 0, 0, 0, 1, 0), uid=None, **elements):
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SOPClassUID, dataset.SOPInstanceUID = CT_CLASS, uid or generate_uid(entropy_srcs=[str(path)])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2", series
        dataset.FrameOfReferenceUID = "1.2.9"
        dataset.Modality, dataset.BodyPartExamined, dataset.PatientID = "CT", "CHEST", "P"
        normal = np.cross(cosines[:3], cosines[3:])
        dataset.ImageOrientationPatient = list(cosines)
        dataset.ImagePositionPatient = [float(f"{x:.4f}") for x in normal * z]
        dataset.PixelSpacing = [1, 1]
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 4, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.PixelData = b"\0" * 32
        for key, value in elements.items():
            setattr(dataset, key, value)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def one():
    """What :func:`find` says of one file alone."""

    def look(path, metadata, **more):
        search = find(path, metadata, **more)
        assert len(search.found) == 1
        return search.found[0]

    return look
