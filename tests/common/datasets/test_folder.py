import pytest

from common.datasets import list_dataset, load_dataset
from common.errors import UserError
from tests.common.datasets.conftest import SENTENCE, write_pair, write_table


def test_all_columns(csv_root):
    train = load_dataset("auto", csv_root, "train")
    assert [item["laterality"] for item in train] == ["image", "patient"]
    assert [item["subject"] for item in train] == ["p0", "p0"]
    assert train[0]["image"] == str(csv_root / "images" / "a0.png")
    assert train[0]["label"] == str(csv_root / "truth" / "a0.png")
    assert load_dataset("csv", csv_root / "captions.csv", "validation")[0]["subject"] == "p1"


def test_laterality_is_never_guessed(tmp_path):
    write_pair(tmp_path / "a.png", tmp_path / "masks" / "a.png")
    write_table(tmp_path / "t.csv", [{"image": "a.png", "mask": "masks/a.png", "text": SENTENCE}])
    with pytest.raises(UserError, match=r"t.csv: has no column laterality; add it, or give laterality=image \(left"):
        load_dataset("csv", tmp_path, "train")
    (item,) = load_dataset("csv", tmp_path, "train", laterality="patient")  # without a split column all rows train
    assert item["laterality"] == "patient"
    assert item["subject"] == "a"
    with pytest.raises(UserError, match="laterality: 'left' is unknown; use 'image' or 'patient'"):
        load_dataset("csv", tmp_path, "train", laterality="left")


def test_faults(csv_root):
    rows = [
        {"image": "a0.png", "mask": "truth/a0.png", "text": SENTENCE, "laterality": "both", "split": "train"},
        {"image": "a1.png", "mask": "", "text": "", "laterality": "image", "split": "train"},
        {"image": "zz.png", "mask": "truth/a1.png", "text": SENTENCE, "laterality": "", "split": "later"},
    ]
    write_table(csv_root / "captions.csv", rows)
    assert [fault.line for fault in list_dataset("csv", csv_root).faults] == [
        "captions.csv:2: laterality both is neither image nor patient",
        "captions.csv:3: no mask (empty)",
        "captions.csv:3: a1.png has no sentence",
        "captions.csv:4: no image zz.png",
        "captions.csv:4: split 'later' is none of train, validation, test",
        "captions.csv:4: laterality (empty) is neither image nor patient",
    ]


def test_argument_must_not_contradict_the_column(csv_root):
    with pytest.raises(UserError, match=r"captions.csv:3: laterality is patient, but laterality=image was given"):
        load_dataset("csv", csv_root, "train", laterality="image")


def test_several_tables(csv_root):
    (csv_root / "captions.csv").rename(csv_root / "one.csv")
    (csv_root / "two.csv").write_text((csv_root / "one.csv").read_text())
    with pytest.raises(UserError, match=r"several tables .*\(one.csv, two.csv\); give the path of one"):
        load_dataset("csv", csv_root, "train")
    assert load_dataset("csv", csv_root / "two.csv", "train")
    (csv_root / "two.csv").rename(csv_root / "captions.csv")  # the usual name wins
    assert load_dataset("csv", csv_root, "train")


@pytest.mark.real
def test_real_ct_slices(ct_slices_dir):
    assert len(load_dataset("auto", ct_slices_dir, "trainval", laterality="image")) == 88
