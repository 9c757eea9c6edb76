import numpy as np
import pytest
from PIL import Image

from common.images import read_image, write_radiograph
from common.images.sides import plane, sides_unknown


def of_dicom(path, orientation, view="PA"):
    write_radiograph(path, np.zeros((6, 8), np.uint8), patient_orientation=orientation, view=view)
    return read_image(path)[1]


@pytest.mark.parametrize(
    ("orientation", "view", "shows", "reason"),
    [
        (("L", "F"), "PA", "frontal", ""),
        (("F", "R"), "AP", "frontal", ""),
        (("L", "P"), "PA", "axial", ""),
        (("A", "F"), "PA", "lateral", "lateral view: sides are not known"),
        (("H", "P"), "LL", "lateral", "lateral view: sides are not known"),
        (("L", "F"), "LL", "lateral", "lateral view: sides are not known"),
        (None, "LL", "lateral", "lateral view: sides are not known"),
        (None, "PA", "", "no orientation in the file: taken as displayed, sides are not known"),
    ],
)
def test_dicom(tmp_path, orientation, view, shows, reason):
    meta = of_dicom(tmp_path / "a.dcm", orientation, view)
    assert (plane(meta), sides_unknown(meta)) == (shows, reason)


def test_a_format_that_cannot_tell_is_taken_as_displayed(tmp_path):
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "a.png")
    meta = read_image(tmp_path / "a.png")[1]
    assert (plane(meta), sides_unknown(meta)) == ("", "")


@pytest.mark.parametrize(("affine", "reason"), [(np.diag([-1, -1, 2, 1.0]), ""), (np.eye(4), "no orientation")])
def test_nifti(tmp_path, affine, reason):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 6, 1), np.uint8), affine), tmp_path / "a.nii.gz")
    meta = read_image(tmp_path / "a.nii.gz")[1]
    assert plane(meta) == ("" if reason else "axial")
    assert sides_unknown(meta).startswith(reason)
    assert bool(sides_unknown(meta)) is bool(reason)
