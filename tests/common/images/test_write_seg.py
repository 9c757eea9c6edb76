import datetime
import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.images import Algorithm, read_image, write_radiograph, write_seg

ROOT = Path(__file__).resolve().parents[3]
MODEL = Algorithm("mmi_unet", "0.1.0", "ab" * 32)
# Every file of the real ones that is read as a picture and has the UIDs that something can refer to.
USABLE = [
    "cr_chest_mono1_10bit_no_preamble", "cr_extremity_mono1_j2k_lossless.dcm", "cr_modality_lut_mono1_jpegll.dcm",
    "ct1_j2k_lossy_no_ext", "ct_bad_sequence_jpegll.dcm", "ct_chest_helical_implicit.dcm",
    "ct_chest_mono2_16_jpeg_lossless.dcm", "ct_scout_surview_12bit.dcm", "ct_small_highdicom.dcm",
    "ct_small_pydicom.dcm", "cxr_siim_pa_jpegbaseline_mono1_faketag.dcm", "cxr_siim_pa_jpegbaseline_mono2.dcm",
    "dicomlibrary_sample.dcm", "dx_small.dcm", "j2k_pixelrep_mismatch.dcm", "mr_bigendian.dcm", "nm_jpeg_ll.dcm",
    "voi_lut_8bit.dcm",
]  # fmt: skip
UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
PLANE = {
    "Modality": "CT",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "FrameOfReferenceUID": "1.2.3.5",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [0.5, 0.7],
    "SliceThickness": 2,
}


