"""C2Seg and its data sets: the learning rate of each, all of train for a fixed time, the mirrored control on polyps."""

import csv
import json

import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import UserError, user_error
from tools.__main__ import main

from .base import SIZE, Bundle

BUNDLE = Bundle("c2seg")
SHORT = {"image_size": [SIZE, SIZE], "max_epochs": 1, "epoch_length": 1, "batch_size": 4}


def test_mirrored_polyps_are_scored_with_mirrored_sentences(polyps, polyp_run, tmp_path):
    words = {}
    for control in ("none", "mirrored", "default"):
        assert main(["evaluate", "--bundle", "c2seg", "--overlay", "demo", "--overlay", "polyp", "--weights",
                     str(polyp_run / "model.pt"), "--data", str(polyps), "--split", "validation", "--control", control,
                     "--output", str(tmp_path / control), "--set", f"image_size=[{SIZE}, {SIZE}]"]) == 0  # fmt: skip
        with (tmp_path / control / "scores.csv").open() as file:
            (words[control],) = {(row["text_prompt"], row["prompt_used"]) for row in csv.DictReader(file)}
    assert words["none"] == ("One polyp, located in top-right of the image.", "given")
    assert words["mirrored"] == ("One polyp, located in top-left of the image.", "given")
    assert words["default"][1] == "default"


def parsed(*names, **override):
    parser = ConfigParser()
    parser.read_config(BUNDLE.files(*names))
    parser.update({"bundle_root": "B"} | override)
    return parser


@pytest.mark.parametrize(("folder", "rate"), [("Kvasir-SEG", 3e-4), ("CVC-ClinicDB", 1e-3), ("mine", 1e-3)])
def test_the_rate_is_that_of_the_data_set(tmp_path, folder, rate):
    """In any order of overlays; but one that is said, by demo or on the command line, is taken."""
    root = tmp_path / folder
    root.mkdir()
    (root / "captions.csv").write_text("image,mask,text,laterality\nx.png,x.png,one polyp in the top,image\n")
    for names in (("train",), ("train", "polyp"), ("train", "polyp", "paper"), ("train", "paper", "polyp")):
        parser = parsed(*names, dataset_dir=str(root))
        assert parser.get_parsed_content("learning_rate") == rate
        assert parser.get_parsed_content("image_learning_rate") == rate
        assert parsed(*names, dataset_dir=str(root), learning_rate=0.5).get_parsed_content("learning_rate") == 0.5
    for names in (("train", "demo", "polyp"), ("train", "polyp", "demo")):
        assert parsed(*names, dataset_dir=str(root)).get_parsed_content("learning_rate") == 0.01
    assert parsed("train", "polyp", "pretrain", dataset_dir=str(root)).get_parsed_content("learning_rate") == 1e-4


def test_the_rate_without_a_folder_or_by_name():
    assert parsed("train").get_parsed_content("learning_rate") == 1e-3
    assert parsed("train", dataset="qata").get_parsed_content("learning_rate") == 1e-3
    assert parsed("train", dataset="mosmed").get_parsed_content("learning_rate") == 3e-4


def test_a_fixed_number_of_epochs_on_all_of_train(polyps, tmp_path):
    """The weights are those of the last epoch, not the best ones of rows that were learnt."""
    override = {"train_split": "trainval", "patience": 0, "max_epochs": 3, "val_interval": 3, "learning_rate": 1e-3}
    flow = BUNDLE.workflow(
        "train", "demo", "polyp", kind="train", dataset_dir=str(polyps), output_dir=str(tmp_path), **SHORT | override
    )
    flow.run()
    flow.finalize()
    assert len(flow.parser.get_parsed_content("train::dataset").data) == 8
    assert json.loads((tmp_path / "model.json").read_text())["epoch"] == 3
    last = torch.load(tmp_path / "last.pt", weights_only=False)["network"]
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    assert last.keys() == best.keys() and all(torch.equal(last[key], best[key]) for key in best)


def test_nothing_is_learnt_from_the_test_part(polyps, tmp_path):
    with pytest.raises((UserError, RuntimeError)) as fault:
        BUNDLE.workflow(
            "train", "demo", "polyp", kind="train", dataset_dir=str(polyps), output_dir=str(tmp_path),
            train_split="test", **SHORT,
        ).run()  # fmt: skip
    assert str(user_error(fault.value)) == "train_split: 'test' is nothing to learn from; use 'train' or 'trainval'"
