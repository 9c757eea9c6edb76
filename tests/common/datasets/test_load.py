import shutil

import pytest

from common.datasets import by_dataset, load_dataset, load_training
from common.errors import UserError

KEYS = {"image", "label", "text_prompt", "laterality", "subject", "source", "kind"}


def test_contract(csv_root):
    for item in load_dataset("auto", csv_root, "trainval"):
        assert item.keys() == KEYS
        assert all(isinstance(value, str) for value in item.values())


def test_found_below_the_root(qata_root):
    inner = qata_root.parent / "archive" / "inside"
    inner.mkdir(parents=True)
    shutil.move(qata_root, inner)
    assert len(load_dataset("auto", qata_root.parent / "archive", "train")) == 8


def test_several_below_the_root(qata_root, mosmed_root):
    with pytest.raises(UserError, match=r"holds several data sets \(MosMedDataPlus, QaTa-COV19-v2\); give the folder"):
        load_dataset("auto", qata_root.parent, "train")
    assert len(load_dataset("qata", qata_root.parent, "train")) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kitti", ".", "train"), "dataset: 'kitti' is unknown; use one of auto, qata, mosmed, kvasir, clinicdb, csv"),
        (("auto", "no-such-folder", "train"), "no-such-folder: no such folder; give the folder of the data set"),
        (("auto", ".", "all"), "split: 'all' is unknown; use train, validation, test or trainval"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_dataset(*arguments)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="holds no data set in a known layout"):
        load_dataset("auto", tmp_path, "train")
    with pytest.raises(UserError, match="holds no data set qata"):
        load_dataset("qata", tmp_path, "train")


def test_empty_split(qata_root):
    shutil.rmtree(qata_root / "Test Set")
    with pytest.raises(UserError, match=r"has no rows of split test; it has train \(8\), validation \(2\)"):
        load_dataset("qata", qata_root, "test")


def test_published_sets_declare_their_laterality(qata_root):
    assert load_dataset("qata", qata_root, "train", laterality="image")
    with pytest.raises(UserError, match="the sentences of qata name the sides of the picture; leave laterality out"):
        load_dataset("qata", qata_root, "train", laterality="patient")


def test_fraction_and_limit(qata_root):
    half = load_dataset("qata", qata_root, "train", fraction=0.5)
    assert len(half) == 4
    train = load_dataset("qata", qata_root, "train")
    three = load_dataset("qata", qata_root, "train", limit=3, seed=1)
    assert len(three) == 3
    assert [item for item in train if item in three] == three
    assert [item for item in train if item in half] == half
    six = load_dataset("qata", qata_root, "train", limit=6, seed=1)
    both = load_dataset("qata", qata_root, "train", limit=6, seed=1, fraction=0.5)
    assert len(both) == 3, "half of the six"
    assert [item for item in six if item in both] == both


def test_training_rows(qata_root):
    for split in ("train", "trainval"):
        assert load_training("auto", qata_root, train_split=split) == load_dataset("auto", qata_root, split)
    half = load_training("auto", qata_root, train_split="trainval", fraction=0.5)
    assert half == load_dataset("auto", qata_root, "trainval", fraction=0.5)
    for split in ("test", "validation"):
        with pytest.raises(UserError, match=f"train_split: '{split}' is nothing to learn from; use 'train' or"):
            load_training("auto", qata_root, train_split=split)


def test_a_value_a_data_set(qata_root, mosmed_root, csv_root, tmp_path, monkeypatch):
    values = {"mosmed": 2, "kvasir": 3}
    assert by_dataset("auto", mosmed_root, values, 1) == 2
    assert by_dataset("auto", qata_root, values, 1) == by_dataset("auto", csv_root, values, 1) == 1
    assert by_dataset("kvasir", csv_root, values, 1) == 3
    # no folder, not even the working directory; or none that is a data set
    monkeypatch.chdir(mosmed_root)
    assert by_dataset("auto", "", values, 1) == by_dataset("auto", tmp_path / "none", values, 1) == 1
