import importlib
import os
import sys

import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ResizeWithPadOrCropd
from PIL import Image

from common.errors import UserError, user_error
from common.images import ChestReader, read_image, write_mask, write_radiograph
from common.images.reader import format_of

READERS = {
    "class": ChestReader,
    "instance": ChestReader(),
    "dotted path": "common.images.ChestReader",
}


@pytest.fixture
def png(tmp_path, picture):
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    return path


@pytest.mark.parametrize("reader", READERS)
def test_load_image_uses_it_however_it_is_named(png, picture, reader):
    image = LoadImaged("image", reader=READERS[reader])({"image": str(png)})["image"]
    assert image.shape == (41, 30)
    assert image.max() == 1
    assert image.meta["format"] == "png"


@pytest.mark.parametrize("reader", [{"_target_": "common.images.ChestReader"}, "common.images.ChestReader"])
def test_a_config_may_name_it(png, reader):
    config = ConfigParser({"load": {"_target_": "LoadImaged", "keys": ["image"], "reader": reader}})
    assert config.get_parsed_content("load")({"image": str(png)})["image"].meta["format"] == "png"


def test_a_config_may_ask_for_three_channels(png):
    reader = {"_target_": "common.images.ChestReader", "channels": 3}
    config = ConfigParser({"load": {"_target_": "LoadImaged", "keys": ["image"], "reader": reader}})
    item = EnsureChannelFirstd("image")(config.get_parsed_content("load")({"image": str(png)}))
    assert item["image"].shape == (3, 41, 30)


def test_channels_are_one_or_three():
    with pytest.raises(UserError, match="channels is 2; it is 1 or 3"):
        ChestReader(channels=2)


# Every file here but the missing ones can be read by one of MONAI's own readers or is tried by them; the refusal must
# nevertheless reach the user.
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "no such file; check the path"),
        (lambda p: p.write_bytes(b""), r"empty \(0 bytes\); copy it again"),
        (lambda p: p.write_bytes(b"not an image, but long enough to be looked at"), "no image that can be read here"),
        (lambda p: p.mkdir(), "a folder, not an image"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n broken"), "cannot be decoded, damaged or truncated"),
        (lambda p: p.write_bytes(b"\x1f\x8b broken"), "a damaged gzip file"),
        (lambda p: p.symlink_to(p), "cannot be read"),
        (lambda p: os.mkfifo(p), "no ordinary file"),
        (
            lambda p: Image.new("L", (4, 4)).save(
                p, format="TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]
            ),
            "holds 2 pictures",
        ),
    ],
)
def test_a_refusal_reaches_the_user_through_load_image(tmp_path, reader, make, words):
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(Exception, match="") as caught:  # MONAI may wrap it
        Compose([LoadImaged("image", reader=READERS[reader])])({"image": str(path)})
    error = user_error(caught.value)
    assert error is not None
    with pytest.raises(UserError, match=words):
        raise error
    assert str(error).startswith(str(path))
    assert "\n" not in str(error)


def test_several_files_for_one_image_are_refused(png):
    with pytest.raises(RuntimeError) as caught:
        Compose([LoadImaged("image", reader=ChestReader)])({"image": [str(png), str(png)]})
    assert "2 files for one image; name one file" in str(user_error(caught.value))


@pytest.mark.parametrize(
    "name", ["with space.png", "line\nbreak", "żółć-画像.png", 'quote\'s "name"', "-dash", "a.dcm"]
)
def test_names_say_nothing(tmp_path, picture, name):
    path = tmp_path / name
    Image.fromarray(picture).save(path, format="PNG")
    image = LoadImaged("image", reader=ChestReader)({"image": str(path)})["image"]
    assert image.meta["filename_or_obj"] == str(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="empty") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read(png):
    png.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(UserError, match="may not be read by this user; change its permissions"):
            read_image(png)
    finally:
        if root:
            os.seteuid(0)
        png.chmod(0o600)


def sources(tmp_path, picture):
    """The same picture in every format that keeps it."""
    import nibabel

    paths = {suffix: tmp_path / f"a.{suffix}" for suffix in ("png", "tif", "bmp", "nii", "dcm")}
    for suffix in ("png", "tif", "bmp"):
        Image.fromarray(picture).save(paths[suffix])
    nibabel.Nifti1Image(picture.T, np.diag([-1, -1, 1, 1])).to_filename(paths["nii"])
    write_radiograph(paths["dcm"], picture)
    return paths


def test_meta_has_the_same_keys_and_types_for_every_format(tmp_path, picture):
    metas = [read_image(path)[1] for path in sources(tmp_path, picture).values()]
    kinds = [
        {
            key: (type(value), getattr(value, "shape", None), getattr(value, "dtype", None))
            for key, value in meta.items()
        }
        for meta in metas
    ]
    assert all(kind == kinds[0] for kind in kinds)
    assert not any(value is None for meta in metas for value in meta.values())
    documented = sys.modules["common.images"].__doc__
    assert [key for key in metas[0] if f"``{key}``" not in documented] == []


def test_a_batch_may_mix_formats_and_comes_apart_again(tmp_path, picture):
    paths = sources(tmp_path, picture)
    chain = Compose(
        [LoadImaged("image", reader=ChestReader), EnsureChannelFirstd("image"), ResizeWithPadOrCropd("image", (40, 40))]
    )
    batch = next(iter(DataLoader(Dataset([{"image": str(p)} for p in paths.values()], chain), batch_size=5)))
    assert batch["image"].shape == (5, 1, 40, 40)
    items = decollate_batch(batch)
    assert [item["image"].meta["format"] for item in items] == ["png", "tiff", "bmp", "nifti", "dicom"]
    assert [list(item["image"].meta["spatial_shape"]) for item in items] == [[41, 30]] * 5


def test_png_needs_neither_pydicom_nor_nibabel_nor_simpleitk(png, monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] in ("pydicom", "highdicom", "nibabel", "SimpleITK", "gdcm"):
            monkeypatch.setitem(sys.modules, name, None)
        if name.startswith("common.images"):
            monkeypatch.delitem(sys.modules, name)
    images = importlib.import_module("common.images")
    pixels, meta = images.read_image(png)
    images.write_mask(pixels > 0.5, meta, png.with_name("mask.png"))
    assert png.with_name("mask.png").exists()
    for name in list(sys.modules):  # monkeypatch puts the first ones back
        if name.startswith("common.images"):
            monkeypatch.delitem(sys.modules, name)


def test_read_mask_of_read_image(tmp_path, png):
    pixels, meta = read_image(png)
    write_mask(pixels > 0.5, meta, tmp_path / "mask.png")
    assert np.array_equal(read_image(tmp_path / "mask.png")[0], (pixels > 0.5).astype(np.float32))


def test_format_of_looks_at_the_first_bytes_alone(tmp_path, png):
    (tmp_path / "notes.png").write_text("text, whatever the name says")
    (tmp_path / "empty").write_bytes(b"")
    assert format_of(png) == "raster"
    for name, words in (
        ("notes.png", "no image that can be read here"),
        ("empty", "0 bytes"),
        ("none", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            format_of(tmp_path / name)
