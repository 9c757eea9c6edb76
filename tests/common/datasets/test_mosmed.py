import random
from collections import Counter

import pytest

from common.datasets import list_dataset, load_dataset, load_training, load_unlabelled, mosmed
from common.datasets.splits import shared_subjects
from common.errors import UserError


def test_layout(mosmed_root):
    assert [len(load_dataset("auto", mosmed_root, s)) for s in ("train", "validation", "test")] == [4, 1, 1]
    train = load_dataset("mosmed", mosmed_root.parent, "train")
    assert [item["subject"] for item in train] == [
        "jun_coronacases_case1",
        "jun_coronacases_case1",
        "morozov_study_0255",
        "bjorke_40",
    ]
    assert {item["laterality"] for item in train} == {"image"}
    assert train[0]["label"].endswith("Train_Folder/labelcol/Jun_coronacases_case1_115.png")
    assert list_dataset("auto", mosmed_root).kind == "axial_ct"


def test_subject_with_numbers_in_the_series():
    assert mosmed.subject("Jun_radiopaedia_10_85902_3_case12_113.png") == "jun_radiopaedia_10_85902_3_case12"


def test_sheet_beside_the_folder(mosmed_root):
    sheet = mosmed_root / "Val_Folder" / "Val_text.csv"
    sheet.rename(mosmed_root / "Val_text_MosMedData+.csv")
    assert len(load_dataset("mosmed", mosmed_root, "validation")) == 1


def test_no_sheet_and_two_sheets(mosmed_root):
    folder = mosmed_root / "Test_Folder"
    (folder / "other.csv").write_text("Image,text\n")
    with pytest.raises(UserError, match=r"Test_Folder: has 2 tables \(Test_text.xlsx, other.csv\); leave one"):
        load_dataset("mosmed", mosmed_root, "test")
    (folder / "other.csv").unlink()
    (folder / "Test_text.xlsx").unlink()
    with pytest.raises(UserError, match=r"Test_Folder: has no table; leave one Test_text.xlsx or .csv"):
        load_dataset("mosmed", mosmed_root, "test")


def test_missing_files_are_lines(mosmed_root):
    (mosmed_root / "Train_Folder/labelcol/bjorke_40.png").unlink()
    with pytest.raises(UserError, match=r"Train_text.xlsx:5: no mask bjorke_40.png in Train_Folder/labelcol"):
        load_dataset("mosmed", mosmed_root, "train")


def slices(seed=0):
    """Names as in MosMedData+: 20 long scans, 50 short ones, and 100 slices that tell no scan; 2,729 in all."""
    draw = random.Random(seed)
    names = [f"bjorke_{n}.png" for n in range(1, 101)]
    cut = sorted(draw.sample(range(1, 1844), 19))
    for case, size in enumerate(b - a for a, b in zip([0, *cut], [*cut, 1844], strict=True)):
        names += [f"Jun_coronacases_case{case}_{n}.png" for n in range(size)]
    cut = sorted(draw.sample(range(1, 785), 49))
    for study, size in enumerate(b - a for a, b in zip([0, *cut], [*cut, 785], strict=True)):
        names += [f"Morozov_study_{255 + study:04}_{n}.png" for n in range(size)]
    return names


@pytest.mark.parametrize("seed", range(5))
def test_volume_disjoint_splits_have_about_the_published_sizes(seed):
    names = slices(seed)
    of = mosmed.volume_disjoint(names)
    sizes = Counter(of[mosmed.volume(name)] for name in names)
    assert sizes.total() == 2729
    for split in ("test", "validation"):
        assert 263 <= sizes[split] <= 273
    assert {"test", "validation", "train"} == set(of.values())
    assert len({of[mosmed.volume(f"bjorke_{n}.png")] for n in range(1, 101)}) == 1, "some are of one patient"


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("Jun_coronacases_case1_115.png", "jun_coronacases_case1"),
        ("Jun_radiopaedia_10_85902_3_case12_113.png", "jun_radiopaedia_10_85902_3_case12"),
        ("Morozov_study_0255_11.png", "morozov_study_0255"),
        ("bjorke_40.png", "bjorke"),
        ("other.png", "other"),
    ],
)
def test_volume_of_a_slice(name, volume):
    assert mosmed.volume(name) == volume


