import nibabel
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.images import read_image, write_mask

MASK = np.zeros((41, 30), np.uint8)  # (W, H), in no way symmetric
MASK[3:9, 20:28] = 1


@pytest.fixture
def source(dicom):
    """A CT slice with a place in the patient."""
    return dicom(
        np.arange(30 * 41, dtype=np.int16).reshape(30, 41),
        Modality="CT",
        RescaleIntercept=-1024,
        RescaleSlope=1,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[-10, -20, 30],
        PixelSpacing=[0.5, 0.8],
        SliceThickness=3,
    )


def test_png_lies_on_the_stored_rows_and_columns(tmp_path, source):
    _, meta = read_image(source)
    write_mask(MASK, meta, tmp_path / "m.png")
    written = np.asarray(Image.open(tmp_path / "m.png"))
    assert np.array_equal(written, MASK.T * 255)
    assert written.dtype == np.uint8


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "1.2.840.NII.GZ"])
def test_nifti_of_dicom_has_its_place(tmp_path, source, name):
    _, meta = read_image(source)
    write_mask(MASK[None], meta, tmp_path / name)
    image = nibabel.load(tmp_path / name)
    assert image.shape == (41, 30, 1)
    assert np.array_equal(np.asarray(image.dataobj)[..., 0], MASK)
    # Of column 3, row 20: LPS (-10 + 2.4, -20 + 10, 30).
    assert nibabel.affines.apply_affine(image.affine, [3, 20, 0]) == pytest.approx([7.6, 10, 30])
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("shape", [(41, 30), (41, 30, 1), (41, 30, 1, 1)])
@pytest.mark.parametrize("cls", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_of_nifti_keeps_header_and_axes(tmp_path, shape, cls):
    affine = np.array([[0, 0.5, 0, 7], [-0.8, 0, 0, 8], [0, 0, 2, 9], [0, 0, 0, 1.0]])
    source = cls(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine)
    source.header.set_xyzt_units("mm")
    source.set_sform(affine, 1)
    source.set_qform(affine, 2)
    source.to_filename(tmp_path / "a.nii.gz")
    _, meta = read_image(tmp_path / "a.nii.gz")
    write_mask(MASK, meta, tmp_path / "m.nii.gz")
    written = nibabel.load(tmp_path / "m.nii.gz")
    assert written.shape == shape
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(written.affine, nibabel.load(tmp_path / "a.nii.gz").affine)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 2)
    assert np.array_equal(np.asarray(written.dataobj).reshape(41, 30), MASK)
    assert np.array_equal(read_image(tmp_path / "m.nii.gz")[1]["display"], meta["display"])


def test_probabilities_are_cut_at_one_half(tmp_path, source):
    _, meta = read_image(source)
    write_mask(MASK * 0.5 + 0.1 * (1 - MASK), meta, tmp_path / "m.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m.png")).T > 0, MASK > 0)


def test_a_mask_in_another_grid_is_never_written(tmp_path, source):
    _, meta = read_image(source)
    with pytest.raises(ValueError, match=r"shape \(30, 41\) for a source whose stored grid is \(41, 30\)"):
        write_mask(MASK.T, meta, tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()


def test_another_ending_is_refused(tmp_path, source):
    _, meta = read_image(source)
    with pytest.raises(UserError, match=r"m\.jpg: masks are written as \.png, \.nii or \.nii\.gz"):
        write_mask(MASK, meta, tmp_path / "m.jpg")


@pytest.mark.parametrize("name", ["m.png", "m.nii.gz"])
def test_writing_twice_gives_the_same_bytes(tmp_path, source, name):
    _, meta = read_image(source)
    write_mask(MASK, meta, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    write_mask(MASK, meta, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def test_a_name_of_the_greatest_length_can_be_written(tmp_path, source):
    _, meta = read_image(source)
    path = tmp_path / ("n" * 251 + ".png")
    write_mask(MASK, meta, path)
    assert path.exists()
