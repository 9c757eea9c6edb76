"""C2Seg's own overlays: stage I and what stage II takes from it, and polyps in colour."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import common
from common.errors import UserError, user_error
from common.networks.image.ukan import UKAN

from .base import SIZE, Bundle

BUNDLE = Bundle("c2seg")
SHORT = {"image_size": [SIZE, SIZE], "max_epochs": 1, "epoch_length": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def stage_one(data, tmp_path_factory):
    """The folder of one step of stage I, and what it printed."""
    folder = tmp_path_factory.mktemp("stage_one")
    flow = BUNDLE.workflow(
        "train", "demo", "pretrain", kind="train", dataset_dir=str(data), output_dir=str(folder), **SHORT
    )
    flow.run()
    flow.finalize()
    return folder


def stage_two(data, folder, **override):
    flow = BUNDLE.workflow(
        "train", "demo", kind="train", dataset_dir=str(data), output_dir=str(folder), **SHORT | override
    )
    flow.run()
    flow.finalize()
    return flow


def test_stage_one_writes_weights_and_retrieval(stage_one):
    (row,) = csv.DictReader((stage_one / "history.csv").open())
    assert {"val_caption_mrr", "val_caption_top1", "val_caption_top5", "val_image_map"} <= row.keys()
    assert {"loss/to_text", "loss/to_image", "loss/unrelated"} <= row.keys()
    assert float(row["loss"]) == pytest.approx(float(row["loss/to_text"]) + float(row["loss/to_image"]))
    assert json.loads((stage_one / "model.json").read_text())["metric"] == "val_caption_mrr"
    state = torch.load(stage_one / "model.pt", weights_only=True)
    assert {key.split(".")[0] for key in state} == {"default_text", "image_encoder", "project", "text_encoder"}


def test_stage_two_takes_its_encoder_which_learns_slowly(data, stage_one, tmp_path):
    flow = stage_two(data, tmp_path, image_checkpoint=str(stage_one / "model.pt"), learning_rate=1e-9)
    first, second = (torch.load(folder / "model.pt", weights_only=True) for folder in (stage_one, tmp_path))
    for name, _ in flow.parser.get_parsed_content("network").image_encoder.named_parameters():
        torch.testing.assert_close(second[f"image_encoder.{name}"], first[f"image_encoder.{name}"], atol=1e-6, rtol=0)
    rates = [group["initial_lr"] for group in flow.parser.get_parsed_content("optimizer").param_groups]
    assert rates == pytest.approx([1e-9, 1e-10])
    for path, words in (
        (tmp_path / "model.pt", "these are weights of stage II, which have seen masks; give the model.pt that"),
        (stage_one / "last.pt", "this is last.pt of a run; give its model.pt"),
    ):
        with pytest.raises(UserError, match=re.escape(f"{path}: {words}")):
            UKAN(stage_one=str(path))


def test_a_stage_one_that_is_not_there_is_one_line_and_none_is_none(data, tmp_path):
    with pytest.raises((UserError, RuntimeError)) as fault:
        stage_two(data, tmp_path, image_checkpoint=str(tmp_path / "no.pt"))
    assert "no.pt: there are no weights of stage I; make them" in str(user_error(fault.value))
    flow = stage_two(data, tmp_path)
    rates = [group["initial_lr"] for group in flow.parser.get_parsed_content("optimizer").param_groups]
    assert rates == [BUNDLE.json("demo")["learning_rate"]] * 2


@pytest.mark.parametrize(
    ("names", "run"),
    [
        (("pretrain",), "pretrain"),
        (("demo", "pretrain"), "pretrain"),
        (("polyp",), "polyp"),
        (("demo", "polyp"), "polyp"),
    ],
)
def test_where_they_write(names, run):
    parser = ConfigParser()
    parser.read_config(BUNDLE.files("train", *names))
    parser.update({"bundle_root": "B"})
    assert parser.get_parsed_content("output_dir") == f"B/runs/{run}"
    assert parser.get_parsed_content("weights") == f"B/runs/{run}/model.pt"


def test_polyps_in_colour(tmp_path):
    """Three channels in, one mask out, by the polyp's grammar; the colours make a difference."""
    rng = np.random.default_rng(0)
    rows = ["image,mask,text,laterality,split"]
    for number in range(8):
        picture = rng.integers(0, 255, (70, 80, 3), dtype=np.uint8)
        mask = np.zeros((70, 80), np.uint8)
        mask[10:30, 40:60] = 255
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
        split = "train" if number < 6 else "validation"
        rows.append(
            f'{number}.png,{number}_mask.png,"one small round polyp, located in top of the image",image,{split}'
        )
    (tmp_path / "captions.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    flow = BUNDLE.workflow(
        "train", "demo", "polyp", kind="train", dataset_dir=str(tmp_path), output_dir=str(out), **SHORT
    )
    flow.run()
    flow.finalize()
    assert flow.parser.get_parsed_content("network").in_channels == 3
    model = common.load(
        "c2seg", ["demo", "polyp"], "cpu", image_size=SHORT["image_size"], weights=str(out / "model.pt")
    )
    data = model.prepare(tmp_path / "0.png", "one polyp in the top right of the image", "image")
    assert data["image"].shape == (3, SIZE, SIZE)
    assert not torch.equal(data["image"][0], data["image"][1])
    result = model(tmp_path / "0.png", "one polyp in the top right of the image", "image")
    assert result.mask.shape == (70, 80)
    assert result.findings.grammar == "polyp"
