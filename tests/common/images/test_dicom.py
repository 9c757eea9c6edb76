import csv

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.images import display_array, read_image, write_radiograph
from common.images.meta import CT_WINDOW

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

# What becomes of each real file. Read: (W, H), what made the intensities, orientation, mean of the picture (right to
# the eye on a contact sheet: bone and marker bright, lung and air dark). Refused: the words.
READ = {
    "cr_chest_mono1_10bit_no_preamble": ((440, 440), "window", "", 0.547),
    "cr_extremity_mono1_j2k_lossless.dcm": ((1760, 1760), "window", "R\\F", 0.696),
    "cr_modality_lut_mono1_jpegll.dcm": ((1976, 1576), "own range", "", 0.302),
    "ct1_j2k_lossy_no_ext": ((512, 512), "CT window", "L\\P", 0.470),
    "ct_bad_sequence_jpegll.dcm": ((512, 512), "CT window", "L\\P", 0.752),
    "ct_chest_helical_implicit.dcm": ((512, 512), "CT window", "L\\P", 0.454),
    "ct_chest_mono2_16_jpeg_lossless.dcm": ((512, 400), "window", "L\\F", 0.579),
    "ct_scout_surview_12bit.dcm": ((512, 512), "window", "L\\F", 0.239),
    "ct_small_highdicom.dcm": ((128, 128), "CT window", "L\\P", 0.714),
    "ct_small_pydicom.dcm": ((128, 128), "CT window", "L\\P", 0.714),
    "cxr_siim_pa_jpegbaseline_mono1_faketag.dcm": ((1024, 1024), "full range", "", 0.371),
    "cxr_siim_pa_jpegbaseline_mono2.dcm": ((1024, 1024), "full range", "", 0.629),
    "dicomlibrary_sample.dcm": ((512, 512), "full range", "", 0.361),
    "dx_small.dcm": ((211, 169), "window", "L\\F", 0.350),
    "j2k_pixelrep_mismatch.dcm": ((512, 512), "CT window", "L\\P", 0.442),
    "jpegls_lossless_16_15.dcm": ((128, 128), "own range", "", 0.377),
    "mr_bigendian.dcm": ((64, 64), "window", "L\\P", 0.443),
    "nm_jpeg_ll.dcm": ((256, 1024), "own range", "", 0.049),
    "voi_lut_8bit.dcm": ((512, 512), "VOI LUT", "", 0.505),
}
REFUSED = {
    "ct_rgb_blank.dcm": r"colour \(RGB\)",
    "float_pixels.dcm": "a parametric map of floating-point values",
    "no_meta.dcm": "no image that can be read here",
    "palette_16.dcm": "palette colour",
    "palette_no_meta.dcm": "palette colour",
    "rtplan_no_pixels.dcm": r"a radiotherapy plan \(RTPLAN\), not an image",
    "seg_cr_binary.dcm": r"a segmentation \(SEG\), not an image",
    "seg_ct_binary.dcm": r"a segmentation \(SEG\), not an image",
    "us_ybr_multiframe.dcm": r"colour \(YBR_FULL_422\)",
}


@pytest.mark.real
def test_each_of_the_28_files_has_its_outcome(dicom_dir):
    rows = list(csv.DictReader((dicom_dir / "manifest.csv").open()))
    assert {row["path"] for row in rows} == READ.keys() | REFUSED.keys()
    # The rule, from the manifest alone: every CR, DX and CT but the blank RGB one, and all JPEG Lossless ones.
    for row in rows:
        chest_kind = row["modality"] in ("CR", "DX", "CT") and row["photometric"] != "RGB"
        if chest_kind or "JPEG Lossless" in row["transfer_syntax"]:
            assert row["path"] in READ


@pytest.mark.real
@pytest.mark.parametrize("name", READ)
def test_a_real_file_is_read(dicom_dir, name):
    shape, intensity, orientation, mean = READ[name]
    pixels, meta = read_image(dicom_dir / name)
    assert pixels.shape == shape
    assert pixels.dtype == np.float32
    assert (meta["intensity"], meta["orientation"]) == (intensity, orientation)
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert pixels.mean() == pytest.approx(mean, abs=0.002)


@pytest.mark.real
@pytest.mark.parametrize("name", REFUSED)
def test_a_real_file_is_refused_in_one_line(dicom_dir, name):
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        read_image(dicom_dir / name)
    assert str(caught.value).startswith(str(dicom_dir / name))
    assert "\n" not in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize("name", [n for n, (_, how, _, _) in READ.items() if how in ("window", "VOI LUT")])
