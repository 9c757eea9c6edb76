"""Which files are images, in which order, and why others are not: nothing is lost, whatever lies in the folder."""

import os
import pickle
import random
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.batch import Found, check_output, find
from common.batch.header import Header
from common.errors import UserError
from common.images import write_radiograph

PICTURE = Image.fromarray(np.zeros((8, 8), np.uint8))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for name in ("b.png", "deep/a.png", ".hidden/c.png"):
        PICTURE.save(root / name)
    PICTURE.save(root / "named_as_text.txt", format="png")
    write_radiograph(root / "no_ending", np.zeros((8, 8), np.uint8))
    (root / "broken.png").write_bytes(b"")
    (root / "notes.txt").write_text("left lung")
    return root


def names(search):
    return [item.name for item in search.found]


def refusals(search):
    return {item.name: item.refused for item in search.found if item.refused}


def test_images_are_found_by_content_and_by_name(folder, radiographs):
    search = find(folder, radiographs)
    assert names(search) == ["b.png", "broken.png", "deep/a.png", "named_as_text.txt", "no_ending"]
    assert [item.format for item in search.found] == ["raster", "", "raster", "raster", "dicom"]
    assert refusals(search) == {"broken.png": "empty (0 bytes); copy it again"}
    # the text, and what is in the hidden folder
    assert search.others == 2


def test_the_output_is_not_taken_for_input(folder):
    assert "deep/a.png" not in names(find(folder, None, leave_out=folder / "deep"))


def test_a_file_alone_and_nothing(folder, tmp_path):
    assert names(find(folder / "notes.txt", None)) == ["notes.txt"]
    with pytest.raises(UserError, match="there is no such folder"):
        find(tmp_path / "none", None)
    with pytest.raises(UserError, match="--include latteral: is not known; write modality, body-part, lateral"):
        find(folder, None, include=frozenset({"latteral"}))


def test_an_output_that_holds_the_images_is_refused(folder):
    for output in (folder, folder.parent, folder / "deep" / ".."):
        with pytest.raises(UserError, match="give another output folder") as found:
            check_output(folder, output)
        assert "\n" not in str(found.value)
    check_output(folder, folder / "results")
    with pytest.raises(UserError, match="the images are in this folder"):
        check_output(folder / "b.png", folder)


def test_names_of_every_kind(tmp_path):
    raw = [b"quo'te\".png", b"new\nline.png", "Köln 肺.png".encode(), b"\xff\xfe.png", b"lite\\xffral.png", b"a\\b.png",
           b" space .png", b"-rf.png"]  # fmt: skip
    for name in raw:
        PICTURE.save(tmp_path / os.fsdecode(name), format="png")
    found = find(tmp_path, None).found
    assert not any(item.refused for item in found)
    assert len({item.name for item in found}) == len(raw)
    assert {item.name for item in found} >= {"\\xff\\xfe.png", "lite\\x5cxffral.png", "a\\b.png", "new\nline.png"}
    for item in found:
        item.name.encode()  # writable as UTF-8
        assert item.path.read_bytes()


