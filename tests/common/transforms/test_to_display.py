import itertools

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Resized,
    SaveImaged,
    SqueezeDimd,
)
from PIL import Image

from common.errors import UserError, user_error
from common.images import ChestReader, read_image, to_stored, write_mask, write_radiograph
from common.transforms import ToDisplayd

KEYS = ["image", "label"]
ORIENTATIONS = [
    None, ("L", "F"), ("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("F", "R"), ("H", "L"), ("H", "R"),
    ("P", "F"), ("A", "F"), ("A", "H"), ("L", "P"), ("R", "A"),
]  # fmt: skip
PHOTOMETRIC = ["MONOCHROME1", "MONOCHROME2"]


def chain(*more):
    return Compose(
        [
            LoadImaged(KEYS, reader=ChestReader, allow_missing_keys=True),
            EnsureChannelFirstd(KEYS, allow_missing_keys=True),
            ToDisplayd(KEYS, allow_missing_keys=True),
            *more,
        ]
    )


@pytest.fixture
def picture():
    """As displayed; its four corners, and rows and columns, differ."""
    pixels = np.random.default_rng(0).integers(20, 200, (48, 64), dtype=np.uint8)
    pixels[4:12, 6:26] = 255
    pixels[30:44, 50:56] = 0
    return pixels


@pytest.fixture
def png(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize("photometric", PHOTOMETRIC)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_one_picture_is_one_tensor_as_png_and_as_dicom(tmp_path, picture, png, photometric, orientation):
    path = tmp_path / "a.dcm"
    write_radiograph(path, picture, photometric=photometric, patient_orientation=orientation)
    first, second = (chain()({"image": str(p)})["image"] for p in (png, path))
    assert first.shape == (1, 48, 64)
    assert np.array_equal(first[0].numpy(), picture.astype(np.float32) / np.float32(255))
    assert torch.equal(first.as_tensor(), second.as_tensor())


def finish(transform, folder):
    """The post-processing of every bundle."""
    return Compose(
        [
            Invertd("pred", transform, orig_keys="image", nearest_interp=False, to_tensor=True),
            SqueezeDimd("pred", dim=0),
            SaveImaged("pred", output_dir=folder, output_ext=".png", output_postfix="mask", output_dtype="uint8",
                       scale=255, separate_folder=False, resample=False, print_log=False),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("size", [None, (24, 32), (40, 40)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_comes_back_to_its_place_in_the_stored_grid(tmp_path, picture, orientation, size):
    """By SaveImaged and by write_mask; the file's own rows and columns are those of the DICOM pixels."""
    import pydicom

    path = tmp_path / "a.dcm"
    write_radiograph(path, picture, photometric="MONOCHROME2", patient_orientation=orientation)
    transform = chain(*([Resized("image", size, mode="bilinear")] if size else []))
    item = transform({"image": str(path)})
    lesion = (item["image"] > 0.9).float()  # the bright block
    item["pred"] = MetaTensor(lesion.as_tensor())
    result = finish(transform, tmp_path)(item)["pred"]
    _, meta = read_image(path)
    write_mask((result >= 0.5).numpy(), meta, tmp_path / "b.png")

    stored = pydicom.dcmread(path).pixel_array == 255
    for name in ("a_mask.png", "b.png"):
        written = np.asarray(Image.open(tmp_path / name)) >= 128
        assert written.shape == stored.shape
        wrong = (written != stored).mean()
        assert wrong == 0 if size is None else wrong < 0.03
        rows, columns = (np.argwhere(x).mean(0) for x in (written, stored))
        assert np.abs(rows - columns).max() < 0.6


def test_the_inverse_restores_grid_affine_and_many_channels(tmp_path, picture):
    for orientation in ORIENTATIONS:
        path = tmp_path / "a.dcm"
        write_radiograph(path, picture, patient_orientation=orientation, spacing=(0.3, 0.7))
        stored, meta = read_image(path)
        step = ToDisplayd("image")
        item = step(
            {"image": MetaTensor(torch.from_numpy(np.stack([stored] * 3)), meta=dict(meta), affine=meta["affine"])}
        )
        back = step.inverse(item)["image"]
        assert torch.equal(back.as_tensor(), torch.from_numpy(np.stack([stored] * 3)))
        assert np.array_equal(back.affine.numpy(), meta["affine"])
        assert back.applied_operations == []


def test_the_affine_follows_the_pixels(tmp_path, picture):
    for orientation in ORIENTATIONS:
        path = tmp_path / "a.dcm"
        write_radiograph(path, picture, patient_orientation=orientation, spacing=(0.3, 0.7))
        stored, meta = read_image(path)
        image = chain()({"image": str(path)})["image"]
        value = np.float32(1.0)
        row, column = np.argwhere(image[0].numpy() == value)[0]
        place = image.affine.numpy() @ [row, column, 0, 1]
        x, y = np.round(np.linalg.solve(meta["affine"], place))[:2].astype(int)
        assert stored[x, y] == value
        # Nothing else of that value may be hit by chance: a place in the middle of the picture too.
        place = image.affine.numpy() @ [17, 40, 0, 1]
        x, y = np.round(np.linalg.solve(meta["affine"], place))[:2].astype(int)
        assert stored[x, y] == image[0, 17, 40]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["png", "nii.gz"])
def test_a_mask_that_we_wrote_lies_on_its_image_again(tmp_path, picture, orientation, suffix):
    write_radiograph(tmp_path / "a.dcm", picture, patient_orientation=orientation)
    _, meta = read_image(tmp_path / "a.dcm")
    write_mask(to_stored(picture == 255, meta["display"]), meta, tmp_path / f"m.{suffix}")
    item = chain()({"image": str(tmp_path / "a.dcm"), "label": str(tmp_path / f"m.{suffix}")})
    assert np.array_equal(item["label"][0].numpy() > 0.5, picture == 255)
    assert torch.equal(item["label"] > 0.5, item["image"] == 1)


@pytest.mark.parametrize("orientation", [None, ("L", "F"), ("R", "F"), ("F", "L")])
@pytest.mark.parametrize("suffix", ["png", "nii"])
def test_a_mask_of_another_size_is_refused(tmp_path, picture, orientation, suffix):
    """Also on an image that lies as displayed, and a mask with an orientation: never resized in silence."""
    write_radiograph(tmp_path / "a.dcm", picture, patient_orientation=orientation)
    write_radiograph(tmp_path / "b.dcm", picture[:40], patient_orientation=("L", "F"))
    stored, meta = read_image(tmp_path / "b.dcm")
    write_mask(stored, meta, tmp_path / f"m.{suffix}")
    with pytest.raises(RuntimeError) as caught:
        chain()({"image": str(tmp_path / "a.dcm"), "label": str(tmp_path / f"m.{suffix}")})
    size = "40 x 64" if orientation == ("F", "L") and suffix == "png" else "64 x 40"
    assert f"m.{suffix}: the mask is {size} pixels, its image 64 x 48; give a mask on its image's grid" in str(
        user_error(caught.value)
    )


def test_an_image_without_meta_is_refused():
    with pytest.raises(
        UserError, match=r"image: no meta, so no way to display; load it with common.images.ChestReader"
    ):
        ToDisplayd("image")({"image": torch.zeros(1, 4, 5)})


def test_a_missing_key_is_passed_over_only_when_allowed(png):
    assert set(chain()({"image": str(png)})) == {"image"}
    with pytest.raises(KeyError):
        ToDisplayd(KEYS)({"image": chain()({"image": str(png)})["image"]})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mixed_batch_is_inverted_item_by_item(tmp_path, picture, png, workers):
    paths = [png]
    for i, orientation in enumerate([("R", "F"), ("F", "L")]):
        paths.append(tmp_path / f"{i}.dcm")
        write_radiograph(paths[-1], picture, patient_orientation=orientation)
    transform = chain(Resized("image", (32, 32)))
    loader = DataLoader(Dataset([{"image": str(p)} for p in paths], transform), batch_size=3, num_workers=workers)
    batch = next(iter(loader))
    batch["pred"] = batch["image"].clone()
    invert = Invertd("pred", transform, orig_keys="image", nearest_interp=False)
    for path, item in zip(paths, decollate_batch(batch), strict=True):
        stored, _ = read_image(path)
        back = invert(item)["pred"][0].numpy()
        assert back.shape == stored.shape
        blocks = [np.argwhere(x > 0.9).mean(0) for x in (back, stored)]
        assert np.abs(blocks[0] - blocks[1]).max() < 1


def test_every_pair_of_ways_differs_for_some_picture(tmp_path, picture):
    """Were the letters ignored, stored grids would come out as they are, and differ."""
    grids = {}
    for orientation in [("L", "F"), ("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("F", "R"), ("H", "L"), ("H", "R")]:
        write_radiograph(tmp_path / "a.dcm", picture, patient_orientation=orientation)
        grids[orientation] = read_image(tmp_path / "a.dcm")[0]
    for (_, a), (_, b) in itertools.combinations(grids.items(), 2):
        assert a.shape != b.shape or not np.array_equal(a, b)
