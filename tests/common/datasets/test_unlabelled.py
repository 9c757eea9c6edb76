import pytest

from common.datasets import load_dataset, load_unlabelled, phantoms


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=40, size=64, seed=2, inbox=0)
    return root


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25])
@pytest.mark.parametrize("options", [{}, {"seed": 3}, {"draw": "sorted"}])
@pytest.mark.parametrize("split", ["train", "trainval"])
def test_both_parts_are_the_training_set(data, fraction, options, split):
    whole = load_dataset("auto", data, split)
    labelled = load_dataset("auto", data, split, fraction=fraction, **options)
    rest = load_unlabelled("auto", data, fraction=fraction, train_split=split, **options)
    assert sorted(row["image"] for row in (*labelled, *rest)) == sorted(row["image"] for row in whole)
    assert rest and all("label" not in row for row in rest)
    theirs = {row["image"]: row for row in whole}
    assert all(row | {"label": theirs[row["image"]]["label"]} == theirs[row["image"]] for row in rest)


def test_everything_labelled_leaves_nothing(data):
    assert load_unlabelled("auto", data, fraction=1.0) == []


@pytest.mark.parametrize("options", [{}, {"seed": 3}, {"draw": "sorted"}])
def test_the_limit_comes_first_and_counts_both_parts(data, options):
    labelled = load_dataset("auto", data, "train", fraction=0.25, limit=12, **options)
    rest = load_unlabelled("auto", data, fraction=0.25, limit=12, **options)
    assert (len(labelled), len(rest)) == (3, 9)
    limited = load_dataset("auto", data, "train", limit=12, seed=options.get("seed", 0))
    assert sorted(row["image"] for row in (*labelled, *rest)) == sorted(row["image"] for row in limited)
    assert load_unlabelled("auto", data, fraction=0.1, limit=1) == []


@pytest.mark.real
def test_the_papers_counts_on_qata(qata_dir):
    for fraction, count in ((0.01, 57), (0.02, 114), (0.05, 286), (0.15, 857)):
        assert len(load_unlabelled("qata", qata_dir, fraction=fraction)) == 5716 - count


@pytest.mark.real
def test_two_percent_of_protocol_c(qata_dir):
    rows = {row["image"] for row in load_dataset("qata", qata_dir, "train", limit=1500)}
    labelled = load_dataset("qata", qata_dir, "train", fraction=0.02, limit=1500)
    rest = load_unlabelled("qata", qata_dir, fraction=0.02, limit=1500)
    assert (len(labelled), len(rest)) == (30, 1470)
    assert {row["image"] for row in (*labelled, *rest)} == rows
