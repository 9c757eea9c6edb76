"""Rows, masks and pictures of a folder, with a model that finds what is bright."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.batch import Prompts, find
from common.batch import folder as module
from common.batch.folder import COLUMNS, names_of, segment_folder
from common.errors import UserError
from common.images import read_image, to_display, to_stored, write_radiograph
from common.prompts import parse
from common.report.overlay import overlay
from common.runtime.model import Segmentation

PICTURE = np.zeros((64, 48), np.uint8)  # as displayed: bright low at the left, where a patient's right is
PICTURE[40:58, 6:20] = 255
RIGHT_LOWER = "Opacity in the right lower lobe."


class Bright:
    """Stands for a bundle: what is bright is the lesion, in the file's own grid."""

    folder = Path("bright")

    def __init__(self, grammar="chest", kind="radiograph", takes_text=True):
        self.grammar, self.kind, self.takes_text = grammar, kind, takes_text

    def __call__(self, image, text=None, laterality=None):
        stored, meta = read_image(image)
        if stored.min() > 0:
            raise UserError(f"{image}: is white everywhere; take it again")
        if stored.max() == 0:
            raise RuntimeError("two\nlines")
        mask = stored > 0.5
        used = "not used" if not self.takes_text else "given" if text else "default"
        return Segmentation(
            mask=mask.T, probability=stored.T, displayed=to_display(mask, meta["display"]), sentence=text or "",
            findings=parse(text, laterality, self.grammar) if text else None, prompt_used=used, meta=meta,
        )  # fmt: skip


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def run(root, model=None, text=None, laterality=None):
    """Rows by name, as ``results.csv`` holds them."""
    images = find(root, None).found
    assigned = Prompts(None, text, laterality).assign(images)
    prompts = {item.path: assigned[item.name] for item in images}
    segment_folder(model or Bright(), prompts, root, root.parent / "out")
    with (root.parent / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames) == COLUMNS
        return {row["source"]: row for row in reader}


@pytest.fixture
def markers(monkeypatch):
    """What was printed at the left of each picture, and the sentence below it."""
    drawn = []

    def spy(*args, sentence, marker):
        drawn.append((marker, sentence))
        return overlay(*args, sentence=sentence, marker=marker)

    monkeypatch.setattr(module, "overlay", spy)
    return drawn


def test_names_of_masks_never_meet(tmp_path):
    images = [tmp_path / name for name in ("a.dcm", "a.dcm.png", "a.PNG", "a.png", "b/a.png", "v.nii", "v.nii.gz")]
    names = [name.as_posix() for name in names_of(images, tmp_path).values()]
    assert names == [
        "a.dcm.png", "a-2.dcm.png", "a.PNG", "a.png", "b/a.png", "v.mask.nii.gz", "v-2.mask.nii.gz",
    ]  # fmt: skip
    assert names_of([tmp_path / "one.dcm"], tmp_path / "one.dcm") == {tmp_path / "one.dcm": Path("one.dcm.png")}


def test_overlays_never_meet(root):
    for name in ("a.PNG", "a.PNG.png"):
        Image.fromarray(PICTURE).save(root / name, format="png")
    rows = run(root)
    assert len({row["overlay"] for row in rows.values()}) == 2
    assert all((root.parent / "out" / row["overlay"]).is_file() for row in rows.values())


@pytest.mark.parametrize("orientation", [("L", "F"), ("R", "F"), ("F", "L"), ("L", "H")])
def test_a_frontal_picture_has_sides(root, markers, orientation):
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=orientation)
    row = run(root, text=RIGHT_LOWER, laterality="patient")["a.dcm"]
    assert (row["status"], row["verdict"], row["warnings"]) == ("done", "ok", "")
    assert row["understood"] == "Unilateral pulmonary infection, lower right lung."
    assert row["understood_laterality"] == "patient"
    assert (row["sides_named"], row["mask_sides"]) == ("patient right", "patient right")
    assert row["mask_zones"] == "patient right lower"
    assert (row["orientation"], row["orientation_source"]) == ("\\".join(orientation), "PatientOrientation")
    assert markers == [("R", "Unilateral pulmonary infection, lower right lung. (the patient's sides)")]
    written = np.asarray(Image.open(root.parent / "out" / row["mask"])) > 0
    assert np.array_equal(to_display(written.T, read_image(root / "a.dcm")[1]["display"]), PICTURE > 0)


def test_a_png_is_taken_as_displayed(root, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    row = run(root, text=RIGHT_LOWER, laterality="patient")["a.png"]
    assert (row["verdict"], row["orientation"], row["orientation_source"]) == ("ok", "", "")
    assert (row["mask_sides"], markers[0][0]) == ("patient right", "R")


@pytest.mark.parametrize(
    ("orientation", "view", "words"),
    [
        (("A", "F"), "PA", "lateral view: sides are not known"),
        (("L", "F"), "LL", "lateral view: sides are not known"),
        (None, "PA", "no orientation in the file: taken as displayed, sides are not known"),
    ],
)
def test_no_side_where_nobody_knows_it(root, markers, orientation, view, words):
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=orientation, view=view)
    row = run(root, text="Opacity in the left lung.", laterality="image")["a.dcm"]
    assert (row["verdict"], row["warnings"]) == ("note", words)
    assert (row["mask_sides"], row["mask_zones"]) == ("", "")
    assert (row["sides_named"], row["understood_laterality"]) == ("picture left", "image")
    assert row["understood"].endswith("left lung.")
    assert markers[0][0] == ""
    assert markers[0][1].endswith("(sides of the picture)")
    page = (root.parent / "out" / "index.html").read_text()
    assert words in page
    assert '<tr class="note">' in page
    # what a clinician said of the patient stays true whatever the picture shows
    row = run(root, text=RIGHT_LOWER, laterality="patient")["a.dcm"]
    assert (row["sides_named"], row["understood_laterality"]) == ("patient right", "patient")


