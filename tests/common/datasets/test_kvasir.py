import csv
import random
from collections import Counter

import pytest

from common.datasets import list_dataset, load_dataset
from common.datasets.kvasir import HELD_OUT, sequence
from common.errors import UserError
from tests.common.datasets.conftest import write_pair, write_table


def _write(root, images, masks):
    write_pair(root / images / "x.jpg", root / masks / "x.png")
    text = "one small white round polyp, located in left of the image"
    write_table(root / "captions.csv", [{"split": "test", "image": "x.png", "mask": "x.png", "text": text}])


@pytest.mark.parametrize(
    ("folder", "name", "images", "masks"),
    [
        ("Kvasir-SEG", "kvasir", "images", "masks"),
        ("CVC-ClinicDB", "clinicdb", "PNG/Original", "PNG/Ground Truth"),
    ],
)
def test_layouts(tmp_path, folder, name, images, masks):
    _write(tmp_path / folder, images, masks)
    listing = list_dataset("auto", tmp_path)
    assert (listing.name, listing.grammar, listing.kind, listing.faults) == (name, "polyp", "polyp", [])
    (item,) = load_dataset("auto", tmp_path / folder, "test")
    assert item["laterality"] == "image"
    assert item["image"].endswith(f"{folder}/{images}/x.jpg")


def test_any_folder_when_named(tmp_path):
    _write(tmp_path / "polyps", "images", "masks")
    assert list_dataset("kvasir", tmp_path / "polyps").name == "kvasir"


def _write_table(root, rows):
    """A table of rows (split, name) and, empty, the files that it names."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        for _, name in rows:
            (root / folder / name).touch()
    text = "one small white round polyp, located in left of the image"
    write_table(root / "captions.csv", [{"split": s, "image": n, "mask": n, "text": text} for s, n in rows])


def _names(items):
    return [item["image"].rpartition("/")[2] for item in items]


def test_sequences_of_clinicdb():
    """The published sizes of the 29 runs of frames."""
    counts = Counter(sequence(f"{frame}.png") for frame in range(1, 613))
    assert [counts[number] for number in range(1, 30)] == [
        25, 25, 17, 11, 25, 23, 25, 26, 22, 6, 22, 25, 25, 20, 20, 25, 21, 20, 25, 20, 19, 19, 12, 25, 25, 18, 25, 20,
        21,
    ]  # fmt: skip
    runs = [sequence(f"PNG/Original/{frame:03d}.tif") for frame in range(1, 613)]
    assert runs == sorted(runs)
    assert [sequence(name) for name in ("0.png", "613.png", "x1.png", "1_2.png", "")] == [None] * 5


def test_clinicdb_holds_out_whole_sequences(tmp_path):
    rows = [("train", f"{frame}.png") for frame in range(1, 613)]
    random.Random(1).shuffle(rows)
    rows = [("test" if number < 62 else split, name) for number, (split, name) in enumerate(rows)]
    _write_table(tmp_path / "CVC-ClinicDB", rows)
    parts = {split: load_dataset("auto", tmp_path, split) for split in ("train", "validation", "test", "trainval")}
    assert _names(parts["test"]) == [name for split, name in rows if split == "test"]
    assert _names(parts["trainval"]) == [name for split, name in rows if split == "train"]
    assert len(parts["train"]) + len(parts["validation"]) == 550
    assert 0.08 < len(parts["validation"]) / 550 < 0.12
    assert {item["subject"] for item in parts["validation"]} == {f"sequence_{number:02d}" for number in HELD_OUT}
    assert not {i["subject"] for i in parts["train"]} & {i["subject"] for i in parts["validation"]}


def test_clinicdb_by_other_names_holds_out_nothing(tmp_path):
    _write_table(tmp_path / "CVC-ClinicDB", [("train", f"polyp{number}.png") for number in range(30)])
    assert len(load_dataset("auto", tmp_path, "train")) == 30
    with pytest.raises(UserError, match=r"has no rows of split validation; it has train \(30\)"):
        load_dataset("auto", tmp_path, "validation")


def test_kvasir_holds_out_a_tenth(tmp_path):
    rows = [("test" if number % 10 == 3 else "train", f"cju{number:03d}.png") for number in range(100)]
    _write_table(tmp_path / "Kvasir-SEG", rows)
    parts = {split: _names(load_dataset("auto", tmp_path, split)) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [81, 9, 10]
    assert parts["test"] == [name for split, name in rows if split == "test"]
    assert sorted(parts["train"] + parts["validation"]) == [name for split, name in rows if split == "train"]
    # whatever the seed, the order of the table, and what else is broken
    assert _names(load_dataset("auto", tmp_path, "validation", seed=5)) == parts["validation"]
    _write_table(tmp_path / "again" / "Kvasir-SEG", rows[::-1])
    (tmp_path / "again" / "Kvasir-SEG" / "masks" / parts["train"][0]).unlink()
    assert _names(load_dataset("auto", tmp_path / "again", "validation")) == parts["validation"][::-1]
    (tmp_path / "again" / "Kvasir-SEG" / "masks" / parts["validation"][0]).unlink()
    with pytest.raises(UserError, match=f"1 faults in split validation: .*no mask {parts['validation'][0]}"):
        load_dataset("auto", tmp_path / "again", "validation")


def test_kvasir_keeps_an_image_with_many_sentences_together(tmp_path):
    rows = [("train", f"cju{number:03d}.png") for number in range(40)]
    _write_table(tmp_path / "Kvasir-SEG", rows * 3)
    train, validation = (_names(load_dataset("auto", tmp_path, split)) for split in ("train", "validation"))
    assert Counter(validation) == dict.fromkeys(set(validation), 3) and len(validation) == 12
    assert not set(train) & set(validation)


@pytest.mark.parametrize("folder", ["Kvasir-SEG", "CVC-ClinicDB"])
def test_validation_rows_of_the_table_are_kept(tmp_path, folder):
    rows = [("val" if number in (1, 30) else "train", f"{number}.png") for number in range(1, 62)]
    _write_table(tmp_path / folder, rows)
    assert _names(load_dataset("auto", tmp_path, "validation")) == ["1.png", "30.png"]


def test_a_subject_in_the_table_is_taken(tmp_path):
    _write_table(tmp_path / "Kvasir-SEG", [("train", f"{number}.png") for number in range(40)])
    table = tmp_path / "Kvasir-SEG" / "captions.csv"
    rows = list(csv.DictReader(table.open()))
    write_table(table, [row | {"subject": f"p{number % 10}"} for number, row in enumerate(rows)])
    train, validation = (load_dataset("auto", tmp_path, split) for split in ("train", "validation"))
    assert len({item["subject"] for item in validation}) == 1 and len(validation) == 4
    assert len({item["subject"] for item in train}) == 9


@pytest.mark.real
def test_real_files_without_validation_rows(kvasir_dir, tmp_path):
    root = tmp_path / "Kvasir-SEG"
    root.mkdir()
    for name in ("images", "masks"):
        (root / name).symlink_to(kvasir_dir / name)
    rows = list(csv.DictReader((kvasir_dir / "captions.csv").open()))
    write_table(root / "captions.csv", [row | {"split": "train"} for row in rows])
    assert [len(load_dataset("auto", root, s)) for s in ("train", "validation", "trainval")] == [810, 90, 900]


@pytest.mark.real
def test_real_files(kvasir_dir):
    assert [len(load_dataset("auto", kvasir_dir, s)) for s in ("train", "validation")] == [800, 100]
