import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from common.errors import UserError
from common.images import Algorithm, read_image, write_radiograph, write_secondary_capture

MODEL = Algorithm("mmi_unet", "0.1.0", "ab" * 32)
RGB = np.random.default_rng(0).integers(0, 256, (33, 45, 3), dtype=np.uint8)  # an odd number of bytes


def test_it_holds_the_picture_and_says_whose_it_is(tmp_path, picture):
    source, path = tmp_path / "a.dcm", tmp_path / "sc" / "s.dcm"
    original = write_radiograph(source, picture, patient_id="X 1")
    uid = write_secondary_capture(path, source, RGB, algorithm=MODEL)
    sc = pydicom.dcmread(path)
    assert np.array_equal(sc.pixel_array, RGB)
    assert (sc.SOPInstanceUID, sc.PatientID) == (uid, "X 1")
    assert sc.StudyInstanceUID == pydicom.dcmread(source).StudyInstanceUID
    assert sc.SeriesInstanceUID != pydicom.dcmread(source).SeriesInstanceUID
    assert sc.SourceImageSequence[0].ReferencedSOPInstanceUID == original
    assert (sc.ImageType, sc.BurnedInAnnotation) == (["DERIVED", "SECONDARY"], "YES")


def test_the_same_input_gives_the_same_bytes_and_another_picture_another_uid(tmp_path, picture):
    write_radiograph(tmp_path / "a.dcm", picture)
    uids = [
        write_secondary_capture(tmp_path / name, tmp_path / "a.dcm", rgb, algorithm=MODEL)
        for name, rgb in (("1.dcm", RGB), ("2.dcm", RGB), ("3.dcm", RGB[::-1]))
    ]
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    assert len(set(uids)) == 2


def test_refusals(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="derived from DICOM images"):
        write_secondary_capture(tmp_path / "s.dcm", tmp_path / "a.png", RGB, algorithm=MODEL)
    for wrong in (RGB[..., 0], RGB.astype(float), RGB[..., :2]):
        with pytest.raises(ValueError, match=r"a picture is .rows, columns, 3. uint8"):
            write_secondary_capture(tmp_path / "s.dcm", tmp_path / "a.png", wrong, algorithm=MODEL)


@pytest.mark.full
@pytest.mark.real
def test_dciodvfy_finds_nothing_that_is_not_in_the_source(dicom_dir, tmp_path):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed")
    seen = 0
    for source in sorted(dicom_dir.iterdir()):
        try:
            read_image(source)
            write_secondary_capture(tmp_path / "s.dcm", source, RGB, algorithm=MODEL)
        except UserError:
            continue
        values = pydicom.dcmread(source, force=True, stop_before_pixels=True).SOPInstanceUID
        found = [line for line in errors_of(tmp_path / "s.dcm") if line not in errors_of(source)]
        assert [line for line in found if values not in line] == [], source.name
        seen += 1
    assert seen == 18


def errors_of(path) -> list[str]:
    done = subprocess.run(["dciodvfy", path], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    return [line for line in lines if line.startswith("Error")]
