"""Rows, masks and pictures of a run, with a bundle that finds what is bright."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from common.batch import job as module
from common.batch.engine import Model
from common.batch.job import COLUMNS
from common.batch.prompts import Prompts
from common.images import read_image, to_display, to_stored, write_radiograph
from common.report.overlay import overlay
from tests.common.batch.runs import PICTURE, go, like, rows, tree, write_slices

RIGHT_LOWER = "Opacity in the right lower lobe."
EVERY_VIEW = frozenset({"lateral", "view", "plane", "modality", "body-part"})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def markers(monkeypatch):
    """What was printed at the left of each picture, and the sentence below it."""
    drawn = []

    def spy(*args, sentence, marker):
        drawn.append((marker, sentence))
        return overlay(*args, sentence=sentence, marker=marker)

    monkeypatch.setattr(module, "overlay", spy)
    return drawn


def test_tables_pages_and_times(root, out, bright):
    Image.fromarray(PICTURE).save(root / "a.png")
    (root / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "read me.txt").write_text("no image")
    outcome = go(bright, root, out)
    assert (outcome.code, outcome.others, outcome.counts["all"]) == (1, 1, 2)
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames) == COLUMNS
        table = list(reader)
    listed = json.loads((out / "results.json").read_text())
    assert [row["source"] for row in table] == ["a.png", "b.png"]
    for row, other in zip(table, listed, strict=True):
        assert row == {key: str(value) for key, value in other.items()}
    with (out / "timing.csv").open(newline="") as file:
        times = list(csv.DictReader(file))
    assert [row["source"] for row in times] == ["a.png", "b.png"]
    assert all(float(times[0][f"{step}_s"]) > 0 for step in ("decode", "network", "write"))
    assert (times[1]["network_s"], times[1]["write_s"]) == ("", "")
    assert (out / "report.html").is_file()
    assert np.array_equal(np.asarray(Image.open(out / "masks" / "a.png")), np.where(PICTURE > 0, 255, 0))


@pytest.mark.parametrize("orientation", [("L", "F"), ("R", "F"), ("F", "L"), ("L", "H")])
def test_a_frontal_picture_has_sides(root, out, bright_text, markers, orientation):
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=orientation)
    go(bright_text, root, out, text=RIGHT_LOWER, laterality="patient")
    row = rows(out)["a.dcm"]
    assert (row["status"], row["reason"]) == ("done", "")
    assert (row["prompt"], row["prompt_source"], row["prompt_used"]) == (RIGHT_LOWER, "option", "given")
    assert row["understood"] == "Unilateral pulmonary infection, lower right lung."
    assert (row["prompt_laterality"], row["understood_laterality"]) == ("patient", "patient")
    assert (row["sides_named"], row["mask_sides"]) == ("patient right", "patient right")
    assert row["mask_zones"] == "patient right lower"
    assert (row["orientation"], row["orientation_source"]) == ("\\".join(orientation), "PatientOrientation")
    assert markers == [("R", "Unilateral pulmonary infection, lower right lung. (the patient's sides)")]
    written = np.asarray(Image.open(out / row["mask"])) > 0
    assert np.array_equal(to_display(written.T, read_image(root / "a.dcm")[1]["display"]), PICTURE > 0)


def test_the_other_side_is_for_review(root, out, bright_text):
    write_radiograph(root / "a.dcm", PICTURE)
    go(bright_text, root, out, text="Opacity in the left lower lobe.", laterality="patient")
    row = rows(out)["a.dcm"]
    assert (row["verdict"], row["sides_named"], row["mask_sides"]) == ("review", "patient left", "patient right")


def test_a_png_is_taken_as_displayed(root, out, bright_text, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    go(bright_text, root, out, text=RIGHT_LOWER, laterality="patient")
    row = rows(out)["a.png"]
    assert (row["orientation"], row["orientation_source"]) == ("", "")
    assert (row["mask_sides"], markers[0][0]) == ("patient right", "R")


@pytest.mark.parametrize(
    ("orientation", "view", "words"),
    [
        (("A", "F"), "PA", "lateral view: sides are not known"),
        (("L", "F"), "LL", "lateral view: sides are not known"),
        (None, "PA", "no orientation in the file: taken as displayed, sides are not known"),
    ],
)
def test_no_side_where_nobody_knows_it(root, out, bright_text, markers, orientation, view, words):
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=orientation, view=view)
    go(bright_text, root, out, text="Opacity in the left lung.", laterality="image", include=EVERY_VIEW)
    row = rows(out)["a.dcm"]
    assert row["status"] == "done"
    assert bool(row["included"]) is ("lateral" in words)
    assert words in row["warnings"]
    assert row["verdict"] != "ok"
    assert (row["mask_sides"], row["mask_zones"]) == ("", "")
    assert (row["sides_named"], row["understood_laterality"]) == ("picture left", "image")
    assert markers[0] == ("", f"{row['understood']} (sides of the picture)")
    assert row["understood"].endswith("left lung.")
    # what a clinician said of the patient stays true whatever the picture shows
    again = out.with_name("again")
    go(bright_text, root, again, text=RIGHT_LOWER, laterality="patient", include=EVERY_VIEW)
    row = rows(again)["a.dcm"]
    assert (row["sides_named"], row["understood_laterality"]) == ("patient right", "patient")


@pytest.mark.parametrize(
    ("modality", "orientation", "expected"),
    [
        ("CT", ("L", "P"), "patient right middle, patient right lower"),
        ("CR, DX", ("L", "P"), ""),
        ("CT", ("L", "F"), ""),
        ("CR, DX", ("L", "F"), "patient right lower"),
    ],
)
def test_zones_are_those_of_the_kind_of_image(root, out, bright, modality, orientation, expected):
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=orientation)
    bundle = like(bright, out.with_name("bundle"), modality=modality)
    go(bundle, root, out, include=EVERY_VIEW)
    row = rows(out)["a.dcm"]
    assert (row["mask_zones"], row["mask_sides"]) == (expected, "patient right")


def test_polyps_have_positions_and_no_sides_of_a_patient(root, out, bright_text, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    text = "One polyp, located in bottom-left of the image."
    bundle = like(bright_text, out.with_name("bundle"), "polyp", "ES")
    go(bundle, root, out, text=text, laterality="image")
    row = rows(out)["a.png"]
    assert row["status"] == "done"
    assert (row["understood"], row["understood_laterality"]) == (text, "image")
    assert (row["sides_named"], row["mask_sides"]) == ("picture bottom left", "")
    assert row["mask_zones"] == "picture bottom left"
    assert markers == [("", f"{text} (sides of the picture)")]
    assert "patient" not in ",".join(str(value) for value in row.values())


SKIPPED = "no sentence, and --no-prompt is skip"
DEFAULT = "no sentence: the default one, which asserts disease everywhere"


@pytest.mark.parametrize("text", [None, "  ", "flurb blorp"])
def test_without_a_sentence_that_can_be_read(root, out, bright_text, markers, text):
    Image.fromarray(PICTURE).save(root / "a.png")
    given = {"text": text, "laterality": "patient" if text else None}
    unread = "sentence not understood: flurb" if text and text.strip() else ""
    outcome = go(bright_text, root, out, **given)
    row = rows(out)["a.png"]
    assert (outcome.code, row["status"], row["verdict"], row["mask"]) == (2, "skipped", "failed", "")
    assert row["reason"].endswith(SKIPPED)
    assert row["reason"].startswith(unread or SKIPPED)
    assert not list(out.glob("masks/*"))
    again = out.with_name("again")
    outcome = go(bright_text, root, again, options={"no_prompt": "default"}, **given)
    row = rows(again)["a.png"]
    assert (outcome.code, row["status"], row["prompt_used"], row["verdict"]) == (0, "done", "default", "note")
    assert (row["understood"], row["sides_named"]) == ("", "")
    assert row["prompt"] == (text or "").strip()
    assert row["warnings"].startswith(unread or DEFAULT)
    assert DEFAULT in row["warnings"]
    assert markers == [("R", DEFAULT)]


def test_a_network_without_text_uses_no_sentence(root, out, bright, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    go(bright, root, out)
    row = rows(out)["a.png"]
    assert (row["status"], row["prompt_used"]) == ("done", "not used")
    again = out.with_name("again")
    go(bright, root, again, text=RIGHT_LOWER, laterality="patient")
    row = rows(again)["a.png"]
    assert (row["prompt_used"], row["sides_named"]) == ("not used", "patient right")
    assert [sentence for _, sentence in markers] == ["the bundle takes no sentence"] * 2


def test_sentences_are_those_of_their_images(root, out, bright_text):
    for name in ("a", "b", "c"):
        Image.fromarray(PICTURE).save(root / f"{name}.png")
    (root / "b.txt").write_text("Opacity in the left lung.")
    table = out.with_name("prompts.csv")
    table.write_text("image,text,laterality\na.png,Opacity in the right lung.,image\nz.png,Opacity.,image\n")
    outcome = go(bright_text, root, out, prompts=Prompts(table, RIGHT_LOWER, "patient", beside=True))
    found = rows(out)
    assert {name: (row["prompt_source"], row["prompt_laterality"]) for name, row in found.items()} == {
        "a.png": ("csv", "image"), "b.png": ("txt", "patient"), "c.png": ("option", "patient"),
    }  # fmt: skip
    assert [row["sides_named"] for row in found.values()] == ["patient left", "patient left", "patient right"]
    assert list(outcome.unused) == ["z.png"]


def test_an_exception_that_nobody_foresaw_costs_its_image_only(root, out, bright, monkeypatch, caplog):
    for name in ("a secret.png", "b.png"):
        Image.fromarray(PICTURE).save(root / name)

    def fails(self, image, *args, real=module.Processing.prepare):
        if image.name != "b.png":
            raise RuntimeError(f"two\nlines about {image}")
        return real(self, image, *args)

    monkeypatch.setattr(module.Processing, "prepare", fails)
    assert go(bright, root, out).code == 1
    found = rows(out)
    assert [row["status"] for row in found.values()] == ["failed", "done"]
    assert found["a secret.png"]["reason"] == "RuntimeError: two lines about the file"
    assert "RuntimeError at test_run.py" in caplog.records[0].facts["where"]
    assert "secret" not in str(caplog.records[0].__dict__)


def test_a_mask_without_its_overlay_is_no_result(root, out, bright, monkeypatch):
    Image.fromarray(PICTURE).save(root / "a.png")

    def full(*args, **kwargs):
        raise ValueError("no overlay")

    monkeypatch.setattr(module, "overlay", full)
    go(bright, root, out)
    assert rows(out)["a.png"]["reason"] == "ValueError: no overlay"
    assert not list((out / "masks").iterdir())


def test_overlays_never_meet(root, out, bright):
    names = ("a.PNG", "a.PNG.png", "a.png", "c.jpg/b.png", "c.png", "d.bmp", "d.bmp.png/e.png")
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PICTURE).save(root / name, format="bmp" if "bmp" in name else "png")
    outcome = go(bright, root, out)
    found = rows(out)
    assert outcome.code == 0, [row["reason"] for row in found.values()]
    for kind in ("mask", "overlay"):
        assert len({row[kind].casefold() for row in found.values()}) == len(names)
        assert all((out / row[kind]).is_file() for row in found.values())


def test_a_stored_grid_of_another_shape(root, out, bright):
    """A picture stored turned: the mask has the file's rows and columns, the row's facts are as displayed."""
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=("F", "L"))
    go(bright, root, out)
    row = rows(out)["a.dcm"]
    assert (row["rows"], row["columns"]) == (48, 64)
    mask = np.asarray(Image.open(out / row["mask"]))
    assert np.array_equal(mask > 0, to_stored(PICTURE > 0, read_image(root / "a.dcm")[1]["display"]).T)


def test_segmentations_and_captures_of_dicom_alone(root, out, bright):
    highdicom = pytest.importorskip("highdicom")
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=("F", "L"))
    Image.fromarray(PICTURE).save(root / "b.png")
    go(bright, root, out, options={"seg": "binary", "secondary_capture": True})
    row = rows(out)["a.dcm"]
    assert row["reason"] == ""
    assert [rows(out)["b.png"][key] for key in ("seg", "secondary_capture")] == ["", ""]
    seg = highdicom.seg.segread(out / row["seg"])
    mask = np.asarray(Image.open(out / row["mask"])) > 0
    assert np.array_equal(seg.pixel_array.reshape(mask.shape) > 0, mask)
    assert seg.ContentLabel
    assert (out / row["secondary_capture"]).is_file()


@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_one_segmentation_a_series_across_batches(root, out, bright, kind):
    highdicom = pytest.importorskip("highdicom")
    uids = write_slices(root / "scan")
    bundle = like(bright, out.with_name("bundle"), modality="CT")
    stop = iter([False, False, True])
    assert go(bundle, root, out, options={"seg": kind}, batch_size=2, stopping=lambda: next(stop, True)).code == 3
    assert not list(out.glob("seg/*"))  # not before all slices are there
    assert len(rows(out)) == 4
    assert go(bundle, root, out, options={"seg": kind}, batch_size=2).code == 0
    found = list(rows(out).values())
    assert [row["position"] for row in found] == [0, 1, 2, 3, 4]
    assert [row["source"] for row in found] == [f"scan/{letter}0.dcm" for letter in "ecadb"]
    (name,) = {row["seg"] for row in found}
    seg = highdicom.seg.segread(out / name)
    frames = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)[..., 0]
    masks = np.stack([np.asarray(Image.open(out / row["mask"])) > 0 for row in found])
    assert masks.any((1, 2)).all()
    assert np.array_equal(frames >= 0.5 if kind == "fractional" else frames > 0, masks)
    if kind == "fractional":
        assert len(np.unique(frames)) > 2
    # unbroken, and with another number of images at a time, it is the same
    go(bundle, root, out.with_name("again"), options={"seg": kind})
    assert tree(out) == tree(out.with_name("again"))
    # a new slice of the series: the segmentation is made anew
    before = (out / name).read_bytes()
    write_slices(root / "scan", 6)
    go(bundle, root, out, options={"seg": kind}, batch_size=2)
    assert (out / name).read_bytes() != before
    assert len({row["seg"] for row in rows(out).values()}) == 1


def test_a_gpu_without_enough_memory_gets_halves(root, out, bright, monkeypatch):
    for number in range(7):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(root / f"{number}.png")
    go(bright, root, out)
    real, sizes, said = Model.logits, [], []

    def small(self, prepared):
        sizes.append(len(prepared))
        if len(prepared) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(self, prepared)

    monkeypatch.setattr(Model, "logits", small)
    go(bright, root, out.with_name("again"), said=said.append)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    assert said[0] == "the GPU's memory does not hold 7 images at once: halves of 3 are tried"
    assert tree(out) == tree(out.with_name("again"))


def test_stopping_ends_the_batches_that_are_begun(root, out, bright):
    for number in range(5):
        Image.fromarray(PICTURE).save(root / f"{number}.png")
    asked = iter([False, False, True])
    outcome = go(bright, root, out, batch_size=1, stopping=lambda: next(asked, True))
    assert (outcome.code, outcome.stopped, len(rows(out))) == (3, True, 2)
    outcome = go(bright, root, out, batch_size=1)
    assert (outcome.code, len(rows(out))) == (0, 5)