def test_windows_and_luts_agree_with_pydicom(dicom_dir, name):
    dataset = pydicom.dcmread(dicom_dir / name, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    values = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
    expected = pydicom.pixels.apply_voi_lut(values, dataset, index=0).astype(float)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        expected = expected.max() + expected.min() - expected
    got = read_image(dicom_dir / name)[0].T
    slope, offset = np.polyfit(got.ravel().astype(float), expected.ravel(), 1)
    assert slope > 0
    assert np.abs(got * slope + offset - expected).max() < 1e-3 * slope


@pytest.mark.real
@pytest.mark.parametrize("name", [n for n, (_, how, _, _) in READ.items() if how == "CT window"])
def test_hounsfield_units_agree_with_pydicom(dicom_dir, name):
    dataset = pydicom.dcmread(dicom_dir / name, force=True)
    units = pydicom.pixels.apply_rescale(dataset.pixel_array, dataset)
    low, high = CT_WINDOW
    assert np.abs(read_image(dicom_dir / name)[0].T - np.clip((units - low) / (high - low), 0, 1)).max() < 1e-6


@pytest.mark.real
def test_the_true_mirror_of_a_marker(dicom_dir):
    """The extremity is stored R\\F: its 'R' marker (a bright glyph on black) reads correctly only as displayed."""
    path = dicom_dir / "cr_extremity_mono1_j2k_lossless.dcm"
    stored, _ = read_image(path)
    assert np.array_equal(display_array(path), stored.T[:, ::-1])


def ramp(low, high, dtype):
    return np.linspace(low, high, 64).round().astype(dtype).reshape(8, 8)


def test_meta_has_no_name_of_a_person(dicom):
    _, meta = read_image(dicom(ramp(0, 255, np.uint8), BodyPartExamined="CHEST", ViewPosition="PA"))
    assert (meta["modality"], meta["body_part"], meta["view"]) == ("CR", "CHEST", "PA")
    assert "Doe" not in repr(meta)


def test_eight_bits_without_voi_are_divided_by_255(dicom):
    pixels = ramp(20, 200, np.uint8)
    assert np.array_equal(display_array(dicom(pixels)), pixels.astype(np.float32) / np.float32(255))
    inverted = dicom(255 - pixels, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(display_array(inverted), pixels.astype(np.float32) / np.float32(255))


def test_more_bits_without_voi_take_their_own_range(dicom):
    shown = display_array(dicom(ramp(300, 3000, np.uint16), BitsStored=12, HighBit=11))
    assert (shown.min(), shown.max()) == (0, 1)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: c=100, w=51: from c - 0.5 - 25 = 74.5 to 124.5
        ("LINEAR", 74, 0),
        ("LINEAR", 75, 0.01),
        ("LINEAR", 100, 0.51),
        ("LINEAR", 125, 1),
        (None, 100, 0.51),
        # C.11.2.1.3.2: from c - w/2 = 74.5 to 125.5
        ("LINEAR_EXACT", 75, 0.5 / 51),
        ("LINEAR_EXACT", 100, 0.5),
        # C.11.2.1.3.1
        ("SIGMOID", 100, 0.5),
        ("SIGMOID", 125, 1 / (1 + np.exp(-4 * 25 / 51))),
    ],
)
def test_window_functions(dicom, function, value, expected):
    pixels = ramp(0, 255, np.uint8)
    pixels[0, 0] = value
    path = dicom(pixels, WindowCenter=100, WindowWidth=51, VOILUTFunction=function)
    assert display_array(path)[0, 0] == pytest.approx(expected, abs=1e-5)


def test_of_several_windows_the_first_counts(dicom):
    pixels = ramp(0, 255, np.uint8)
    one = display_array(dicom(pixels, WindowCenter=100, WindowWidth=51))
    assert np.array_equal(display_array(dicom(pixels, WindowCenter=[100, 30], WindowWidth=[51, 10])), one)


@pytest.mark.parametrize(("centre", "width"), [(5000, 100), (-300, 50), (100, 0), (100, -4)])
def test_a_window_that_shows_nothing_is_ignored(dicom, centre, width):
    _, meta = read_image(dicom(ramp(0, 255, np.uint8), WindowCenter=centre, WindowWidth=width))
    assert meta["intensity"] == "full range"


