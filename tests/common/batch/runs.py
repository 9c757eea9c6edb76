"""What the tests of a run share: settings, rows, what was written, and runs in a process of their own."""

import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import numpy as np
import pydicom
from tqdm import tqdm

from common.batch.job import Options
from common.batch.prompts import Prompts
from common.batch.results import read_rows
from common.batch.run import Run, Settings, weights_digest

ROOT = Path(__file__).resolve().parents[3]
PICTURE = np.zeros((64, 48), np.uint8)  # as displayed: bright low at the left, where a patient's right is
PICTURE[40:58, 6:20] = 255


def settings(bundle, root, out, *, text=None, laterality=None, prompts=None, options=(), **more):
    """Of a run without worker processes, unless it is said otherwise."""
    given = {"bundle": str(bundle), "output": Path(out), "weights_sha256": weights_digest(str(bundle), (), {})}
    return Settings(Path(root), Options(**given | dict(options)), prompts or Prompts(None, text, laterality),
                    **{"workers": 0, "device": "cpu"} | more)  # fmt: skip


def silent(total, done):
    return tqdm(total=total, initial=done, disable=True)


def go(*args, stopping=lambda: False, said=lambda line: None, settled=0.0, **more):
    """Do a run; what came of it."""
    return Run(settings(*args, **more), said, stopping).go(silent, settled)


def rows(out):
    """Rows by source."""
    return {row["source"]: row for row in read_rows(Path(out) / "results.json")}


def tree(out):
    """A hash of every file that was written, but of the times it took and of what is kept for going on."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.name != "timing.csv" and ".work" not in path.relative_to(out).parts
    }


def forked(function) -> int:
    """The exit code of a function in a copy of this process: a negative number is the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            code = function() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_slices(folder, count=5, series="1.2.3.7"):
    """CT slices of one series; their names are in another order than they lie in."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = []
    for place in range(count):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"{series}.{place + 1}"
        data.Modality, data.BodyPartExamined, data.ImageType = "CT", "CHEST", ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", series, "1.2.3.9"
        data.PatientID, data.PatientName, data.StudyDate, data.ContentDate = "P", "P", "20200101", "20200101"
        data.StudyTime = data.ContentTime = "120000"
        data.InstanceNumber = place + 1
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 2.0 * place], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.5, 0.7], 2
        data.Rows, data.Columns, data.SamplesPerPixel = 40, 32, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.RescaleIntercept, data.RescaleSlope, data.WindowCenter, data.WindowWidth = 0, 1, 500, 1000
        pixels = np.zeros((40, 32), np.uint16)
        pixels[5 + place : 20 + place, 3 : 12 + 2 * place] = 1000
        pixels[30, :] = np.arange(32) * 30
        data.PixelData = pixels.tobytes()
        data.save_as(folder / f"{'ecadb'[place % 5]}{place // 5}.dcm", enforce_file_format=True)
        uids.append(data.SOPInstanceUID)
    return uids


def like(bundle, folder, grammar="chest", modality="CR, DX"):
    """A bundle for other images."""
    shutil.copytree(bundle, folder)
    for name in ("metadata", "inference"):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text())
        content["grammar"] = grammar
        if name == "metadata":
            content["modality"] = modality
        path.write_text(json.dumps(content))
    return folder
