"""``python -m tools explain`` on the template with random weights, and on a network without text."""

import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle import bundle_folder, configuration_files
from common.datasets import phantoms
from common.images import to_stored, write_radiograph
from common.images.orientation import display_map
from common.networks.checkpoints import SHIPPED
from tools.__main__ import main

SENTENCE = "Opacity in the right lower lobe, no left effusion."


@pytest.fixture
def files(tmp_path):
    phantom = phantoms.draw(1, 96)
    write_radiograph(tmp_path / "a.dcm", phantom.image, patient_orientation=("R", "F"))
    stored = to_stored(phantom.mask.astype(np.uint8) * 255, display_map("R", "F"))
    Image.fromarray(stored.T).save(tmp_path / "mask.png")
    return tmp_path


def run(bundle, weights, files, *more):
    return main(["explain", "--bundle", bundle, "--overlay", "demo", "--weights", str(weights / f"{bundle}.pt"),
                 "--device", "cpu", "--image", str(files / "a.dcm"), "--output", str(files / "out" / "panel.png"),
                 *more])  # fmt: skip


def test_everything_there_is(weights, files, capsys):
    mask = str(files / "mask.png")
    assert run("mmi_unet", weights, files, "--text", SENTENCE, "--laterality", "patient", "--mask", mask) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        f"sentence     {SENTENCE} (the patient's sides)",
        "understood   patient right: lower",
        "network got  Unilateral pulmonary infection, lower left lung. (sides of the picture)",
    ]
    picture = Image.open(files / "out" / "panel.png")
    assert picture.width == 1600 and picture.height > 1000
    assert (np.abs(np.asarray(picture).astype(int) - (240, 228, 66)).max(axis=-1) <= 2).sum() > 300  # ground truth
    assert sorted(path.name for path in (files / "out").iterdir()) == ["panel.png"]


@pytest.mark.parametrize(
    ("orientation", "laterality", "understood", "marker", "note"),
    [
        (("L", "F"), "image", "patient right: upper, middle, lower", "R", "R: the patient's right."),
        (("A", "F"), "image", "picture left: upper, middle, lower", "", "Lateral view: sides are not known."),
        (("A", "F"), "patient", "patient left: upper, middle, lower", "", "Lateral view: sides are not known."),
        (None, "image", "picture left: upper, middle, lower", "", "No orientation in the file: taken as displayed"),
    ],
)
def test_no_side_where_nobody_knows_it(
    weights, files, capsys, monkeypatch, orientation, laterality, understood, marker, note
):
    drawn = {}

    def panel(*args, **more):
        drawn.update(more)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("common.report.panel.panel", panel)
    write_radiograph(files / "a.dcm", phantoms.draw(1, 96).image, patient_orientation=orientation)
    assert run("unet", weights, files, "--text", "Opacity of the left lung.", "--laterality", laterality) == 0
    assert f"understood   {understood}\n" in capsys.readouterr().out
    assert drawn["marker"] == marker
    assert note in drawn["notes"][0]


@pytest.mark.parametrize("more", [[], ["--text", " \n ", "--laterality", "patient"], ["--text", "  "]])
def test_without_a_sentence_the_default_is_said(weights, files, capsys, more):
    assert run("mmi_unet", weights, files, *more) == 0
    out = capsys.readouterr().out
    assert "sentence     none given" in out and "understood" not in out and "Dice" not in out
    assert "network got  the default, which asserts disease everywhere: Bilateral pulmonary" in out


def test_a_network_without_text_says_so(weights, files, capsys):
    assert run("unet", weights, files, "--text", SENTENCE, "--laterality", "patient") == 0
    out = capsys.readouterr().out
    assert "network got  no sentence: it takes the image alone, and no attention can be shown" in out
    assert Image.open(files / "out" / "panel.png").height < 900  # no row of maps


def test_weights_of_an_encoder_of_ones_own(weights, files, capsys):
    """Another order of the vocabulary: refused until it is named."""
    shutil.copytree(SHIPPED["compact"], files / "encoder")
    pieces = (files / "encoder" / "vocab.txt").read_text().split("\n")
    (files / "encoder" / "vocab.txt").write_text("\n".join([*pieces[:4], *reversed(pieces[4:-1]), ""]))
    parser = ConfigParser()
    parser.read_config(configuration_files(bundle_folder("mmi_unet"), ["inference", "demo"]))
    parser["text_checkpoint"] = str(files / "encoder")
    torch.save(parser.get_parsed_content("network_def").state_dict(), files / "mmi_unet.pt")
    assert run("mmi_unet", files, files) == 2
    assert "trained with another vocabulary" in capsys.readouterr().err
    assert run("mmi_unet", files, files, "--set", f"text_checkpoint={files / 'encoder'}") == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--text", SENTENCE], "laterality is None; say whose left"),
        (["--text", "flurb of the left lung", "--laterality", "patient"], "sentence not understood: 'flurb'"),
        (["--mask", "none.png"], "none.png: no such file"),
        (["--output", "panel.jpg"], "--output panel.jpg: a PNG is written"),
        (["--set", "text_checkpoint=none"], "vocabulary 'none': no vocab.txt"),
        (["--set", "text_chekpoint=none"], "the configuration has no 'text_chekpoint'"),
        (["--set", "text_checkpoint=$print('run')"], "starts with $, % or @ is not taken"),
    ],
)
def test_faults_are_one_line(weights, files, capsys, more, words):
    assert run("mmi_unet", weights, files, *more) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not (files / "out").exists()
