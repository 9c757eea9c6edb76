import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.images import display_array, read_image


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_eight_bits_are_divided_by_255_in_monais_axis_order(tmp_path, picture):
    pixels, meta = read_image(save(tmp_path / "a.png", picture))
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, picture.T.astype(np.float32) / np.float32(255))
    assert meta["spatial_shape"].tolist() == [41, 30]
    assert (meta["format"], meta["stored_dtype"], meta["intensity"]) == ("png", "uint8", "full range")
    assert np.isnan(meta["spacing_mm"]).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_is_the_same_from_every_mode(tmp_path, picture, mode, suffix):
    path = save(tmp_path / f"a.{suffix}", picture, mode)
    assert np.array_equal(display_array(path), picture.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(("suffix", "tolerance"), [("bmp", 0), ("webp", 0.2), ("jpeg", 0.2)])
def test_other_formats(tmp_path, suffix, tolerance):
    ramp = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (16, 1))
    path = save(tmp_path / "no_suffix", ramp, format=suffix)
    pixels, meta = read_image(path)
    assert meta["format"] == suffix
    assert np.abs(pixels.T - ramp / 255).max() <= max(tolerance, 1e-6)


def test_cmyk_jpeg_is_converted(tmp_path):
    grey = np.full((16, 16), 200, np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(grey).convert("RGB").convert("CMYK").save(path)
    assert display_array(path) == pytest.approx(200 / 255, abs=0.02)


def test_colour_becomes_luminance_or_three_channels(tmp_path):
    rgb = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", rgb)
    expected = rgb @ [0.299, 0.587, 0.114] / 255
    assert np.abs(display_array(path) - expected).max() < 1 / 255
    pixels, meta = read_image(path, channels=3)
    assert np.array_equal(pixels, rgb.transpose(2, 1, 0).astype(np.float32) / np.float32(255))
    assert meta["original_channel_dim"] == 0
    assert meta["spatial_shape"].tolist() == [7, 5]


def test_grey_is_repeated_for_three_channels(tmp_path, picture):
    pixels, _ = read_image(save(tmp_path / "a.png", picture), channels=3)
    assert pixels.shape == (3, 41, 30)
    assert (pixels == pixels[:1]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_take_their_own_range(tmp_path, picture, suffix):
    deep = picture.astype(np.uint16) * 16 + 7  # a 12-bit detector
    pixels, meta = read_image(save(tmp_path / f"a.{suffix}", deep))
    assert np.abs(pixels.T - picture / 255).max() < 1e-6
    assert (meta["stored_dtype"], meta["intensity"]) == ("uint16", "own range")


def test_a_tiff_may_hold_floats(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    assert np.array_equal(display_array(save(tmp_path / "a.tif", values)), values)
    assert np.array_equal(display_array(save(tmp_path / "b.tif", values * 80 - 40)), values)
    values[0, 0] = np.nan
    assert display_array(save(tmp_path / "c.tif", values))[0, 0] == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path, picture, bits):
    deep = picture if bits == 8 else picture.astype(np.uint16) * 257
    path = tmp_path / "a.tif"
    Image.fromarray(2**bits - 1 - deep).save(path, tiffinfo={262: 0})
    # Pillow inverts 8-bit pixels itself when it writes such a file, and not 16-bit ones.
    shown = display_array(path)
    assert np.abs(shown - (1 - picture / 255 if bits == 8 else picture / 255)).max() < 1e-6


MASK = np.zeros((6, 9), bool)
MASK[1:3, 2:8] = True


@pytest.mark.parametrize("kind", ["0/1", "0/255", "bits", "16-bit 0/1", "16-bit 0/65535", "palette", "red"])
def test_every_mask_becomes_0_and_1(tmp_path, kind):
    path = tmp_path / "mask.png"
    if kind == "bits":
        Image.fromarray(MASK).save(path)
    elif kind == "palette":
        image = Image.fromarray(MASK.astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0])
        image.save(path)
    elif kind == "red":
        Image.fromarray(MASK[..., None] * np.array([255, 0, 0], np.uint8)).save(path)
    else:
        top = {"0/1": 1, "0/255": 255, "16-bit 0/1": 1, "16-bit 0/65535": 65535}[kind]
        Image.fromarray(MASK.astype(np.uint16 if "16" in kind else np.uint8) * top).save(path)
    assert np.array_equal(display_array(path), MASK.astype(np.float32))


@pytest.mark.parametrize("value", [0, 1, 255, 65535])
def test_a_mask_of_one_value(tmp_path, value):
    full = np.full((4, 5), value, np.uint16 if value > 255 else np.uint8)
    assert (display_array(save(tmp_path / "mask.png", full)) == (value > 0)).all()


def test_a_jpeg_with_faint_noise_is_no_mask(tmp_path):
    noise = np.zeros((16, 16), np.uint8)
    noise[4, 4] = 8
    assert display_array(save(tmp_path / "mask.jpg", noise)).max() < 0.5


def test_exif_rotation_is_part_of_the_display(tmp_path):
    stored = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (8, 1))  # brighter to the right
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: display a quarter clockwise
    path = tmp_path / "a.jpg"
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    pixels, meta = read_image(path)
    assert pixels.shape == (16, 8)
    assert meta["orientation_source"] == "EXIF"
    shown = display_array(path)
    assert shown.shape == (16, 8)
    assert shown[0].mean() < 0.1 < 0.9 < shown[-1].mean()  # brighter downwards


def test_several_pictures_are_refused(tmp_path, picture):
    path = tmp_path / "a.tif"
    Image.fromarray(picture).save(path, save_all=True, append_images=[Image.fromarray(picture)])
    with pytest.raises(UserError, match=r"a\.tif: holds 2 pictures; give one picture a file$"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_one_line(tmp_path, suffix, share):
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match="cannot be decoded, damaged or truncated") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_forged_size_is_refused_before_memory_is_asked_for(tmp_path, picture):
    path = save(tmp_path / "a.bmp", picture)
    data = bytearray(path.read_bytes())
    data[18:26] = (12_000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"12000 x 12000 pixels; a picture has 1 to 134217728"):
        read_image(path)
