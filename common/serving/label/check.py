"""Whether all this works on a machine: a real Orthanc, images pushed to it, masks asked for, segmentations stored back.

Everything runs on loopback, on phantoms, in a folder that is deleted afterwards. Needs Debian's ``orthanc``,
``orthanc-dicomweb`` and ``dcmtk``.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import common
from common.datasets import phantoms
from common.errors import UserError
from common.images import write_radiograph

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_INSTALL = "apt-get install orthanc orthanc-dicomweb dcmtk"
SENTENCE, LATERALITY = "Opacity in the left lower lobe.", "patient"
_SECONDS = 900  # for a server to start


@dataclass(frozen=True)
class Pacs:
    """An Orthanc on loopback.

    Attributes:
        web: address of its DICOMweb service.
        port: of its DICOM service.
    """

    web: str
    port: int

    def get(self, path: str) -> Any:
        """The JSON at a path of DICOMweb."""
        import requests

        return requests.get(self.web + path, headers={"Accept": "application/dicom+json"}, timeout=60).json()

    def series(self, study: str, modality: str) -> list[str]:
        """UIDs of a study's series of a modality."""
        found = self.get(f"/studies/{study}/series?Modality={modality}")
        return [one["0020000E"]["Value"][0] for one in found]


def programs() -> None:
    """Refuse a machine without the programs.

    Raises:
        UserError: with the command that installs them.
    """
    for name in ("Orthanc", "storescu"):
        if shutil.which(name) is None:
            raise UserError(f"{name} is not installed; {_INSTALL}")
    if not _PLUGIN.exists():
        raise UserError(f"{_PLUGIN}: is not there; {_INSTALL}")


@contextmanager
def orthanc(folder: Path) -> Iterator[Pacs]:
    """An Orthanc with an empty database in ``folder``; it refuses all who are not on this machine."""
    web, dicom = _port(), _port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [str(_PLUGIN)],
        "HttpPort": web, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC", "DicomPort": dicom, "DicomCheckCalledAet": False, "DicomAlwaysAllowStore": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Ssl": False},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with _process(["Orthanc", str(folder / "orthanc.json")], folder / "orthanc.log") as alive:
        _wait(f"http://127.0.0.1:{web}/system", alive)
        yield Pacs(f"http://127.0.0.1:{web}/dicom-web", dicom)