def test_rescale_comes_before_the_window(dicom):
    pixels = ramp(0, 1000, np.uint16)
    path = dicom(pixels, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=500.5, WindowWidth=1001)
    assert np.abs(display_array(path) - np.clip((2.0 * pixels - 100) / 1000, 0, 1)).max() < 1e-6


def lut(entries, first, bits, data):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [entries, first, bits])
    item.add_new("LUTData", "US", list(data))
    return [item]


def test_a_voi_lut_is_preferred_to_a_window(dicom):
    pixels = ramp(0, 20, np.uint8)
    squares = [i * i for i in range(16)]  # entries for stored values 2 to 17
    path = dicom(pixels, WindowCenter=1, WindowWidth=2, sequences={"VOILUTSequence": lut(16, 2, 8, squares)})
    expected = np.array(squares)[np.clip(pixels.astype(int) - 2, 0, 15)] / 255
    assert np.abs(display_array(path) - expected).max() < 1e-6


def test_a_modality_lut_replaces_rescale(dicom):
    pixels = ramp(0, 3, np.uint8)
    item = lut(4, 0, 16, [1000, 400, 900, 2000])
    item[0].ModalityLUTType = "US"
    shown = display_array(dicom(pixels, RescaleSlope=7, RescaleIntercept=3, sequences={"ModalityLUTSequence": item}))
    expected = (np.array([1000, 400, 900, 2000])[pixels] - 400) / 1600
    assert np.abs(shown - expected).max() < 1e-6


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, 3])
def test_padding_is_black_and_outside_the_range(dicom, photometric, limit):
    pixels = ramp(1000, 2000, np.uint16)
    pixels[0] = 0
    pixels[1] = 0 if limit is None else limit
    path = dicom(pixels, PhotometricInterpretation=photometric, PixelPaddingValue=0, PixelPaddingRangeLimit=limit)
    shown = display_array(path)
    assert (shown[:2] == 0).all()
    rest = shown[2:]
    assert rest.max() == 1
    assert np.sort(rest.ravel())[0] == 0  # the range is that of the picture alone


def test_negative_padding_written_as_unsigned_bits(dicom):
    pixels = ramp(0, 500, np.int16)
    pixels[0] = -2000
    path = dicom(pixels)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.save_as(path)
    shown = display_array(path)
    assert (shown[0] == 0).all()
    assert shown[1:].min() == 0


def test_ct_takes_the_lung_window_whatever_the_file_proposes(dicom):
    pixels = ramp(-1200, 600, np.int16)
    path = dicom(pixels, Modality="CT", RescaleSlope=1, RescaleIntercept=0, WindowCenter=40, WindowWidth=400)
    low, high = CT_WINDOW
    assert np.abs(display_array(path) - np.clip((pixels - low) / (high - low), 0, 1)).max() < 1e-6
    scout = dicom(
        pixels,
        Modality="CT",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        RescaleSlope=1,
        RescaleIntercept=0,
        WindowCenter=40,
        WindowWidth=400,
    )
    assert read_image(scout)[1]["intensity"] == "window"


def test_overlays_in_unused_bits_are_not_picture(dicom):
    pixels = ramp(0, 4095, np.uint16)
    path = dicom(pixels | 0x8000, BitsStored=12, HighBit=11)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x60000102, "US", 15)
    dataset.save_as(path)
    assert np.abs(display_array(path) - pixels / 4095).max() < 1e-6


@pytest.mark.parametrize(
    ("syntax", "decoder"),
    [
        ("JPEGBaseline8Bit", "pillow"),
        ("JPEG2000Lossless", "pillow"),
        ("JPEGLSLossless", "pyjpegls"),
        ("JPEGLosslessSV1", "gdcm"),
        ("JPEGExtended12Bit", "gdcm"),
    ],
)
def test_gdcm_decodes_only_what_nothing_else_does(dicom, monkeypatch, syntax, decoder):
    """A damaged JPEG or JPEG-LS makes gdcm end the process, and 100,000 files with it."""
    path = dicom(ramp(0, 4095, np.uint16), BitsStored=12, HighBit=11)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    chosen = []
    monkeypatch.setattr(pydicom.FileDataset, "pixel_array_options", lambda self, **options: chosen.append(options))
    with pytest.raises(UserError, match="cannot be decoded, damaged or truncated"):
        read_image(path)
    assert chosen == [{"decoding_plugin": decoder}]