def blob(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A mask that no flip or transposition maps to itself."""
    return np.random.default_rng(seed).random(shape) < 0.3


def read_back(path, *uids: str) -> np.ndarray:
    """What highdicom reads: (N, rows, columns) of the sources ``uids``, in their order."""
    seg = highdicom.seg.segread(path)
    pixels = seg.get_pixels_by_source_instance(list(uids), assert_missing_frames_are_empty=True)
    return pixels[..., 0]


def uid_of(path) -> str:
    return str(pydicom.dcmread(path, force=True, stop_before_pixels=True).SOPInstanceUID)


@pytest.mark.real
@pytest.mark.parametrize("name", USABLE)
def test_real_images_masks_read_back_in_place(dicom_dir, tmp_path, name):
    source = dicom_dir / name
    shape = read_image(source)[0].shape[::-1]
    mask, probability = blob(shape), np.random.default_rng(1).random(shape).astype(np.float32)
    write_seg(tmp_path / "b.dcm", [source], [mask], fractional=False, algorithm=MODEL)
    write_seg(tmp_path / "f.dcm", [source], [probability], fractional=True, algorithm=MODEL)
    assert np.array_equal(read_back(tmp_path / "b.dcm", uid_of(source))[0], mask)
    assert np.abs(read_back(tmp_path / "f.dcm", uid_of(source))[0] - probability).max() <= 0.5 / 255 + 1e-6

    seg, original = pydicom.dcmread(tmp_path / "b.dcm"), pydicom.dcmread(source, force=True, stop_before_pixels=True)
    for key in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"):
        assert seg.get(key) == original.get(key, "") or not (seg.get(key) or original.get(key))
    reference = seg.ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == original.SeriesInstanceUID
    assert reference.ReferencedInstanceSequence[0].ReferencedSOPClassUID == original.SOPClassUID
    if "ImagePositionPatient" not in original:
        assert (seg.PatientOrientation or None) == (original.get("PatientOrientation") or None)


@pytest.mark.full
@pytest.mark.real
@pytest.mark.parametrize("kind", ["binary", "fractional", "empty"])
@pytest.mark.parametrize("name", USABLE)
def test_dciodvfy_and_dcmtk_find_nothing_that_is_not_in_the_source(dicom_dir, tmp_path, name, kind):
    for program in ("dciodvfy", "dcmftest", "dcmdump"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    source, path = dicom_dir / name, tmp_path / "seg.dcm"
    shape = read_image(source)[0].shape[::-1]
    mask = {"binary": blob(shape), "fractional": blob(shape) * 0.7, "empty": np.zeros(shape, bool)}[kind]
    write_seg(path, [source], [mask], fractional=kind == "fractional", algorithm=MODEL)
    assert errors_of(path) - errors_of(source) == set()
    assert subprocess.run(["dcmftest", path], capture_output=True, check=False).returncode == 0
    dump = subprocess.run(["dcmdump", path], capture_output=True, check=False)
    assert dump.returncode == 0
    assert dump.stderr == b""


def errors_of(path) -> set[str]:
    """dciodvfy's errors; a wrong UID of the source counts as the same where the segmentation refers to it."""
    done = subprocess.run(["dciodvfy", path], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    here = (("(0x0008,0x1155)", "(0x0008,0x0018)"), ("Referenced SOP Instance UID", "SOP Instance UID"))
    found = set()
    for line in lines:
        if line.startswith("Error"):
            for name, other in here:
                line = line.replace(name, other)
            found.add(line)
    return found


@pytest.mark.parametrize("orientation", [("L", "F"), ("R", "F"), ("F", "L"), None])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_a_radiograph_in_any_orientation(tmp_path, picture, orientation, photometric, modality):
    source = tmp_path / "a.dcm"
    uid = write_radiograph(source, picture, patient_orientation=orientation, photometric=photometric, modality=modality)
    header = pydicom.dcmread(source)
    mask = blob((header.Rows, header.Columns))  # rows times columns is no multiple of 8: bits are packed
    write_seg(tmp_path / "seg.dcm", [source], [mask], fractional=False, algorithm=MODEL)
    assert np.array_equal(read_back(tmp_path / "seg.dcm", uid)[0], mask)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert list(seg.PatientOrientation or ()) == list(orientation or ())
    assert "FrameOfReferenceUID" not in seg
    assert np.array_equal(seg.pixel_array.reshape(mask.shape), mask)  # pydicom alone unpacks the same


def test_what_it_says_of_itself(tmp_path, picture):
    write_radiograph(tmp_path / "a.dcm", picture)
    write_seg(tmp_path / "s.dcm", [tmp_path / "a.dcm"], [picture > 9], fractional=False, algorithm=MODEL)
    seg = pydicom.dcmread(tmp_path / "s.dcm")
    (segment,) = seg.SegmentSequence
    codes = [
        (item.CodeValue, item.CodingSchemeDesignator)
        for item in (
            segment.SegmentedPropertyCategoryCodeSequence[0],
            segment.SegmentedPropertyTypeCodeSequence[0],
            segment.AnatomicRegionSequence[0],
        )
    ]
    assert codes == [("49755003", "SCT"), ("52988006", "SCT"), ("39607008", "SCT")]
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mmi_unet", "0.1.0")
    assert "ab" * 32 in algorithm.AlgorithmParameters
    assert seg.SegmentationType == "BINARY"
    assert (seg.ContentDate, seg.ContentTime) == ("19000101", "000000")  # the source has no date at all


def test_the_same_input_gives_the_same_bytes_whenever_it_is_written(tmp_path, picture, monkeypatch):
    write_radiograph(tmp_path / "a.dcm", picture)
    options = {"fractional": False, "algorithm": MODEL}
    write_seg(tmp_path / "1.dcm", [tmp_path / "a.dcm"], [picture > 9], **options)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2, 3, 4, 5)

    monkeypatch.setattr(datetime, "datetime", Later)
    write_seg(tmp_path / "2.dcm", [tmp_path / "a.dcm"], [picture > 9], **options)
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    assert b"2031" not in (tmp_path / "2.dcm").read_bytes()


def test_uids_differ_with_all_that_makes_another_object(tmp_path, picture):
    source = tmp_path / "a.dcm"
    write_radiograph(source, picture)
    binary = {"fractional": False, "algorithm": MODEL}
    changes = [
        (picture > 9, binary),
        (picture > 99, binary),
        (np.float32(picture > 9), {"fractional": True, "algorithm": MODEL}),
        (picture > 9, binary | {"algorithm": Algorithm("mmi_unet", "0.1.0", "cd" * 32)}),
        (picture > 9, binary | {"algorithm": Algorithm("mmi_unet", "0.2.0", "ab" * 32)}),
        (picture > 9, binary | {"label": "opacity"}),
    ]
    uids = [write_seg(tmp_path / "s.dcm", [source], [mask], **options) for mask, options in changes]
    assert len(set(uids)) == len(changes)
    assert all(len(uid) <= 64 for uid in uids)


def test_an_empty_mask_of_a_radiograph_is_an_object_with_one_empty_frame(tmp_path, picture):
    uid = write_radiograph(tmp_path / "a.dcm", picture)
    write_seg(tmp_path / "s.dcm", [tmp_path / "a.dcm"], [picture > 255], fractional=False, algorithm=MODEL)
    assert pydicom.dcmread(tmp_path / "s.dcm").NumberOfFrames == 1
    assert not read_back(tmp_path / "s.dcm", uid).any()


@pytest.fixture
def series(dicom):
    """A function that writes slices of one series, in another order than they lie in."""

    def write(places=(4.0, 0.0, 6.0, 2.0), **elements):
        pixels = np.arange(21 * 33, dtype=np.uint16).reshape(21, 33)
        return [
            dicom(
                pixels, f"{i}.dcm", **(UIDS | PLANE | {"SOPInstanceUID": f"1.2.3.9.{i + 1}",
                "ImagePositionPatient": [-100, 50, z], "InstanceNumber": i + 1} | elements),
            )
            for i, z in enumerate(places)
        ]  # fmt: skip

    return write


@pytest.mark.parametrize("fractional", [False, True])
def test_slices_of_a_series_are_one_object_each_frame_in_its_place(tmp_path, series, fractional):
    paths = series()
    masks = list(blob((4, 21, 33)))
    masks[2][:] = False
    given_masks = [np.float32(mask) * np.float32(0.6) for mask in masks] if fractional else masks
    write_seg(tmp_path / "s.dcm", paths, given_masks, fractional=fractional, algorithm=MODEL)
    seg = pydicom.dcmread(tmp_path / "s.dcm")
    assert seg.NumberOfFrames == 3  # without the slice that has no lesion
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 4  # which was looked at
    assert seg.FrameOfReferenceUID == "1.2.3.5"
    assert "PatientOrientation" not in seg
    got = read_back(tmp_path / "s.dcm", *(uid_of(path) for path in paths))
    assert np.allclose(got, np.stack(masks) * (0.6 if fractional else 1), atol=1e-6)
    frames = {
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID: [
            float(x) for x in item.PlanePositionSequence[0].ImagePositionPatient
        ]
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    assert frames == {"1.2.3.9.1": [-100, 50, 4], "1.2.3.9.2": [-100, 50, 0], "1.2.3.9.4": [-100, 50, 2]}


def test_a_series_without_any_lesion_keeps_its_frames(tmp_path, series):
    paths = series()
    write_seg(tmp_path / "s.dcm", paths, [np.zeros((21, 33), bool)] * 4, fractional=False, algorithm=MODEL)
    assert pydicom.dcmread(tmp_path / "s.dcm").NumberOfFrames == 4


def test_probabilities_that_round_to_nothing_leave_no_frame(tmp_path, series):
    masks = [np.full((21, 33), value, np.float32) for value in (0.001, 0.5, 0.001, 0.0)]
    write_seg(tmp_path / "s.dcm", series(), masks, fractional=True, algorithm=MODEL)
    assert pydicom.dcmread(tmp_path / "s.dcm").NumberOfFrames == 1


def test_the_same_slice_under_two_names_counts_once(tmp_path, series):
    paths = series()
    masks = list(blob((4, 21, 33)))
    write_seg(tmp_path / "once.dcm", paths, masks, fractional=False, algorithm=MODEL)
    copy = shutil.copy(paths[1], tmp_path / "copy.dcm")
    write_seg(tmp_path / "twice.dcm", [*paths, copy], [*masks, masks[1]], fractional=False, algorithm=MODEL)
    assert (tmp_path / "once.dcm").read_bytes() == (tmp_path / "twice.dcm").read_bytes()
    with pytest.raises(UserError, match=r"copy\.dcm: has the SOPInstanceUID of .*1\.dcm and is another image"):
        write_seg(tmp_path / "twice.dcm", [*paths, copy], [*masks, ~masks[1]], fractional=False, algorithm=MODEL)


@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "SliceThickness"])
def test_slices_that_lack_an_element_but_lie_in_space(tmp_path, series, missing):
    paths = series(**{missing: None})
    masks = list(blob((4, 21, 33)))
    write_seg(tmp_path / "s.dcm", paths, masks, fractional=False, algorithm=MODEL)
    assert np.array_equal(read_back(tmp_path / "s.dcm", *(uid_of(path) for path in paths)), masks)
    assert pydicom.dcmread(tmp_path / "s.dcm").FrameOfReferenceUID


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SeriesInstanceUID": "1.2.9"}, "differ in SeriesInstanceUID; a segmentation is of one series"),
        ({"FrameOfReferenceUID": "1.2.9"}, "differ in FrameOfReferenceUID"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "differ in ImageOrientationPatient; the frames"),
        ({"PixelSpacing": [0.5, 0.8]}, "differ in PixelSpacing"),
        ({"ImagePositionPatient": None}, "slices of its series have no position"),
        ({"ImagePositionPatient": [-100, 50, 4]}, "several slices of its series lie in one place"),
        ({"NumberOfFrames": 3}, "a multi-frame object"),
        ({"SeriesInstanceUID": ""}, "has no SeriesInstanceUID, a type 1 element"),
        ({"StudyInstanceUID": None}, "has no StudyInstanceUID, a type 1 element"),
    ],
)
def test_series_that_cannot_be_one_object(tmp_path, series, dicom, change, words):
    paths = series()
    pixels = np.zeros((21, 33), np.uint16)
    position = {"SOPInstanceUID": "1.2.3.9.77", "ImagePositionPatient": [-100, 50, 9]}
    paths.append(dicom(pixels, "other.dcm", **(UIDS | PLANE | position | change)))
    with pytest.raises(UserError, match=words) as caught:
        write_seg(tmp_path / "s.dcm", paths, list(blob((5, 21, 33))), fractional=False, algorithm=MODEL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s.dcm").exists()


def test_orientations_that_differ_by_rounding_are_one(tmp_path, series, dicom):
    paths = series()
    turned = {"ImageOrientationPatient": [1, 0.0001, 0, 0, 1, 0], "ImagePositionPatient": [-100, 50, 9]}
    other = UIDS | PLANE | turned | {"SOPInstanceUID": "1.2.3.9.77"}
    paths.append(dicom(np.zeros((21, 33), np.uint16), "o.dcm", **other))
    masks = list(blob((5, 21, 33)))
    write_seg(tmp_path / "s.dcm", paths, masks, fractional=False, algorithm=MODEL)
    assert np.array_equal(read_back(tmp_path / "s.dcm", *(uid_of(path) for path in paths)), masks)


def test_what_is_no_dicom_image(tmp_path, picture, dicom):
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "empty.dcm").write_bytes(b"")
    for path in (tmp_path / "a.png", tmp_path / "empty.dcm", tmp_path / "missing.dcm", tmp_path):
        with pytest.raises(UserError, match=r"no DICOM (image|file that can be read).*derived from DICOM images"):
            write_seg(tmp_path / "s.dcm", [path], [picture > 9], fractional=False, algorithm=MODEL)
    private = dicom(picture, **UIDS, SOPClassUID="1.2.3.4.5.6")
    with pytest.raises(UserError, match="no segmentation can refer to it"):
        write_seg(tmp_path / "s.dcm", [private], [picture > 9], fractional=False, algorithm=MODEL)


