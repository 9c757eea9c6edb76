"""``python -m tools segment``: what it refuses, and what it says of images whose sides nobody knows."""

import csv

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle import bundle_folder, configuration_files
from common.datasets import phantoms
from common.images import write_radiograph
from tools.__main__ import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the demo networks."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("mmi_unet", "unet"):
        torch.manual_seed(0)
        parser = ConfigParser()
        parser.read_config(configuration_files(bundle_folder(name), ["inference", "demo"]))
        torch.save(parser.get_parsed_content("network_def").state_dict(), folder / f"{name}.pt")
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = phantoms.draw(1, 64).image
    Image.fromarray(picture).save(folder / "a.png")
    write_radiograph(folder / "b.dcm", picture, patient_orientation=("A", "F"))
    write_radiograph(folder / "c.dcm", picture, patient_orientation=None)
    return folder


def run(bundle, weights, images, *more):
    return main(["segment", "--bundle", bundle, "--overlay", "demo", "--weights", str(weights / f"{bundle}.pt"),
                 "--device", "cpu", "--input", str(images), "--output", str(images.parent / "out"), *more])  # fmt: skip


def rows(images):
    with (images.parent / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("bundle", ["mmi_unet", "unet"])
def test_sides_and_default_sentences(bundle, weights, images, capsys):
    assert run(bundle, weights, images, "--text", "  ", "--no-prompt", "default", "--include", "lateral") == 0
    found = rows(images)
    default = "no sentence: the default one, which asserts disease everywhere, was used"
    lateral, unknown = found["b.dcm"], found["c.dcm"]
    assert "lateral view: sides are not known" in lateral["warnings"]
    assert "lateral" in lateral["included"]
    assert "no orientation in the file: taken as displayed, sides are not known" in unknown["warnings"]
    assert {row["mask_sides"] + row["mask_zones"] for row in (lateral, unknown)} == {""}
    takes_text = bundle == "mmi_unet"
    assert {row["prompt_used"] for row in found.values()} == {"default" if takes_text else "not used"}
    assert all((default in row["warnings"]) is takes_text for row in found.values())
    assert "3 of 3 files segmented" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--output", "{in}"], "the images are in this folder, and masks written here would be segmented too"),
        (["--output", "{in}/.."], "the images are in this folder, and masks written here would be segmented too"),
        (["--device", "nonsense"], "device nonsense: is not there; write cpu"),
        (["--device", "cpu');print('pasted"], "is not there; write cpu"),
        (["--weights", "{in}/a.png"], "a.png: not a readable file of weights"),
        (["--bundle", "mmi_unet"], "unet.pt: these weights do not fit MMIUNet"),
        (["--text", "left lung"], "whose left does it mean"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(more, words, weights, images, capsys):
    before = sorted(images.parent.rglob("*"))
    assert run("unet", weights, images, *(word.replace("{in}", str(images)) for word in more)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert "pasted" not in captured.out
    assert sorted(images.parent.rglob("*")) == before


def test_an_output_inside_the_input_is_not_segmented_again(weights, images):
    for _ in range(2):
        assert run("unet", weights, images, "--output", str(images / "out")) == 1
    with (images / "out" / "results.csv").open(newline="") as file:
        found = {row["source"]: row["status"] for row in csv.DictReader(file)}
    assert found == {"a.png": "done", "b.dcm": "refused", "c.dcm": "done"}
    assert np.asarray(Image.open(images / "out" / "masks" / "c.dcm.png")).shape == (64, 64)
