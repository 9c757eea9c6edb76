"""Small bundles, one image in every format, and a server of the real MONAI Label, where it is installed."""

import importlib.metadata
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from common.bundle import bundle_folder
from common.datasets import phantoms
from common.images import write_radiograph
from common.runtime.workflow import merged_config
from tests.common.batch.conftest import bright_bundle

SIZE = 64
WIDTH = 80  # of the images, whose height is 96: rows and columns cannot be taken for each other
ROOT = Path(__file__).resolve().parents[4]


def small_bundle(folder: Path, name: str) -> Path:
    """A copy of a bundle with its demo network at 64 pixels and random weights in its own place."""
    source = bundle_folder(name)
    shutil.copytree(source / "configs", folder / "configs")
    values = {"image_size": [SIZE, SIZE], "num_workers": 0, "weights": "$@bundle_root + '/models/model.pt'"}
    for config in ("inference", "train"):
        content = merged_config(source, [config, "demo"], values | {"learning_rate": 0.003})
        (folder / "configs" / f"{config}.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    (folder / "models").mkdir()
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    return folder


def bright_ct(folder: Path) -> Path:
    """A bundle for CT slices whose lesion is what is bright."""
    bright_bundle(folder, takes_text=True, size=(SIZE, SIZE))
    path = folder / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "bright_ct", "modality": "CT"}))
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """``ssa``, ``unet`` and ``bright_ct``, folders by name."""
    root = tmp_path_factory.mktemp("label_bundles")
    made = {name: small_bundle(root / name, name) for name in ("ssa", "unet")}
    return made | {"bright_ct": bright_ct(root / "bright_ct")}


def write_studies(root: Path) -> dict[str, Path]:
    """A phantom as PNG, NIfTI, DX and CR (stored mirrored), another as CT slice, and a foot; files by image id."""
    root.mkdir()
    picture = phantoms.draw(1, 96).image[:, :WIDTH]
    files = {name: root / f"{name}{ending}" for name, ending in (
        ("png", ".png"), ("nii", ".nii.gz"), ("dx", ".dcm"), ("cr", ".dcm"), ("ct", ".dcm"), ("foot", ".dcm"),
        ("lateral", ".dcm"),
    )}  # fmt: skip
    Image.fromarray(picture).save(files["png"])
    affine = np.eye(4)
    affine[:3, 2] = (0, 1, 0)
    affine[:3, :2] = [[-0.5, 0], [0, 0], [0, -0.5]]
    nibabel.Nifti1Image(picture.T[..., None].astype(np.float32), affine).to_filename(files["nii"])
    write_radiograph(files["dx"], picture, modality="DX")
    write_radiograph(files["cr"], picture, modality="CR", patient_orientation=("R", "F"))
    write_radiograph(files["foot"], picture, modality="CR", patient_id="F")
    write_radiograph(files["lateral"], picture, modality="DX", view="LL", patient_orientation=("A", "F"))
    foot = pydicom.dcmread(files["foot"])
    foot.BodyPartExamined = "FOOT"
    foot.save_as(files["foot"])
    write_ct(files["ct"], phantoms.draw(2, 96).image[:, :WIDTH])
    return files


def write_ct(path: Path, picture: np.ndarray) -> None:
    """A CT slice of the chest with a place in space, whose lung window shows the picture."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.7.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
        "1.2.826.0.1.3680043.8.498.7.2",
        "1.2.826.0.1.3680043.8.498.7.3",
    )
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.7.4"
    dataset.ImageType, dataset.Modality, dataset.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "CHEST"
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "P", "P", "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "", "", "", ""
    dataset.ReferringPhysicianName, dataset.SeriesNumber, dataset.InstanceNumber = "", 1, 1
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-20, -30, 40]
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.5], 1
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *picture.shape, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1100
    dataset.PixelData = (picture.astype(np.int16) * 5).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def write_series(folder: Path, places: tuple[float, ...]) -> Path:
    """CT slices of one series at places along the body, each another phantom; the files' names are in no order."""
    folder.mkdir(parents=True)
    for number, place in enumerate(places):
        path = folder / f"1.2.{(7 * number + 3) % 11}.dcm"
        write_ct(path, phantoms.draw(2 + number, 96).image[:, :WIDTH])
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
            f"1.2.826.0.1.3680043.8.498.7.1.{number}"
        )
        dataset.ImagePositionPatient, dataset.InstanceNumber = [-20, -30, place], len(places) - number
        dataset.save_as(path)
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return write_studies(tmp_path_factory.mktemp("studies") / "images")


def left_in(folder: Path) -> list[Path]:
    """What stays in a folder; a request's is removed just after its answer is sent."""
    for _ in range(100):
        if not (found := list(folder.iterdir())):
            break
        time.sleep(0.1)
    return found


def needs_monai_label() -> None:
    try:
        importlib.metadata.version("monailabel")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("MONAI Label is not installed here: make test-label")


class Server:
    """A label server in a process of its own, on loopback."""

    def __init__(self, work: Path, bundles: list[Path], studies: str, *more: str, env: dict[str, str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.work, self.log = f"http://127.0.0.1:{port}", work, work.with_suffix(".log")
        command = [sys.executable, "-m", "tools", "label-server", "--bundles", *map(str, bundles), "--studies", studies]
        command += ["--port", str(port), "--work", str(work), *more]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=env)
        for _ in range(1800):
            if self.process.poll() is not None:
                break
            try:
                self.info = self.get("/info/")
                return
            except OSError:
                time.sleep(0.5)
        self.stop()
        raise AssertionError(self.log.read_text()[-3000:])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def ask(self, path: str, data: bytes | None = None, headers: dict | None = None, method: str | None = None):
        """(status, body, content type)."""
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.read(), answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers["content-type"]

    def get(self, path: str):
        return json.loads(self.ask(path)[1])

    def infer(self, model: str, image: str, params: object, output: str = "json"):
        """(status, parsed JSON, or bytes of a file)."""
        body, kind = form({"params": params if isinstance(params, str) else json.dumps(params)})
        status, data, answered = self.ask(f"/infer/{model}?image={image}&output={output}", body, {"Content-Type": kind})
        return status, json.loads(data) if answered == "application/json" else data

    def post(self, path: str, params: object):
        """(status, parsed JSON) of a POST of JSON."""
        status, data, _ = self.ask(path, json.dumps(params).encode(), {"Content-Type": "application/json"})
        return status, json.loads(data)

    def label(self, image: str, file: Path, params: object):
        """Submit a final label."""
        body, kind = form({"params": json.dumps(params)}, {"label": file})
        path = f"/datastore/label?image={image}&tag=final"
        status, data, _ = self.ask(path, body, {"Content-Type": kind}, method="PUT")
        assert status == 200, data

    def finished(self, path: str) -> dict:
        """The state of a task that MONAI Label runs in a process of its own, once it has ended."""
        for _ in range(1800):
            task = self.get(path)
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        raise AssertionError(task)


def form(fields: dict[str, str], files: dict[str, Path] | None = None) -> tuple[bytes, str]:
    """A multipart form: its body and content type."""
    mark = uuid.uuid4().hex
    parts = [f'Content-Disposition: form-data; name="{key}"\r\n\r\n'.encode() + value.encode()
             for key, value in fields.items()]  # fmt: skip
    for key, path in (files or {}).items():
        head = f'Content-Disposition: form-data; name="{key}"; filename="{path.name}"\r\n'
        parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + path.read_bytes())
    body = b"".join(b"--" + mark.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return body + b"--" + mark.encode() + b"--\r\n", f"multipart/form-data; boundary={mark}"