@pytest.mark.parametrize(
    ("mask", "fractional", "words"),
    [
        (np.zeros((5, 5), bool), False, "shape .5, 5. for a source of .30, 41. rows and columns"),
        (np.zeros((41, 30), bool), False, "shape .41, 30."),
        (np.zeros((30, 41), np.uint8), False, "a mask is bool"),
        (np.zeros((30, 41), bool), True, "probabilities are floats"),
        (np.full((30, 41), 1.5), True, "probabilities are floats of 0..1"),
        (np.full((30, 41), np.nan), True, "probabilities are floats of 0..1"),
    ],
)
def test_masks_of_another_kind(tmp_path, picture, mask, fractional, words):
    write_radiograph(tmp_path / "a.dcm", picture)
    with pytest.raises(ValueError, match=words):
        write_seg(tmp_path / "s.dcm", [tmp_path / "a.dcm"], [mask], fractional=fractional, algorithm=MODEL)


def test_a_folder_that_takes_no_file(tmp_path, picture):
    write_radiograph(tmp_path / "a.dcm", picture)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_seg(tmp_path / "file" / "s.dcm", [tmp_path / "a.dcm"], [picture > 9], fractional=False, algorithm=MODEL)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (None, "Doe^Jane"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Müller^Jörg=張三"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (None, "Müller^Jörg"),  # Latin-1 that the file does not declare: the same bytes again
        ("ISO_IR 999", "Doe^Jane"),
        (None, "Doe^Jane" * 20),
        (None, "only-one-component"),
    ],
)
def test_names_are_the_sources_in_its_character_set(tmp_path, dicom, charset, name):
    source = dicom(
        np.zeros((9, 7), np.uint8), **UIDS, SpecificCharacterSet=charset, PatientName=name, PatientID="Ä^'\"; 7"
    )
    write_seg(tmp_path / "s.dcm", [source], [blob((9, 7))], fractional=False, algorithm=MODEL)
    seg, original = pydicom.dcmread(tmp_path / "s.dcm"), pydicom.dcmread(source)
    assert seg.PatientName == original.PatientName
    assert seg.PatientID == original.PatientID
    assert seg.get("SpecificCharacterSet") == original.get("SpecificCharacterSet")
    assert seg.PatientName.encode() == original.PatientName.encode()


