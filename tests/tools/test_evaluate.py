"""``python -m tools evaluate`` on phantoms, with weights of a text encoder that lies in a folder."""

import json
import shutil

import pytest
import torch
from monai.bundle import ConfigParser

from common.bundle import bundle_folder, configuration_files
from common.datasets import phantoms
from common.networks.checkpoints import SHIPPED
from tools.__main__ import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Phantoms; a text encoder with "left" and "right" in each other's place; random weights trained with it."""
    root = tmp_path_factory.mktemp("made")
    phantoms.write(root / "data", count=20, size=64, seed=4, inbox=0)
    shutil.copytree(SHIPPED["compact"], root / "encoder")
    pieces = (root / "encoder" / "vocab.txt").read_text().split("\n")
    left, right = pieces.index("left"), pieces.index("right")
    pieces[left], pieces[right] = pieces[right], pieces[left]
    (root / "encoder" / "vocab.txt").write_text("\n".join(pieces))
    parser = ConfigParser()
    parser.read_config(configuration_files(bundle_folder("mmi_unet"), ["inference", "demo"]))
    parser.update({"text_checkpoint": str(root / "encoder"), "load_pretrained": True})
    torch.save(parser.get_parsed_content("network_def").state_dict(), root / "model.pt")
    return root


def evaluate(made, output, *more):
    return main(["evaluate", "--bundle", "mmi_unet", "--overlay", "demo", "--weights", str(made / "model.pt"),
                 "--data", str(made / "data"), "--split", "test", "--limit", "2", "--output", str(output),
                 "--set", "image_size=[32, 32]", *more])  # fmt: skip


def test_an_encoder_of_ones_own_is_named_by_set(made, tmp_path):
    assert evaluate(made, tmp_path, "--set", f"text_checkpoint={made / 'encoder'}") == 0
    assert json.loads((tmp_path / "summary.json").read_text())["images"] == 2


def test_without_it_the_weights_are_refused(made, tmp_path, capsys):
    assert evaluate(made, tmp_path) == 2
    err = capsys.readouterr().err
    assert "model.pt: these weights do not fit MMIUNet: the weights were trained with another vocabulary" in err
    assert err.count("error: ") == 1 and not (tmp_path / "summary.json").exists()
