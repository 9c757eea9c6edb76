"""Files, metadata, and a bundle whose lesion is what is bright: every step is real but the network's weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from common.batch import find
from common.bundle import bundle_folder
from common.images import write_radiograph

ROOT = Path(__file__).resolve().parents[3]


def bright_bundle(folder: Path, takes_text: bool, size=(64, 48)) -> Path:
    """A bundle in ``folder``: one convolution of 1 x 1 makes what is brighter than the mean a lesion."""
    source = ROOT / "bundles" / ("mmi_unet" if takes_text else "unet")
    shutil.copytree(source / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] = {
        "_target_": "common.networks.image_only.ImageOnly",
        "network": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1},
    }
    config["image_size"] = list(size)
    config["device"] = "$torch.device('cpu')"
    path.write_text(json.dumps(config))
    (folder / "models").mkdir()
    weights = {"network.weight": torch.full((1, 1, 1, 1), 20.0), "network.bias": torch.tensor([-10.0])}
    torch.save(weights, folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="session")
def bright(tmp_path_factory):
    return bright_bundle(tmp_path_factory.mktemp("bundles") / "bright", takes_text=False)


@pytest.fixture(scope="session")
def bright_text(tmp_path_factory):
    return bright_bundle(tmp_path_factory.mktemp("bundles") / "bright_text", takes_text=True)


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
