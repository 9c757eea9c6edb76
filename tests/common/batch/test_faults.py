"""Files, disks and words that go wrong: each is a row or one line, and the rest goes on."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.batch.job import COLUMNS, OutputLost
from common.batch.prompts import Prompts
from common.images import write_radiograph
from tests.common.batch.runs import PICTURE, forked, go, rows, tree


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def png(path, picture=PICTURE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, format="png")


def test_bad_files_are_rows_and_the_rest_goes_on(root, tmp_path, bright):
    png(root / "0 good.png")
    whole = (root / "0 good.png").read_bytes()
    write_radiograph(root / "good.dcm", PICTURE)
    dicom = (root / "good.dcm").read_bytes()
    good = ["0 good.png", "good.dcm"]
    for name in (
        "it's.png",
        'quo"te.png',
        "comma,;.png",
        "ne\nw.png",
        "ü 日本 \u202e.png",
        "=1+1.png",
        "-rf.png",
    ):
        png(root / name)
        good.append(name)
    name = os.fsdecode(b"latin\xe9.png")
    png(root / name)
    good.append("latin\\xe9.png")
    bad = {"cut.png": whole[:-60], "cut.dcm": dicom[:-100], "empty.dcm": b"", "empty.png": b"", "text.dcm": b"no image",
           "head.dcm": dicom[:200], "zeros.png": b"\0" * 100}  # fmt: skip
    for name, content in bad.items():
        (root / name).write_bytes(content)
    with (root / "sparse.dcm").open("wb") as file:
        file.write(dicom)
        file.truncate(3 * 2**30)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "dangling.dcm").symlink_to(root / "nowhere")
    (root / "round").symlink_to(root)
    outcome = go(bright, root, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert {name for name, row in found.items() if row["status"] == "done"} >= set(good)
    left = set(found) - set(good)
    assert left >= {*bad, "loop.png", "dangling.dcm"} - {"sparse.dcm"}
    assert "sparse.dcm" in found
    for name in left - {"sparse.dcm"}:
        row = found[name]
        assert row["status"] in ("refused", "failed"), row
        assert row["reason"]
        assert "\n" not in row["reason"]
        assert (row["mask"], row["overlay"]) == ("", "")
    assert outcome.code == 1
    for name in good:
        mask = np.asarray(Image.open(tmp_path / "out" / found[name]["mask"]))
        assert np.array_equal(mask > 0, PICTURE > 0)
    assert len(list((tmp_path / "out" / "masks").rglob("*.*"))) == sum(
        row["status"] == "done" for row in found.values()
    )


def test_files_that_another_user_may_not_read(root, tmp_path, bright):
    if os.geteuid():
        pytest.skip("needs root, to become another user")
    png(root / "a.png")
    png(root / "b.png")
    png(root / "closed" / "c.png")
    (root / "b.png").chmod(0)
    (root / "closed").chmod(0)
    go(bright, root, tmp_path / "first")  # what is imported late is not where another user may read
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    for folder in (out, bright, *out.parents, *bright.parents):
        folder.chmod(folder.stat().st_mode | 0o005)

    def as_nobody():
        os.setgid(65534)
        os.setuid(65534)
        return go(bright, root, out).code

    assert forked(as_nobody) == 1
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {
        "a.png": "done",
        "b.png": "refused",
        "closed": "refused",
    }
    assert all("ermission" in found[name]["reason"] for name in ("b.png", "closed"))


def stays_whole(bright, folder, contents):
    """One run on files of any content beside a good one: a row each, no traceback, no mask in another grid."""
    shutil.rmtree(folder, ignore_errors=True)
    png(folder / "in" / "good.png")
    for name, content in contents.items():
        (folder / "in" / name).write_bytes(content)
    outcome = go(bright, folder / "in", folder / "out", options={"seg": "binary"})
    found = rows(folder / "out")
    assert found.pop("good.png")["status"] == "done"
    assert outcome.counts["all"] + outcome.others == 1 + len(contents)
    for name, row in found.items():
        assert "Traceback" not in row["reason"]
        if row["status"] == "done":
            mask = np.asarray(Image.open(folder / "out" / row["mask"]))
            assert mask.shape == (row["rows"], row["columns"]) == grid(folder / "in" / name)
            assert set(np.unique(mask)) <= {0, 255}
            assert not row["reason"]
        else:
            assert row["reason"]
            assert row["mask"] == ""


def grid(path):
    """Rows and columns that a file has for those who wrote its library."""
    if path.suffix == ".dcm":
        data = pydicom.dcmread(path, force=True)
        return data.Rows, data.Columns
    with Image.open(path) as picture:
        return picture.size[::-1]


EDITS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "drop", "insert"]), st.binary(max_size=6)),
                 min_size=1, max_size=4)  # fmt: skip


def edited(content, edits):
    data = bytearray(content)
    for where, how, what in edits:
        at = int(where * len(data))
        if how == "set":
            data[at : at + len(what)] = what
        elif how == "cut":
            del data[at:]
        elif how == "drop":
            del data[at : at + len(what)]
        else:
            data[at:at] = what
    return bytes(data)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contents")
    png(folder / "a.png")
    write_radiograph(folder / "a.dcm", PICTURE, patient_orientation=("F", "L"))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


# some files a run, for most of its time goes into its beginning; in depth 2,000 runs of each test
FILES = 4
PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.timeout(7200)
@PROPERTY
@given(changes=st.lists(st.tuples(st.sampled_from([".dcm", ".png"]), EDITS, st.booleans()), min_size=1, max_size=FILES))
def test_any_change_of_bytes(bright, contents, tmp_path, changes):
    files = {}
    for number, (suffix, edits, early) in enumerate(changes):
        content = contents[suffix]
        if early:  # in the header
            edits = [(where * min(1.0, 1500 / len(content)), how, what) for where, how, what in edits]
        files[f"{number}{suffix}"] = edited(content, edits)
    stays_whole(bright, tmp_path / "work", files)


NAMES = [
    "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "NumberOfFrames", "PhotometricInterpretation", "PatientOrientation", "ImagerPixelSpacing", "WindowCenter",
    "WindowWidth", "RescaleSlope", "RescaleIntercept", "SOPInstanceUID", "StudyInstanceUID", "StudyDate", "StudyTime",
    "PatientName", "SpecificCharacterSet", "ViewPosition", "Modality",
]  # fmt: skip
VALUES = ["", "0", "1", "-1", "12", "65535", "1e9", "nan", "inf", "L\\F", "A\\F", "x" * 70, "MONOCHROME1", "RGB",
          "ISO_IR 192", "20200230", "1\\2\\3", "\\", "\x00"]  # fmt: skip
ELEMENTS = st.dictionaries(
    st.sampled_from(NAMES), st.one_of(st.none(), st.sampled_from(VALUES)), min_size=1, max_size=3
)


def with_elements(content, elements):
    """A DICOM file with other elements; None where pydicom writes no such file."""
    data = pydicom.dcmread(io.BytesIO(content))
    for name, value in elements.items():
        tag = pydicom.datadict.tag_for_keyword(name)
        if value is None:
            data.pop(tag, None)
            continue
        vr = pydicom.datadict.dictionary_VR(tag)
        with contextlib.suppress(ValueError, OverflowError):
            if vr == "US":
                data[tag] = pydicom.DataElement(tag, "US", int(float(value)) % 65536)
            else:
                with pydicom.config.disable_value_validation():
                    raw = pydicom.dataelem.RawDataElement(tag, vr, len(value), value.encode(), 0, False, True)
                    data[tag] = pydicom.dataelem.DataElement_from_raw(raw)
    buffer = io.BytesIO()
    try:
        data.save_as(buffer, enforce_file_format=False)
    except Exception:
        return None
    return buffer.getvalue()


@pytest.mark.timeout(7200)
@PROPERTY
@given(changes=st.lists(ELEMENTS, min_size=1, max_size=FILES))
def test_any_change_of_the_header(bright, contents, tmp_path, changes):
    made = {f"{number}.dcm": with_elements(contents[".dcm"], elements) for number, elements in enumerate(changes)}
    stays_whole(bright, tmp_path / "work", {name: content for name, content in made.items() if content})


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MB, taken away at the end."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("needs root and mount, for a disk of 1 MB")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def noise(folder, count):
    """Pictures whose overlays are large."""
    chance = np.random.default_rng(0)
    for number in range(count):
        png(folder / f"{number:03}.png", chance.integers(0, 255, (400, 300), dtype=np.uint8))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_run_and_space_lets_it_go_on(root, tmp_path, bright, disk, workers):
    noise(root, 18)
    out = disk / "out"
    words = r"out: cannot be written to \(No space left on device\); mend it \(space, permission, mount\) and run"
    with pytest.raises(OutputLost, match=words) as full:
        go(bright, root, out, workers=workers)
    assert "\n" not in str(full.value)
    assert list(out.glob("masks/*.png"))
    assert not list(out.rglob(".partial*"))
    with pytest.raises(OutputLost, match=words):
        go(bright, root, out, workers=workers)
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    assert go(bright, root, out, workers=workers).code == 0
    assert go(bright, root, tmp_path / "unbroken").code == 0
    assert tree(out) == tree(tmp_path / "unbroken")


@pytest.mark.parametrize("rest", [0, 4096, 20000])
def test_a_disk_that_is_full_from_the_start(root, tmp_path, bright, disk, rest):
    """The plan, the first mask or a table is what does not find space."""
    png(root / "a.png")
    out = disk / "out"
    (out / ".work" / "done").mkdir(parents=True)
    (disk / "filler").write_bytes(b"x" * (2**20 - 4096 * 6 - rest))
    with pytest.raises(OutputLost, match="No space left on device"):
        go(bright, root, out)
    (disk / "filler").unlink()
    assert go(bright, root, out).code == 0
    go(bright, root, tmp_path / "unbroken")
    assert tree(out) == tree(tmp_path / "unbroken")


def test_a_disk_that_became_read_only(root, tmp_path, bright, disk):
    for number in range(4):
        png(root / f"{number}.png")
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    out, asked = disk / "out", iter([False, False, True])
    assert go(bright, root, out, batch_size=1, stopping=lambda: next(asked)).code == 3
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(OutputLost, match=r"out: cannot be written to \(Read-only file system\); mend it"):
        go(bright, root, out, batch_size=1)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert go(bright, root, out, batch_size=1).code == 0
    go(bright, root, tmp_path / "unbroken", batch_size=1)
    assert tree(out) == tree(tmp_path / "unbroken")


CANARY = "Zweifelhaft"
KEY = {"key": b"0123456789abcdef"}


def patient(folder):
    """Files that name a patient in every place; what must be found nowhere."""
    import nibabel

    for number, sub in enumerate(("a", "a", "b")):
        path = folder / f"{CANARY} {sub}" / f"{CANARY.lower()}{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_radiograph(path, np.roll(PICTURE, number * (sub == "b"), 1))
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientID, data.AccessionNumber = f"{CANARY}^Anna", "PID47114711", "ACC08150815"
        data.save_as(path)
    (folder / f"{CANARY}2.dcm").write_bytes((folder / f"{CANARY} a" / f"{CANARY.lower()}0.dcm").read_bytes()[:-50])
    png(folder / f"{CANARY}.png")
    png(folder / f"{CANARY}-unread.png")
    volume = nibabel.Nifti1Image(PICTURE[..., None].copy(), np.eye(4))
    volume.header["descrip"] = volume.header["db_name"] = volume.header["aux_file"] = CANARY.encode()
    nibabel.save(volume, folder / f"{CANARY}.nii.gz")
    uids = [str(data.SOPInstanceUID), str(data.StudyInstanceUID), str(data.SeriesInstanceUID)]
    table = folder.parent / "prompts.csv"
    lines = [f"{CANARY}.png,Opacity in the rigth lower lobe.,patient", f"{CANARY}-unread.png,{CANARY} blorp,patient",
             f"{CANARY}-gone.png,{CANARY},patient"]  # fmt: skip
    table.write_text("image,text,laterality\n" + "\n".join(lines) + "\n")
    return table, [CANARY, CANARY.lower(), "PID47114711", "ACC08150815", "blorp", "rigth", *uids]


def everything(out):
    """All names and contents below a folder, unpacked where they are packed."""
    for path in out.rglob("*"):
        yield os.fsencode(path.relative_to(out).as_posix())
        if path.is_file():
            content = path.read_bytes()
            yield gzip.decompress(content) if path.suffix == ".gz" else content


def test_pseudonyms_leave_no_identifier_anywhere(root, tmp_path, bright_text, caplog, capfd):
    table, words = patient(root)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()]

    def run(out, key):
        said = []
        prompts = Prompts(table, "Opacity in the left lung.", "patient")
        outcome = go(bright_text, root, out, prompts=prompts, options={"key": key}, said=said.append)
        return outcome, said

    outcome, said = run(tmp_path / "out", KEY["key"])
    found = rows(tmp_path / "out")
    assert {row["status"] for row in found.values()} == {"done", "failed", "skipped"}
    assert sum(row["status"] == "done" for row in found.values()) >= 4
    haystack = b"\n".join(everything(tmp_path / "out")) + str(said).encode() + str(outcome.counts).encode()
    haystack += caplog.text.encode() + "".join(capfd.readouterr()).encode()
    for word in [*words, *digests, str(root)]:
        at = haystack.find(word.encode())
        assert at < 0, (word, haystack[max(0, at - 300) : at + 100])
    # the test could fail: without a key they are there
    run(tmp_path / "plain", None)
    plain = b"\n".join(everything(tmp_path / "plain"))
    for word in (CANARY, "PID47114711", "ACC08150815", *words[-3:-1]):
        assert word.encode() in plain, word
    assert any(digest.encode() in plain for digest in digests)
    # the same key, the same names; another key, others
    run(tmp_path / "again", KEY["key"])
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    run(tmp_path / "other", b"another secret of mine")
    assert not rows(tmp_path / "other").keys() & found.keys()
    assert {row["patient_id"] for row in found.values() if row["format"] == "dicom" and row["patient_id"]}


def resident():
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


def grown(bright, root, out, count, batch):
    """A run over ``count`` small files: bytes of memory at each batch."""
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, format="png")
    for number in range(count):
        folder = root / f"{number // 1000:03}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:06}.png").write_bytes(content.getvalue())
    (root / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    curve = []

    def asked():
        curve.append(resident())
        return False

    outcome = go(bright, root, out, batch_size=batch, stopping=asked)
    assert outcome.counts["all"] == count + 1
    assert outcome.counts["status done"] == count
    assert sum(1 for _ in (out / "masks").rglob("*.png")) == count
    assert len(json.loads((out / "results.json").read_text())) == count + 1
    return curve


def test_memory_stays_flat(root, tmp_path, bright):
    curve = grown(bright, root, tmp_path / "out", 300, 15)
    assert max(curve) - curve[len(curve) // 3] < 30 * 2**20


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_memory_stays_flat_over_10000_files(root, tmp_path, bright, capsys):
    curve = grown(bright, root, tmp_path / "out", 10_000, 50)
    with capsys.disabled():
        print("\nimages, MiB:", *(f"{i * 50}: {curve[i] / 2**20:.0f}," for i in range(0, len(curve), 20)))
    assert max(curve) - curve[len(curve) // 10] < 60 * 2**20


def test_every_row_has_every_column(root, tmp_path, bright):
    png(root / "a.png")
    (root / "b.png").write_bytes(b"")
    go(bright, root, tmp_path / "out")
    assert all(tuple(row) == COLUMNS for row in rows(tmp_path / "out").values())