def test_volume_disjoint_splits_are_always_the_same():
    # scans of 1 to 10 slices and 5 slices that tell no scan, 60 in all: there is room for 6 in test and 6 in validation
    names = [f"Jun_coronacases_case{n}_{k}.png" for n in range(1, 11) for k in range(n)]
    names += [f"bjorke_{k}.png" for k in range(5)]
    of = mosmed.volume_disjoint(names)
    held_out = {name: split for name, split in of.items() if split != "train"}
    # SHA-1 of the names: case1 0d50..., case5 3900..., cases 10, 7 and 9 do not fit, bjorke 95c9..., case6 9836...
    assert held_out == {"jun_coronacases_case1": "test", "jun_coronacases_case5": "test", "bjorke": "validation"}
    assert of.keys() == {f"jun_coronacases_case{n}" for n in range(1, 11)} | {"bjorke"}
    mixed = [name.upper().replace("PNG", "png") for name in names]
    random.Random(1).shuffle(mixed)
    assert mosmed.volume_disjoint(mixed) == of


def test_volume_disjoint_splits_of_the_files(mosmed_root):
    # one scan is in two of the published splits
    for part in ("img", "labelcol"):
        folder = mosmed_root / "Val_Folder" / part
        (folder / "Morozov_study_0260_18.png").rename(folder / "Jun_coronacases_case1_117.png")
    sheet = mosmed_root / "Val_Folder/Val_text.csv"
    sheet.write_text(sheet.read_text().replace("Morozov_study_0260_18", "Jun_coronacases_case1_117"))
    parts = {s: load_dataset("mosmed", mosmed_root, s) for s in ("train", "validation")}
    assert shared_subjects(parts["train"], parts["validation"]) == ["jun_coronacases_case1"]

    own = {"splits": "volume_disjoint"}
    parts = {s: load_dataset("auto", mosmed_root, s, **own) for s in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 6
    assert len(list_dataset("mosmed", mosmed_root, splits="volume_disjoint").pairs) == 6
    for one, two in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert shared_subjects(parts[one], parts[two]) == []
    assert load_training("mosmed", mosmed_root, train_split="train", **own) == parts["train"]
    few = load_training("mosmed", mosmed_root, train_split="train", fraction=0.25, **own)
    rest = load_unlabelled("mosmed", mosmed_root, fraction=0.25, **own)
    assert sorted(r["image"] for r in (*few, *rest)) == sorted(r["image"] for r in parts["train"])


def test_faults_go_with_their_volume(mosmed_root):
    (mosmed_root / "Train_Folder/labelcol/bjorke_40.png").unlink()
    of = mosmed.volume_disjoint([p.name for p in mosmed_root.glob("*/img/*.png")])
    with pytest.raises(UserError, match=r"1 faults in split .*no mask bjorke_40.png"):
        load_dataset("mosmed", mosmed_root, of["bjorke"], splits="volume_disjoint")
    other = next(split for split in ("train", "test", "validation") if split != of["bjorke"])
    assert load_dataset("mosmed", mosmed_root, other, splits="volume_disjoint")


def test_splits_of_other_sets_are_the_published_ones(qata_root):
    assert load_dataset("qata", qata_root, "train", splits="published")
    with pytest.raises(UserError, match=r"splits: 'volume_disjoint' is of MosMedData.* alone, and this is qata; leave"):
        load_dataset("auto", qata_root, "train", splits="volume_disjoint")
    with pytest.raises(UserError, match="splits: 'mine' is unknown; use one of published, volume_disjoint"):
        load_dataset("auto", qata_root, "train", splits="mine")