def test_what_cannot_be_read_is_a_row_where_it_should_be_an_image(tmp_path):
    cipher = random.Random(0).randbytes(4000)
    for name, data in (
        ("empty.dcm", b""), ("IM0001", b""), ("1.2.840.3", b""), ("empty.txt", b""), ("page.jpg", b"<html>"),
        ("encrypted", cipher), ("encrypted.dcm", b"\x30\x82" + cipher), ("encrypted.bin", b"\x30\x82" + cipher),
        ("README", b"a text"), ("pair.hdr", b"\0" * 344 + b"ni1\0"), ("cut.nii.gz", b"\x1f\x8b\x08\0"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.dcm")
    search = find(tmp_path, None)
    known = "no image that can be read here; convert it to PNG, JPEG, TIFF, BMP, WebP, NIfTI or DICOM"
    assert refusals(search) == {
        "empty.dcm": "empty (0 bytes); copy it again", "IM0001": "empty (0 bytes); copy it again",
        "1.2.840.3": "empty (0 bytes); copy it again", "page.jpg": known, "encrypted": known, "encrypted.dcm": known,
        "pair.hdr": "a NIfTI header whose pixels are in another file; save it as one .nii file",
        "cut.nii.gz": "a damaged gzip file; copy it again",
    }  # fmt: skip
    assert search.others == 4


def test_links(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    PICTURE.save(outside / "x.png")
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    (folder / "lost.dcm").symlink_to("nowhere")
    (folder / "file.png").symlink_to(outside / "x.png")
    (folder / "elsewhere").symlink_to(outside)
    (folder / "again").symlink_to(folder / "deep")
    search = find(folder, None)
    assert refusals(search) == {
        "broken.png": "empty (0 bytes); copy it again",
        "deep/up": "a link to a folder that it lies in, a loop; remove it",
        "self.png": "a link that leads to itself; remove it",
        "lost.dcm": "a link that leads nowhere; remove or mend it",
        "elsewhere": "a link to a folder elsewhere, which is not followed; give that folder as input",
    }
    assert "file.png" in names(search)
    assert "again" not in names(search)


def as_nobody(root):
    """What a user without rights finds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            answer = find(root, None)
        except BaseException as error:
            answer = error
        with os.fdopen(writer, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = pickle.load(file)
    os.waitpid(child, 0)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def test_another_user_without_rights():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "locked").mkdir()
        for file in ("a.png", "secret.png", "IM0001", "locked/b.png"):
            PICTURE.save(root / file, format="png")
            (root / file).chmod(0o644)
        (root / "secret.txt").write_text("a note")
        for file in ("secret.png", "IM0001", "secret.txt", "locked"):
            (root / file).chmod(0)
        find(root, None)  # so that the child need import nothing
        search = as_nobody(root)
        (root / "locked").chmod(0o755)
    assert refusals(search) == {
        "IM0001": "may not be read by this user; change its permissions",
        "locked": "a folder that this user may not open; change its permissions",
        "secret.png": "may not be read by this user; change its permissions",
    }
    assert names(search) == ["IM0001", "a.png", "locked", "secret.png"]
    assert search.others == 1


def test_a_deep_tree_and_a_long_name(tmp_path):
    # deeper than Python's stack, and than what removes folders after tests
    path = tmp_path
    for _ in range(1200):
        path = path / "d"
        path.mkdir()
    try:
        PICTURE.save(path / "a.png")
        (tmp_path / ("n" * 251 + ".png")).write_bytes(b"")
        assert names(find(tmp_path, None)) == ["d/" * 1200 + "a.png", "n" * 251 + ".png"]
    finally:
        (path / "a.png").unlink(missing_ok=True)
        while path != tmp_path:
            path.rmdir()
            path = path.parent


def bytes_read(call):
    """What a call gives, bytes read from files meanwhile, and bytes of memory at its peak."""
    before = int(Path("/proc/self/io").read_text().split()[1])
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, int(Path("/proc/self/io").read_text().split()[1]) - before, peak


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux tells them")
@pytest.mark.parametrize("kind", ["multi-frame", "private element", "undefined length", "pixels of no length"])
def test_a_file_of_three_gigabytes_costs_nothing(kind, tmp_path, radiograph, radiographs):
    path = radiograph(tmp_path / "large", **({"NumberOfFrames": 50_000} if kind == "multi-frame" else {}))
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OB")
    size = 3 * 2**30
    if kind == "private element":
        data = data[:place] + b"\x29\x00\x10\x10OB\0\0" + (size - 2**20).to_bytes(4, "little")
    elif kind == "undefined length":
        data = data[:place] + b"\x29\x00\x10\x10OB\0\0\xff\xff\xff\xff"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    search, read, peak = bytes_read(lambda: find(tmp_path, radiographs))
    assert len(search.found) == 1
    assert bool(search.found[0].refused)
    if kind == "multi-frame":
        assert search.found[0].refused == "50000 frames; give one frame a file"
    assert read < 6 * 2**20
    assert peak < 32 * 2**20


def test_slices_of_a_series_stand_together_in_order(tmp_path, ct, slices):
    order = list(range(6))
    random.Random(1).shuffle(order)
    for number, z in enumerate(order):
        ct(tmp_path / f"m{number}", z=2.5 * z, series="1.2.3.1")
    for number, z in ((0, 7), (1, -3)):  # another series between, oblique
        ct(tmp_path / f"m3{number}", z=z, series="1.2.3.2", cosines=(1, 0, 0, 0, 0.8, 0.6))
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / "z.png")
    found = find(tmp_path, slices).found
    assert [item.name for item in found] == [
        "a.png", *(f"m{order.index(z)}" for z in range(6)), "m31", "m30", "z.png",
    ]  # fmt: skip
    assert [(item.series, item.position) for item in found[1:7]] == [("1.2.3.1", n) for n in range(6)]
    assert [(item.series, item.position) for item in found[7:9]] == [("1.2.3.2", 0), ("1.2.3.2", 1)]
    assert {item.series for item in (found[0], found[-1])} == {""}


def test_what_one_segmentation_cannot_hold_stands_alone(tmp_path, ct, slices):
    for z in range(3):
        ct(tmp_path / f"a{z}", z=z)
    ct(tmp_path / "b_same_place", z=1)
    ct(tmp_path / "c_oblique", z=9, cosines=(1, 0, 0, 0, 0.8, 0.6))
    ct(tmp_path / "d_small", z=9, Rows=2)
    ct(tmp_path / "e_nowhere", ImagePositionPatient=None)
    ct(tmp_path / "f_scout", z=9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = {item.name: item for item in find(tmp_path, slices, include=frozenset({"scout"})).found}
    assert not any(item.refused for item in found.values())
    assert [name for name, item in found.items() if item.series] == ["a0", "a1", "a2"]
    assert found["f_scout"].overridden == "a scout or localiser"


def test_one_instance_twice(tmp_path, ct, radiograph, radiographs, slices):
    for name in ("a", "b"):
        ct(tmp_path / "ct" / name, z=1, uid="1.2.3.4")
        radiograph(tmp_path / "cr" / name, SOPInstanceUID="1.2.3.5")
    first, second = find(tmp_path / "ct", slices).found
    assert (first.series, first.refused) == ("1.2.3", "")
    told = "its SOPInstanceUID is that of a, a slice stands once in a series; --include duplicate segments it"
    assert (second.series, second.refused) == ("", told)
    second = find(tmp_path / "ct", slices, include=frozenset({"duplicate"})).found[1]
    assert (second.series, second.refused, second.overridden) == ("", "", "its SOPInstanceUID is that of a")
    first, second = find(tmp_path / "cr", radiographs).found
    assert (first.note, second.note, second.refused) == ("", "its SOPInstanceUID is that of a", "")


@pytest.mark.real
@pytest.mark.parametrize("metadata", ["radiographs", "slices"])
def test_the_real_files_full_of_traps(metadata, dicom_dir, request):
    metadata = request.getfixturevalue(metadata)
    never = {
        "ct_rgb_blank.dcm": "colour (RGB)", "no_meta.dcm": "no image that can be read here",
        "palette_16.dcm": "palette colour", "palette_no_meta.dcm": "palette colour",
        "float_pixels.dcm": "a parametric map", "rtplan_no_pixels.dcm": "a radiotherapy plan (RTPLAN)",
        "seg_cr_binary.dcm": "a segmentation (SEG)", "seg_ct_binary.dcm": "a segmentation (SEG)",
        "us_ybr_multiframe.dcm": "colour (YBR_FULL_422)",
    }  # fmt: skip
    other = {
        "dicomlibrary_sample.dcm": "modality OT", "mr_bigendian.dcm": "modality MR", "nm_jpeg_ll.dcm": "modality NM",
        "voi_lut_8bit.dcm": "modality OT", "jpegls_lossless_16_15.dcm": "",
    }  # fmt: skip
    of_radiographs = {
        "cr_chest_mono1_10bit_no_preamble": "", "cxr_siim_pa_jpegbaseline_mono1_faketag.dcm": "",
        "cxr_siim_pa_jpegbaseline_mono2.dcm": "", "dx_small.dcm": "an animal",
        "cr_extremity_mono1_j2k_lossless.dcm": "body part EXTREMITY",
        "cr_modality_lut_mono1_jpegll.dcm": "body part TEETH by its description",
    }  # fmt: skip
    of_slices = {
        "ct1_j2k_lossy_no_ext": "", "ct_chest_helical_implicit.dcm": "", "ct_small_highdicom.dcm": "",
        "ct_bad_sequence_jpegll.dcm": "body part NECK", "ct_chest_mono2_16_jpeg_lossless.dcm": "a scout",
        "ct_scout_surview_12bit.dcm": "body part ABDOMEN by its description",
        "ct_small_pydicom.dcm": "its SOPInstanceUID is that of ct_small_highdicom.dcm",
        "j2k_pixelrep_mismatch.dcm": "body part HEAD",
    }  # fmt: skip
    radiograph = metadata["modality"] != "CT"
    expected = never | other | (of_radiographs if radiograph else of_slices)
    expected |= dict.fromkeys(of_slices if radiograph else of_radiographs, "modality ")
    search = find(dicom_dir, metadata)
    assert names(search) == sorted(expected)
    assert search.others == 1  # the manifest
    for item in search.found:
        reason = expected[item.name]
        assert item.refused.startswith(reason) if reason else not item.refused, (item.name, item.refused)
        assert bool(item.series) == (not radiograph and not reason and item.header.modality == "CT")


def test_headers_that_anything_happened_to(tmp_path_factory, radiographs):
    folder = tmp_path_factory.mktemp("mutated")
    write_radiograph(folder / "a", np.zeros((8, 8), np.uint8))
    whole = (folder / "a").read_bytes()

    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=6)), max_size=12),
        st.integers(0, len(whole)),
        st.sampled_from(["a", "a.dcm", "a.txt"]),
        st.booleans(),
    )
    def check(changes, cut, name, meta):
        data = bytearray(whole if meta else whole[132:])
        for place, new in changes:
            data[place : place + len(new)] = new
        inner = folder / "one"
        inner.mkdir(exist_ok=True)
        path = inner / name
        path.write_bytes(data[:cut] if cut % 3 == 0 else data)
        try:
            search = find(inner, radiographs)
            assert len(search.found) + search.others == 1
            for item in search.found:
                texts = [item.refused, item.series, item.header.patient, item.header.modality, item.header.study]
                assert all(text == "" or text.isprintable() for text in texts)
                assert max(map(len, texts[1:])) <= 64
        finally:
            path.unlink()

    check()


def test_a_row_is_small():
    header = {"study": "1.2.3" * 10, "modality": "CR"}
    tracemalloc.start()
    rows = [
        Found(Path(f"/data/study/IM{n}"), f"study/IM{n}", "dicom", Header(sop_instance=f"{n:064}", **header))
        for n in range(2_000)
    ]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(rows) == 2_000
    assert size < 2_000 * 1200


def test_dicomdir_trees(tmp_path, radiograph, radiographs):
    from pydicom.fileset import FileSet

    files = FileSet()
    for number in range(4):
        path = tmp_path / "source" / f"{number}.dcm"
        source = radiograph(path, PatientID=f"P{number}", StudyID="1", StudyDate="20200101", StudyTime="120000")
        files.add(pydicom.dcmread(source))
    root = tmp_path / "cd"
    files.write(root)
    (tmp_path / "source" / "0.dcm").unlink()
    whole = find(root, radiographs)
    assert (len(whole.found), whole.others, refusals(whole)) == (4, 1, {})
    gone = whole.found[2]
    gone.path.unlink()
    # a medium mounted with names in lower case
    found = whole.found[0].path
    found.rename(found.with_name(found.name.lower()))
    assert refusals(find(root, radiographs)) == {gone.name: "named by DICOMDIR, not there; copy it again"}
    # a tree below the input, its directory cut
    deeper = tmp_path / "in" / "disc"
    deeper.parent.mkdir()
    root.rename(deeper)
    directory = deeper / "DICOMDIR"
    directory.write_bytes(directory.read_bytes()[:-40])
    search = find(tmp_path / "in", radiographs)
    assert refusals(search) == {f"disc/{gone.name}": "named by disc/DICOMDIR, not there; copy it again"}
    assert (len(search.found), search.others) == (4, 1)
