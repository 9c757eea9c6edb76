"""``python -m tools compare`` on phantoms, with random weights."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

from common.datasets import load_dataset, phantoms
from common.report.grid import EXCESS
from tools.__main__ import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    phantoms.write(root, count=20, size=64, seed=4, inbox=0)
    return root


def compare(data, weights, output, *more, runs=("unet", "mmi_unet")):
    columns = [word for name in runs for word in ("--run", f"{name}, random={name}:demo={weights / name}.pt")]
    return main(["compare", *columns, "--data", str(data), "--output", str(output / "grid.png"), "--device", "cpu",
                 "--set", "image_size=[32, 32]", *more])  # fmt: skip


def table(out):
    """(image, degrade) -> the cells of the runs."""
    rows = [re.split(r" *\| *", line.strip("| ")) for line in out.splitlines() if line.startswith("| ")][2:]
    return {(image, degrade): cells for image, degrade, *cells in rows}


def test_the_numbers_are_those_of_evaluate(data, weights, tmp_path, capsys):
    assert compare(data, weights, tmp_path, "--limit", "2", "--data-seed", "3", "--degrade", "none",
                   "--degrade", "noise110") == 0  # fmt: skip
    found = table(capsys.readouterr().out)
    names = [item["image"].rsplit("/", 1)[1] for item in load_dataset("auto", data, "test", limit=2, seed=3)]
    assert list(found) == [(name, degrade) for name in names for degrade in ("none", "noise110")]
    for column, bundle in enumerate(("unet", "mmi_unet")):
        for degrade in ("none", "noise110"):
            scores = tmp_path / bundle / degrade
            more = [] if degrade == "none" else ["--degrade", degrade]
            assert main(["evaluate", "--bundle", bundle, "--overlay", "demo", "--weights",
                         str(weights / f"{bundle}.pt"), "--data", str(data), "--output", str(scores), "--set",
                         "image_size=[32, 32]", *more]) == 0  # fmt: skip
            with (scores / "scores.csv").open() as file:
                dice = {row["image"].rsplit("/", 1)[1]: float(row["dice"]) for row in csv.DictReader(file)}
            for name in names:
                assert found[name, degrade][column] == f"{100 * dice[name]:.2f}"
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    # four rows of four columns
    assert 1580 < picture.shape[1] <= 1600 and 1600 < picture.shape[0] < 2100
    assert (np.abs(picture.astype(int) - EXCESS).max(axis=-1) <= 2).sum() > 300
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["grid.png"]


def test_images_by_name_and_the_same_bytes_again(data, weights, tmp_path, capsys):
    image = load_dataset("auto", data, "validation")[1]["image"].rsplit("/", 1)[1]
    files = []
    for _ in range(2):
        assert compare(data, weights, tmp_path, "--split", "validation", "--image", image, runs=["unet"]) == 0
        assert list(table(capsys.readouterr().out)) == [(image, "none")]
        files.append((tmp_path / "grid.png").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--degrade", "noise9"], "degrade: 'noise9' is not known; use one of noise140"),
        (["--image", "x.png"], "--image x.png: no image of that name in this split"),
        (["--run", "unet, random=unet"], "--run: two columns have one name (unet, random, unet, random)"),
        (["--run", "b=unet=none.pt"], "none.pt: there are no trained weights"),
        (["--output", "grid.jpg"], "--output grid.jpg: a PNG is written"),
        (["--limit", "0"], "limit: 0 rows cannot be drawn; use 1 or more"),
    ],
)
def test_faults_are_one_line(data, weights, tmp_path, capsys, more, words):
    assert compare(data, weights, tmp_path, *more, runs=["unet"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "grid.png").exists()