@contextmanager
def label_server(folder: Path, studies: str, bundles: Sequence[str], options: Sequence[str] = ()) -> Iterator[str]:
    """``python -m tools label-server`` in a process of its own; its address."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _port()
    command = [sys.executable, "-m", "tools", "label-server", "--bundles", *bundles, "--studies", studies]
    command += ["--port", str(port), "--work", str(folder / "work"), *options]
    with _process(command, folder / "server.log") as alive:
        _wait(f"http://127.0.0.1:{port}/info/", alive)
        yield f"http://127.0.0.1:{port}"


def check(folder: Path, bundle: str, options: Sequence[str], say: Callable[[str], None], model: Any = None) -> None:
    """Push two phantoms, ask for their masks, store segmentations, read them back; each step is said.

    Args:
        folder: that does not exist yet.
        bundle: name or folder of a trained bundle for radiographs.
        options: more of ``label-server``.
        say: gets a line for each step.
        model: the same bundle, loaded; None loads it.

    Raises:
        UserError: a program is missing, or an answer is another than that of the bundle itself.
    """
    import highdicom
    import requests

    programs()
    model = model or common.load(bundle, device="cpu")
    folder.mkdir(parents=True)
    sources = {name: folder / f"{name}.dcm" for name in ("CR", "DX")}
    for number, (modality, path) in enumerate(sources.items()):
        turned = ("R", "F") if modality == "CR" else ("L", "F")
        write_radiograph(path, phantoms.draw(number, 96).image[:, :80], modality=modality, patient_orientation=turned)
    with orthanc(folder / "orthanc") as pacs:
        subprocess.run(
            ["storescu", "-aec", "ORTHANC", "127.0.0.1", str(pacs.port), *map(str, sources.values())], check=True
        )
        say(f"storescu: {len(sources)} images pushed to Orthanc")
        with label_server(folder, pacs.web, [bundle], options) as url:
            name = next(iter(requests.get(f"{url}/info/", timeout=60).json()["models"]))
            for modality, path in sources.items():
                study = _uid(path, "StudyInstanceUID")
                (series,) = pacs.series(study, modality)
                wanted = model(path, SENTENCE, LATERALITY).mask
                place = f"{url}/infer/{name}?image={series}"
                asked = {"text_prompt": SENTENCE, "laterality": LATERALITY,
                         "label_info": [{"name": "lesion", "model_name": name}]}  # fmt: skip
                said = _post(place + "&output=json", asked).json()
                _same(int(said["mask"]["pixels"]), int(wanted.sum()), f"{modality}: pixels in the answer")
                prompt, level = said["prompt"], said["verdict"]["level"]
                say(f"{modality}: understood {prompt['understood']!r} ({prompt['laterality']}), verdict {level}")
                say(f"{modality}: {said['mask']['pixels']} pixels, as from the bundle itself")
                (folder / "a.dcm").write_bytes(_post(place + "&output=dicom_seg", asked).content)
                seg = highdicom.seg.segread(folder / "a.dcm")
                _same_mask(_pixels(seg, path), wanted, f"{modality}: output=dicom_seg")
                (folder / "mask.nii.gz").write_bytes(_post(place + "&output=image", asked).content)
                corrected = _corrected(folder / "mask.nii.gz")
                with (folder / "mask.nii.gz").open("rb") as file:
                    answer = requests.put(
                        f"{url}/datastore/label?image={series}&tag=final", files={"label": ("mask.nii.gz", file)},
                        data={"params": json.dumps({"label_info": asked["label_info"]})}, timeout=300,
                    )  # fmt: skip
                _same(answer.status_code, 200, f"{modality}: storing a label")
                (stored,) = pacs.series(study, "SEG")
                (folder / "b.dcm").write_bytes(_wado(pacs, study, stored))
                seg = highdicom.seg.segread(folder / "b.dcm")
                _same_mask(_pixels(seg, path), corrected, f"{modality}: the stored segmentation")
                kind = seg.SegmentSequence[0].SegmentAlgorithmType
                say(f"{modality}: corrected mask stored in Orthanc as DICOM SEG ({kind}) and read back by highdicom")
    say("all as it should be")


def _corrected(path: Path) -> np.ndarray:
    """Draw a square into a NIfTI mask, as an annotator would; (rows, columns) bool."""
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj).astype(np.uint8)
    values[5:20, 30:40] = 1 - values[5:20, 30:40]
    nibabel.Nifti1Image(values, image.affine, image.header).to_filename(path)
    return values[..., 0].T > 0


def _pixels(seg: Any, source: Path) -> np.ndarray:
    frames = seg.get_pixels_by_source_instance([_uid(source, "SOPInstanceUID")], assert_missing_frames_are_empty=True)
    return frames[0, ..., 0] > 0


def _wado(pacs: Pacs, study: str, series: str) -> bytes:
    from dicomweb_client import DICOMwebClient

    (dataset,) = DICOMwebClient(pacs.web).retrieve_series(study, series)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def _post(address: str, params: dict[str, Any]) -> Any:
    import requests

    answer = requests.post(address, data={"params": json.dumps(params)}, timeout=300)
    if answer.status_code != 200:
        raise UserError(f"{address}: answered {answer.status_code} {answer.text[:200]}; see server.log")
    return answer


def _same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise UserError(f"{what}: {found}, expected {wanted}; please report it")


def _same_mask(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    if found.shape != wanted.shape or (found != wanted).any():
        raise UserError(f"{what}: is not the mask that was expected; please report it")


def _uid(path: Path, key: str) -> str:
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True)[key].value)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[Callable[[], bool]]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=dict(os.environ))
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        process.wait(60)


def _wait(address: str, alive: Callable[[], bool]) -> None:
    import requests

    end = time.monotonic() + _SECONDS
    while alive() and time.monotonic() < end:
        try:
            if requests.get(address, timeout=60).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.3)
    raise UserError(f"{address}: does not answer; see the log beside its folder")
