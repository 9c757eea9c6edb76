import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image

from common.errors import UserError
from common.images import display_array, read_image, write_radiograph

ORIENTATIONS = [("L", "F"), ("R", "F"), ("F", "L"), ("H", "R"), ("A", "F"), None]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_reads_back_as_the_png_of_the_same_picture(tmp_path, picture, photometric, orientation, dtype):
    pixels = picture.astype(dtype) * (1 if dtype == np.uint8 else 13)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_radiograph(tmp_path / "a.dcm", pixels, photometric=photometric, patient_orientation=orientation)
    assert np.array_equal(display_array(tmp_path / "a.dcm"), display_array(tmp_path / "a.png"))


def test_the_stored_grid_lies_as_the_letters_say(tmp_path, picture):
    write_radiograph(tmp_path / "a.dcm", picture, patient_orientation=("F", "L"), spacing=(0.1, 0.2))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert np.array_equal(dataset.pixel_array, picture.T)  # along a stored row it goes down the patient
    assert list(dataset.ImagerPixelSpacing) == [0.2, 0.1]
    assert read_image(tmp_path / "a.dcm")[1]["spacing_mm"].tolist() == [0.1, 0.2]


def test_a_rerun_writes_the_same_bytes_and_another_picture_other_uids(tmp_path, picture):
    uids = [
        write_radiograph(tmp_path / "a.dcm", picture),
        write_radiograph(tmp_path / "b.dcm", picture),
        write_radiograph(tmp_path / "c.dcm", picture[::-1]),
        write_radiograph(tmp_path / "d.dcm", picture, modality="CR"),
    ]
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert uids[0] == uids[1]
    assert len(set(uids)) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modality": "MR"}, "modality is MR; it is one of DX, CR"),
        ({"photometric": "RGB"}, "photometric is RGB; it is one of MONOCHROME1, MONOCHROME2"),
        ({"view": "XX"}, "view is XX; it is one of PA, AP, LL"),
        ({"patient_orientation": ("L", "R")}, r"patient_orientation is \('L', 'R'\); give two directions"),
        ({"spacing": None}, "a DX needs its ImagerPixelSpacing"),
    ],
)
def test_refusals(tmp_path, picture, options, words):
    with pytest.raises(UserError, match=words):
        write_radiograph(tmp_path / "a.dcm", picture, **options)


def test_pixels_of_another_type_are_refused(tmp_path, picture):
    with pytest.raises(UserError, match=r"pixels are float64 \(30, 41\); give \(rows, columns\) uint8 or uint16"):
        write_radiograph(tmp_path / "a.dcm", picture / 255)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("modality", ["DX", "CR"])
@pytest.mark.parametrize("view", ["PA", "AP", "LL"])
def test_dciodvfy_finds_no_error(tmp_path, picture, modality, view):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        write_radiograph(tmp_path / "a.dcm", picture, modality=modality, view=view, photometric=photometric)
        done = subprocess.run(["dciodvfy", tmp_path / "a.dcm"], capture_output=True, text=True)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