@pytest.mark.parametrize("syntax", ["HTJ2K", "MPEG2MPML"])
def test_a_syntax_that_nothing_decodes_is_named(dicom, syntax):
    path = dicom(ramp(0, 255, np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    dataset.save_as(path)
    with pytest.raises(UserError, match=r"(High-Throughput JPEG 2000|MPEG2).* pixels, which nothing installed decodes"):
        read_image(path)


@pytest.mark.parametrize("syntax", ["DeflatedExplicitVRLittleEndian", "RLELossless", "ExplicitVRBigEndian"])
def test_syntaxes_that_pydicom_decodes(dicom, syntax):
    pixels = ramp(0, 255, np.uint8)
    path = dicom(pixels)
    dataset = pydicom.dcmread(path)
    if syntax == "RLELossless":
        dataset.compress(pydicom.uid.RLELossless)
    else:
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True, little_endian=None)
    assert np.array_equal(display_array(path), pixels.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("letters", [None, [], ["L"], ["L", "R"], ["X", "Y"], ["LE", "VE", "D"]])
def test_without_usable_orientation_it_is_taken_as_displayed(dicom, letters):
    pixels = ramp(0, 255, np.uint8)
    path = dicom(pixels, PatientOrientation=letters)
    _, meta = read_image(path)
    assert (meta["orientation"], meta["orientation_source"]) == ("", "")
    assert np.array_equal(display_array(path), pixels.astype(np.float32) / np.float32(255))


def test_an_animals_letters_are_not_a_humans(dicom):
    path = dicom(ramp(0, 255, np.uint8), PatientOrientation=["R", "F"], AnatomicalOrientationType="QUADRUPED")
    assert read_image(path)[1]["orientation_source"] == ""


@pytest.mark.parametrize(
    ("cosines", "letters", "display"),
    [
        ([1, 0, 0, 0, 1, 0], "L\\P", [0, 0, 0]),
        ([-1, 0, 0, 0, 1, 0], "R\\P", [0, 0, 1]),
        ([1, 0, 0, 0, -1, 0], "L\\A", [0, 1, 0]),
        ([0, 1, 0, 1, 0, 0], "P\\L", [1, 0, 0]),
        ([1, 0, 0, 0, 0, -1], "L\\F", [0, 0, 0]),
        ([1, 0, 0, 0, 0.9272, -0.3746], "L\\P", [0, 0, 0]),
        ([1, 0, 0, 1, 0, 0], "R\\F", [0, 0, 1]),  # not orthogonal: the letters count
        ([0, 0, 0, 0, 0, 0], "R\\F", [0, 0, 1]),
    ],
)
def test_orientation_from_cosines(dicom, cosines, letters, display):
    path = dicom(ramp(0, 255, np.uint8), ImageOrientationPatient=cosines, PatientOrientation=["R", "F"])
    _, meta = read_image(path)
    assert meta["orientation"] == letters
    assert meta["display"].tolist() == display


def test_the_affine_places_a_ct_pixel_in_the_patient(dicom):
    path = dicom(
        ramp(0, 255, np.uint8),
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[-100, -50, 30],
        PixelSpacing=[0.5, 0.8],
        SliceThickness=3,
    )
    _, meta = read_image(path)
    # column 2, row 3: LPS (-100 + 1.6, -50 + 1.5, 30), in RAS the first two change sign
    assert (meta["affine"] @ [2, 3, 0, 1])[:3] == pytest.approx([98.4, 48.5, 30])
    assert meta["spacing_mm"].tolist() == [0.5, 0.8]


@pytest.mark.parametrize(
    ("elements", "expected", "source"),
    [
        ({}, [np.nan, np.nan], ""),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, [0.1, 0.2], "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.3, 0.4], "ImagerPixelSpacing": [0.1, 0.2]}, [0.3, 0.4], "PixelSpacing"),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.2]}, [0.1, 0.2], "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.3, 0.4], "PatientOrientation": ["F", "L"]}, [0.4, 0.3], "PixelSpacing"),
    ],
)
def test_spacing_is_of_displayed_rows_and_columns(dicom, elements, expected, source):
    _, meta = read_image(dicom(ramp(0, 255, np.uint8), **elements))
    assert np.array_equal(meta["spacing_mm"], expected, equal_nan=True)
    assert meta["spacing_source"] == source


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"NumberOfFrames": 3}, "3 frames; give one frame a file"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, r"colour \(RGB\)"),
        ({"PhotometricInterpretation": None}, "no photometric interpretation"),
        ({"Modality": "SR", "Rows": None}, r"a structured report \(SR\), not an image"),
        ({"Modality": "RTDOSE"}, r"a radiotherapy dose \(RTDOSE\), not an image"),
        ({"Rows": None}, r"no pixels \(CR\)"),
        ({"PixelData": None}, "no pixels; give a DICOM image"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels; a picture has 1 to"),
        ({"Rows": 0}, "8 x 0 pixels"),
        ({"Rows": 9}, "cannot be decoded, damaged or truncated"),
    ],
)
def test_refusals(dicom, elements, words):
    with pytest.raises(UserError, match=words) as caught:
        read_image(dicom(ramp(0, 255, np.uint8), **elements))
    assert "\n" not in str(caught.value)