def test_a_character_set_that_cannot_hold_the_label_becomes_utf_8(tmp_path, dicom):
    source = dicom(np.zeros((9, 7), np.uint8), **UIDS, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    write_seg(tmp_path / "s.dcm", [source], [blob((9, 7))], fractional=False, algorithm=MODEL, label="病変")
    seg = pydicom.dcmread(tmp_path / "s.dcm")
    assert (seg.SpecificCharacterSet, str(seg.PatientName)) == ("ISO_IR 192", "Müller^Jörg")
    assert seg.SegmentSequence[0].SegmentLabel == "病変"


def test_odd_headers_are_cleaned(tmp_path, dicom):
    private = pydicom.Dataset()
    private.add_new(0x00091001, "LO", "secret")
    private.CodeValue = "1"
    source = dicom(
        np.zeros((9, 7), np.uint8),
        **UIDS,
        StudyDate="1999.05.24",
        StudyTime="10:11:12.5",
        PatientBirthDate="unknown",
        PatientSex="female",
        SeriesNumber=None,
        InstanceNumber=-3,
        ReferringPhysicianName=None,
        sequences={"ProcedureCodeSequence": [private]},
    )
    write_seg(tmp_path / "s.dcm", [source], [blob((9, 7))], fractional=False, algorithm=MODEL)
    seg = pydicom.dcmread(tmp_path / "s.dcm")
    keys = ("StudyDate", "StudyTime", "ContentDate", "ContentTime", "PatientBirthDate", "PatientSex")
    assert [seg[key].value for key in keys] == ["19990524", "101112.5", "19990524", "101112.5", "", ""]
    assert (seg.SeriesNumber, seg.InstanceNumber, seg.ReferringPhysicianName) == (1001, 1, "")
    assert seg.ProcedureCodeSequence[0].CodeValue == "1"
    assert b"secret" not in (tmp_path / "s.dcm").read_bytes()


def test_pixels_are_not_needed(tmp_path, picture):
    """Whatever syntax they are in: nothing behind the header is read."""
    uid = write_radiograph(tmp_path / "a.dcm", picture)
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[: data.index(picture.tobytes()[:20]) + 20])
    write_seg(tmp_path / "s.dcm", [tmp_path / "a.dcm"], [picture > 9], fractional=False, algorithm=MODEL)
    assert np.array_equal(read_back(tmp_path / "s.dcm", uid)[0], picture > 9)