@pytest.mark.parametrize(
    ("kind", "orientation", "expected"),
    [
        ("axial_ct", ("L", "P"), "patient right middle, patient right lower"),
        ("radiograph", ("L", "P"), ""),
        ("axial_ct", ("L", "F"), ""),
        ("radiograph", ("L", "F"), "patient right lower"),
    ],
)
def test_zones_are_those_of_the_kind_of_image(root, kind, orientation, expected):
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=orientation)
    row = run(root, Bright(kind=kind))["a.dcm"]
    assert row["mask_zones"] == expected
    assert row["mask_sides"] == "patient right"


def test_polyps_have_positions_and_no_sides_of_a_patient(root, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    write_radiograph(root / "b.dcm", PICTURE, patient_orientation=None)
    text = "One polyp, located in bottom-left of the image."
    rows = run(root, Bright("polyp", "polyp"), text, "image")
    for row in rows.values():
        assert row["verdict"] == "ok"
        assert (row["understood"], row["understood_laterality"]) == (text, "image")
        assert (row["sides_named"], row["mask_sides"]) == ("picture bottom left", "")
        assert row["mask_zones"] == "picture bottom left"
    assert markers == [("", f"{text} (sides of the picture)")] * 2
    assert "patient" not in ",".join(",".join(row.values()) for row in rows.values())


def test_the_default_sentence_is_marked(root, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    words = "no sentence: the default one, which asserts disease everywhere, was used"
    for blank in (None, "", "  "):
        row = run(root, text=blank)["a.png"]
        assert (row["prompt_used"], row["verdict"], row["warnings"]) == ("default", "note", words)
        assert (row["prompt"], row["understood"], row["sides_named"]) == ("", "", "")
    assert markers[0] == ("R", words)
    row = run(root, text=RIGHT_LOWER, laterality="patient")["a.png"]
    assert (row["prompt_used"], row["verdict"]) == ("given", "ok")


def test_a_network_without_text_uses_no_sentence(root, markers):
    Image.fromarray(PICTURE).save(root / "a.png")
    row = run(root, Bright(takes_text=False))["a.png"]
    assert (row["prompt_used"], row["verdict"], row["warnings"]) == ("not used", "ok", "")
    row = run(root, Bright(takes_text=False), RIGHT_LOWER, "patient")["a.png"]
    assert (row["prompt_used"], row["sides_named"]) == ("not used", "patient right")
    assert markers[1][1].endswith("(the patient's sides; not used by this network)")


def test_a_sentence_that_a_network_got_unread_is_a_note(root):
    Image.fromarray(PICTURE).save(root / "a.png")
    row = run(root, text="flurb", laterality="patient")["a.png"]
    assert (row["status"], row["verdict"], row["understood"]) == ("done", "note", "")
    assert row["warnings"] == "sentence not understood: flurb; the network got it as it is"


def test_a_failed_image_keeps_nothing_of_an_earlier_run(root):
    for name in ("good.png", "white.png", "black.png"):
        Image.fromarray(PICTURE).save(root / name)
    before = run(root)
    out = root.parent / "out"
    assert all((out / row[key]).is_file() for row in before.values() for key in ("mask", "overlay"))
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(root / "white.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "black.png")
    rows = run(root)
    assert [rows[name]["status"] for name in sorted(rows)] == ["failed", "done", "failed"]
    assert rows["white.png"]["reason"] == "is white everywhere; take it again"
    assert rows["black.png"]["reason"] == "RuntimeError: two lines"
    for name, row in before.items():
        for key in ("mask", "overlay"):
            assert (out / row[key]).exists() is (name == "good.png")
        if name != "good.png":
            assert (rows[name]["mask"], rows[name]["overlay"], rows[name]["verdict"]) == ("", "", "failed")


def test_a_mask_without_its_overlay_is_no_result(root, monkeypatch):
    Image.fromarray(PICTURE).save(root / "a.png")

    def full(*args, **kwargs):
        raise UserError("overlay: no space left; free some")

    monkeypatch.setattr(module, "overlay", full)
    assert run(root)["a.png"]["reason"] == "overlay: no space left; free some"
    assert not list((root.parent / "out" / "masks").iterdir())


def test_a_stored_grid_of_another_shape(root):
    """A picture stored turned: the mask has the file's rows and columns, the row's facts are as displayed."""
    write_radiograph(root / "a.dcm", PICTURE, patient_orientation=("F", "L"))
    row = run(root)["a.dcm"]
    assert (row["rows"], row["columns"]) == ("48", "64")
    mask = np.asarray(Image.open(root.parent / "out" / row["mask"]))
    assert np.array_equal(mask > 0, to_stored(PICTURE > 0, read_image(root / "a.dcm")[1]["display"]).T)