def test_a_sparse_giant_is_refused_unread(dicom):
    path = dicom(ramp(0, 255, np.uint8))
    with path.open("rb+") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(UserError, match="much larger than one picture of 8 x 8"):
        read_image(path)


def test_without_preamble_and_meta(dicom, tmp_path):
    pixels = ramp(0, 255, np.uint8)
    dataset = pydicom.dcmread(dicom(pixels))
    bare = tmp_path / "bare"
    for implicit in (True, False):
        with bare.open("wb") as file:
            inner = pydicom.filebase.DicomFileLike(file)
            inner.is_little_endian, inner.is_implicit_VR = True, implicit
            pydicom.filewriter.write_dataset(inner, dataset)
        assert np.array_equal(display_array(bare), pixels.astype(np.float32) / np.float32(255))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a small valid DX."""
    path = tmp_path_factory.mktemp("small") / "a.dcm"
    write_radiograph(path, ramp(0, 255, np.uint8), patient_orientation=("R", "F"))
    return path.read_bytes()


def read_or_refuse(path, data):
    path.write_bytes(data)
    try:
        pixels, meta = read_image(path)
    except UserError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(str(path))
    else:
        assert np.isfinite(pixels).all()
        assert 0 <= pixels.min() <= pixels.max() <= 1
        assert np.isfinite(meta["affine"]).all()
        assert all(isinstance(value, str | float | int | np.ndarray) for value in meta.values())


@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8), cut=st.integers(0, 9)
)
def test_any_change_of_bytes_is_read_or_refused(small, tmp_path_factory, edits, cut):
    data = bytearray(small)
    for place, value in edits:
        data[place % len(data)] = value
    read_or_refuse(
        tmp_path_factory.getbasetemp() / "bytes.dcm", data[: len(data) - (cut == 0) * edits[0][0] % len(data)]
    )


TEXT = st.one_of(st.text(max_size=8), st.sampled_from(["0", "-1", "1e400", "nan", "MONOCHROME1", "CT", "LOCALIZER"]))
KEYS = (
    "ImageType", "Modality", "PatientOrientation", "PhotometricInterpretation", "WindowCenter", "WindowWidth",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ImagerPixelSpacing", "VOILUTFunction", "NumberOfFrames",
)  # fmt: skip
NUMBERS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
           "PixelPaddingValue")  # fmt: skip


@given(
    texts=st.dictionaries(st.sampled_from(KEYS), st.lists(TEXT, max_size=7), max_size=4),
    numbers=st.dictionaries(st.sampled_from(NUMBERS), st.integers(0, 65535), max_size=2),
    cosines=st.lists(st.floats(-1e30, 1e30), min_size=6, max_size=6),
)
def test_any_header_is_read_or_refused(small, tmp_path_factory, texts, numbers, cosines):
    from io import BytesIO

    from pydicom.dataelem import RawDataElement

    dataset = pydicom.dcmread(BytesIO(small))
    dataset.ImageOrientationPatient = [f"{x:.6g}" for x in cosines]
    for key, values in texts.items():
        tag = pydicom.tag.Tag(key)
        raw = "\\".join(values).encode("utf-8", "replace")
        vr = pydicom.datadict.dictionary_VR(tag)
        dataset._dict[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    for key, value in numbers.items():
        dataset.add_new(key, "US", value)
    file = BytesIO()
    dataset.save_as(file)
    read_or_refuse(tmp_path_factory.getbasetemp() / "header.dcm", file.getvalue())
