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


def test_a_folder_in_a_cell_is_part_of_it(tmp_path):
    """Only a bare name is looked for in the usual folders."""
    write_pair(tmp_path / "images" / "1.png", tmp_path / "masks" / "1.png")
    write_pair(tmp_path / "p2" / "1.png", tmp_path / "p2" / "m.png")
    row = {"text": SENTENCE, "laterality": "image"}
    cells = [("p1/1.png", "1.png"), ("1.png", "p2/1.tif"), ("p2/1.png", "1.tif")]
    write_table(tmp_path / "t.csv", [row | {"image": image, "mask": mask} for image, mask in cells])
    listing = list_dataset("csv", tmp_path)
    assert [fault.line for fault in listing.faults] == ["t.csv:2: no image p1/1.png", "t.csv:3: no mask p2/1.tif"]
    (pair,) = listing.pairs
    assert (pair.image, pair.mask) == (tmp_path / "p2" / "1.png", tmp_path / "masks" / "1.png")


@pytest.mark.parametrize(
    ("texts", "grammar", "kind"),
    [
        (["one small white round polyp, located in left of the image", "?"], "polyp", "polyp"),
        ([SENTENCE, "?"], "chest", "radiograph"),
        (["Lungs full of penguins."], "chest", "radiograph"),
    ],
)
def test_the_sentences_tell_grammar_and_kind(tmp_path, texts, grammar, kind):
    write_pair(tmp_path / "a.png", tmp_path / "m.png")
    row = {"image": "a.png", "mask": "m.png", "laterality": "image"}
    write_table(tmp_path / "t.csv", [row | {"text": text} for text in texts])
    listing = list_dataset("csv", tmp_path)
    assert (listing.grammar, listing.kind) == (grammar, kind)


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
