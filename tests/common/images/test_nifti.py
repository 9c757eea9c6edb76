import gzip

import nibabel
import numpy as np
import pytest

from common.errors import UserError
from common.images import display_array, read_image
from common.images.meta import CT_WINDOW

LPS = np.diag([-0.5, -0.8, 3.0, 1.0])


def save(path, values, affine=LPS, cls=nibabel.Nifti1Image):
    cls(values, affine).to_filename(path)
    return path


def test_a_slice_as_itk_writes_it_is_as_displayed(tmp_path, picture):
    path = save(tmp_path / "a.nii.gz", picture.T[..., None])
    pixels, meta = read_image(path)
    assert np.array_equal(pixels, picture.T.astype(np.float32) / np.float32(255))
    assert np.array_equal(display_array(path), pixels.T)
    assert (meta["orientation"], meta["orientation_source"], meta["format"]) == ("L\\P", "affine", "nifti")
    assert meta["spacing_mm"].tolist() == pytest.approx([0.8, 0.5])
    assert np.allclose(meta["affine"], LPS, rtol=1e-6)  # NIfTI holds it in 32 bits


@pytest.mark.parametrize("shape", [(41, 30), (41, 30, 1), (41, 30, 1, 1)])
@pytest.mark.parametrize("cls", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("packed", [False, True])
def test_shapes_versions_and_names(tmp_path, picture, shape, cls, packed):
    data = save(tmp_path / "a.nii", picture.T.reshape(shape), cls=cls).read_bytes()
    path = tmp_path / "no suffix"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert np.array_equal(display_array(path), picture.astype(np.float32) / np.float32(255))


# Nibabel itself is the reference: reorient to the display's directions, then compare.
@pytest.mark.parametrize(
    ("codes", "display_codes"),
    [("RAS", "LPS"), ("LAS", "LPS"), ("RPS", "LPS"), ("PLS", "LPS"), ("ARS", "LPS"), ("LIP", "LIP"), ("RSA", "LIP")],
)
def test_orientation_from_the_affine(tmp_path, picture, codes, display_codes):
    start = nibabel.orientations.axcodes2ornt(display_codes)
    affine = nibabel.orientations.inv_ornt_aff(start, (41, 30, 1)) @ np.diag([1, 2, 3, 1.0])
    shown = nibabel.Nifti1Image(picture.T[..., None], affine)
    assert "".join(nibabel.aff2axcodes(shown.affine)) == display_codes
    end = nibabel.orientations.axcodes2ornt(codes)
    other = shown.as_reoriented(nibabel.orientations.ornt_transform(start, end))
    assert "".join(nibabel.aff2axcodes(other.affine)) == codes
    path = tmp_path / "a.nii"
    other.to_filename(path)
    assert np.array_equal(display_array(path), picture.astype(np.float32) / np.float32(255))
    assert read_image(path)[1]["spacing_mm"].tolist() == pytest.approx([2, 1])


@pytest.mark.parametrize("how", ["identity", "no codes"])
def test_an_affine_that_says_nothing_is_as_displayed(tmp_path, picture, how):
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(picture.T, np.eye(4) if how == "identity" else None)
    image.to_filename(path)
    assert np.array_equal(display_array(path), picture.astype(np.float32) / np.float32(255))
    assert read_image(path)[1]["orientation_source"] == ""


def test_masks_and_units_and_ranges(tmp_path):
    low, high = CT_WINDOW
    for values, expected, intensity in (
        (np.array([[0, 1], [1, 0]], np.uint8), [[0, 1], [1, 0]], "unit"),
        (np.array([[0, 255], [51, 0]], np.uint8), [[0, 1], [0.2, 0]], "full range"),
        (np.array([[1, 1], [1, 1]], np.int16), [[1, 1], [1, 1]], "unit"),
        (np.array([[100, 300], [200, 100]], np.int16), [[0, 1], [0.5, 0]], "own range"),
        (np.array([[low - 5, high], [(low + high) / 2, low]], np.float32), [[0, 1], [0.5, 0]], "CT window"),
        (np.array([[0, np.nan], [1, np.inf]], np.float32), [[0, 0], [1, 1]], "unit"),
    ):
        pixels, meta = read_image(save(tmp_path / "a.nii", values))
        assert np.allclose(pixels, expected, atol=1e-6)
        assert meta["intensity"] == intensity


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 5, 6), np.uint8), "a volume of 4 x 5 x 6; give one slice"),
        (np.zeros((4, 5, 1, 2), np.uint8), "a volume of 4 x 5 x 1 x 2; give one slice"),
        (np.zeros((4, 5), np.complex64), "its values are complex64, not grey values"),
        (np.zeros((4,), np.uint8), "a volume of 4; give one slice"),
    ],
)
def test_refusals(tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        read_image(save(tmp_path / "a.nii", values))


def test_a_singular_affine_is_refused(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 5), np.uint8), LPS)
    image.header.set_sform(np.zeros((4, 4)), 1)
    path = tmp_path / "a.nii"
    path.write_bytes(image.to_bytes())
    data = bytearray(path.read_bytes())
    data[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(data)
    with pytest.raises(UserError, match="its affine cannot be inverted"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncation_is_one_line(tmp_path, suffix, share):
    values = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", values)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"damaged|no image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_pair_of_files_is_refused(tmp_path):
    nibabel.Nifti1Pair(np.zeros((4, 5), np.uint8), LPS).to_filename(tmp_path / "a.img")
    with pytest.raises(UserError, match=r"pixels are in another file; save it as one .nii"):
        read_image(tmp_path / "a.hdr")


def test_endless_gzip_after_the_slice_is_not_unpacked(tmp_path, picture):
    data = save(tmp_path / "a.nii", picture.T).read_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(data + bytes(2**26)))
    assert np.array_equal(display_array(path), picture.astype(np.float32) / np.float32(255))
