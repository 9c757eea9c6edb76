import numpy as np
import pytest
from PIL import Image

from common.datasets.check import check, summary
from common.errors import UserError
from common.images import read_image, to_stored, write_mask, write_radiograph
from common.metrics.consistency import consistency
from common.prompts import parse
from tests.common.datasets.conftest import SENTENCE, write_table


def test_sound_data(csv_root):
    report = check("auto", csv_root)
    assert report.usable
    assert report.faults == []
    assert report.notes == []
    train = report.splits["train"]
    assert (train.pairs, train.sides, train.zones, train.counts, train.contradicted) == (2, 2, 2, 2, 0)
    assert train.area == pytest.approx(100 / 56**2)
    assert train.sizes == {(56, 56): 2}
    assert report.shared == ["1 subjects in both validation and test, such as p1"]


def test_a_side_in_the_wrong_convention_is_seen(csv_root):
    table = csv_root / "captions.csv"
    table.write_text(table.read_text().replace("patient", "image"))
    report = check("auto", csv_root, splits=("train",))
    assert report.splits["train"].contradicted == 1
    assert report.splits["train"].sides == 1
    assert report.notes == [
        "captions.csv:3: names the right of the picture, 100% of the mask is on the left: "
        + SENTENCE.replace("left", "right")
    ]
    assert report.usable


def test_broken_rows(csv_root):
    rows = [
        {"image": f"a{k}.png", "mask": f"truth/a{k}.png", "text": SENTENCE, "laterality": "image"} for k in range(4)
    ]
    rows.append(rows[0] | {"text": "Lungs full of penguins."})
    write_table(csv_root / "captions.csv", rows)
    (csv_root / "images/a1.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(csv_root / "truth/a2.png")
    Image.fromarray(np.zeros((56, 56), np.uint8)).save(csv_root / "truth/a3.png")
    (csv_root / "images/a3.png").write_bytes((csv_root / "images/a2.png").read_bytes())
    report = check("csv", csv_root)
    assert not report.usable
    assert len(report.faults) == 2
    assert report.faults[0].startswith("captions.csv:3: ")
    assert "a1.png" in report.faults[0]
    assert report.faults[1].startswith("captions.csv:4: ")
    assert report.faults[1].endswith(
        "truth/a2.png: the mask is 40 x 30 pixels, its image 56 x 56; give a mask on its image's grid"
    )
    train = report.splits["train"]
    assert (train.empty, train.unreadable, train.pairs) == (1, 1, 5)
    assert any(note.startswith("captions.csv:6: sentence not understood (") for note in report.notes)
    assert "captions.csv:4: a2.png has the same pixels as a3.png" in report.notes
    assert "a0.png: stands in 2 rows" in report.notes


@pytest.mark.parametrize("orientation", [("R", "F"), ("F", "L")])
@pytest.mark.parametrize("suffix", ["png", "nii.gz"])
def test_masks_lie_as_in_training_and_evaluation(tmp_path, orientation, suffix):
    """A PNG mask in the stored grid, a NIfTI mask by its own orientation: both on the side of the sentence."""
    shown = np.zeros((60, 48), np.uint8)
    shown[36:54, 4:16] = 255
    write_radiograph(tmp_path / "x.dcm", shown, patient_orientation=orientation)
    _, meta = read_image(tmp_path / "x.dcm")
    write_mask(to_stored(shown > 0, meta["display"]), meta, tmp_path / f"m.{suffix}")
    write_table(
        tmp_path / "t.csv", [{"image": "x.dcm", "mask": f"m.{suffix}", "text": SENTENCE, "laterality": "image"}]
    )
    report = check("csv", tmp_path)
    train = report.splits["train"]
    assert (report.faults, report.notes) == ([], [])
    assert (train.compared, train.sides, train.contradicted) == (1, 1, 0)
    assert train.sizes == {(60, 48): 1}


@pytest.mark.parametrize("pixels", [1, 2])
def test_specks_count_as_in_the_evaluation(csv_root, pixels):
    """At 56 x 56 a speck is below 1.25 pixels: the ceilings of both are the same number."""
    path = csv_root / "truth" / "a0.png"  # its sentence: one area, on the right
    mask = np.asarray(Image.open(path)).copy()
    mask[5, 2 : 2 + pixels] = 255
    Image.fromarray(mask).save(path)
    train = check("csv", csv_root).splits["train"]
    found = consistency(mask > 0, parse(SENTENCE.replace("left", "right"), "image"))
    assert (train.sides - 1, train.counts - 1) == (found["laterality"], found["count"]) == ((pixels < 2,) * 2)


def test_zones_of_another_kind_of_image(csv_root):
    """The lesion lies below the radiograph's cut for "lower", not below that of a CT slice."""
    assert check("csv", csv_root, kind="radiograph").splits["train"].zones == 2
    assert check("csv", csv_root, kind="axial_ct").splits["train"].zones == 0


def test_no_rows(csv_root):
    table = csv_root / "captions.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:3]))
    with pytest.raises(UserError, match="has no rows of split test"):
        check("csv", csv_root, splits=("test",))


def test_summary_names_every_figure(csv_root):
    text = summary(check("csv", csv_root))
    for line in ("pairs ", "empty masks", "distinct sentences", "sentences not understood", "0 faults, 0 notes"):
        assert line in text
    assert "warning: 1 subjects in both validation and test" in text


@pytest.mark.real
def test_real_validation_split(qata_dir):
    """Measured figures: specification section 0, items 1, 2, 3 and 9."""
    part = check("qata", qata_dir, splits=("validation",)).splits["validation"]
    assert part.pairs == 1429
    assert part.empty == 0
    assert part.area == pytest.approx(0.090, abs=5e-4)
    assert part.counts / part.counted == pytest.approx(0.984, abs=2e-3)
    assert part.sides / part.compared > 0.978
    assert part.unreadable <= 2


@pytest.mark.real
def test_real_ct_slices_name_the_sides_of_the_picture(ct_slices_dir):
    report = check("csv", ct_slices_dir, laterality="image", kind="axial_ct")
    assert sum(part.sides for part in report.splits.values()) == 88
    assert report.faults == []