@pytest.mark.full
def test_no_library_prints_a_name(tmp_path, dicom):
    """highdicom and pydicom quote names and other values that they find odd, in warnings and logs."""
    source = dicom(np.zeros((9, 7), np.uint8), **UIDS, PatientName="Odd-Name", PatientID="x" * 99, PatientAge="old")
    code = (
        "import logging, numpy, sys; logging.basicConfig(level=0)\n"
        "from common.images import *\n"
        "write_seg(sys.argv[2], [sys.argv[1]], [numpy.ones((9, 7), bool)], fractional=False,"
        " algorithm=Algorithm('a', '1', 'b'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "s.dcm"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "Odd-Name" not in done.stdout + done.stderr
    assert "xxx" not in done.stdout + done.stderr
    assert "old" not in done.stdout + done.stderr


TEXT_KEYS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "StudyDate",
    "StudyTime", "AcquisitionDate", "AccessionNumber", "StudyID", "SeriesNumber", "InstanceNumber", "Manufacturer",
    "SpecificCharacterSet", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "FrameOfReferenceUID", "PatientOrientation", "LossyImageCompression", "ReferringPhysicianName",
    "AcquisitionDateTime",
)  # fmt: skip


def encoded(element) -> bytes:
    """An element in Explicit VR Little Endian."""
    alone, buffer = pydicom.Dataset(), io.BytesIO()
    alone.add(element)
    pydicom.dcmwrite(buffer, alone, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


# Each example writes and reads files: 2,000 of them would outlast a test's time.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=min(500, settings().max_examples))
@example({"PatientName": b"\\", "FrameOfReferenceUID": b"!\\"}, "CT")
@given(
    st.dictionaries(st.sampled_from(TEXT_KEYS), st.binary(max_size=70) | st.none(), max_size=8),
    st.sampled_from(["CR", "CT"]),
)
def test_whatever_a_header_says_there_is_an_object_that_reads_back_or_one_line(tmp_path, values, modality):
    picture = np.zeros((9, 7), np.uint8)
    uid = write_radiograph(tmp_path / "a.dcm", picture, modality="CR")
    source = pydicom.dcmread(tmp_path / "a.dcm")
    if modality == "CT":
        for key, value in (PLANE | {"ImagePositionPatient": [0, 0, 0]}).items():
            setattr(source, key, value)
    raw = {element.tag: encoded(element) for element in source}
    for key, value in values.items():
        tag = pydicom.tag.Tag(key)
        raw.pop(tag, None)
        if value is not None:  # as a damaged file may have it
            value += b" " * (len(value) % 2)
            vr = pydicom.datadict.dictionary_VR(tag).encode()
            raw[tag] = struct.pack("<HH2sH", tag.group, tag.element, vr, len(value)) + value
    data = (tmp_path / "a.dcm").read_bytes()
    meta = data[: data.index(encoded(source["ImageType"]))]  # the first element behind it
    (tmp_path / "a.dcm").write_bytes(meta + b"".join(raw[tag] for tag in sorted(raw)))
    mask = blob((9, 7))
    try:
        write_seg(tmp_path / "s.dcm", [tmp_path / "a.dcm"], [mask], fractional=False, algorithm=MODEL)
    except UserError as error:
        assert b"\0" in values["SpecificCharacterSet"]  # which pydicom cannot read at all
        assert "\n" not in str(error)
    else:
        assert np.array_equal(read_back(tmp_path / "s.dcm", uid)[0], mask)


def test_who_drew_it_is_said_and_makes_another_object(tmp_path, picture):
    write_radiograph(tmp_path / "a.dcm", picture)
    written = {}
    for by in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"):
        path = tmp_path / f"{by}.dcm"
        write_seg(path, [tmp_path / "a.dcm"], [picture > 9], fractional=False, algorithm=MODEL, by=by)
        written[by] = pydicom.dcmread(path)
        assert written[by].SegmentSequence[0].SegmentAlgorithmType == by
    assert written["SEMIAUTOMATIC"].SegmentSequence[0].SegmentAlgorithmName == "mmi_unet"
    assert "SegmentAlgorithmName" not in written["MANUAL"].SegmentSequence[0]
    assert len({seg.SeriesInstanceUID for seg in written.values()}) == 3
