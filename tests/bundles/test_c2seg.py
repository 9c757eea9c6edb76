"""C2Seg's own overlays: stage I and what stage II takes from it, and polyps in colour."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import common
from common.errors import UserError, user_error
from common.networks.image.ukan import UKAN
from common.prompts.tokenizer import Tokenizer
from common.runtime.explain import explain
from common.runtime.export.export import export
from common.runtime.workflow import run_bundle
from tools.__main__ import main

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
        (("pretrain",), "train_pretrain"),
        (("demo", "pretrain"), "demo_pretrain"),
        (("demo", "polyp", "pretrain"), "polyp_pretrain"),
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


def test_weights_of_stage_one_segment_nothing(data, stage_one, tmp_path):
    """Its vectors would be stretched to masks, and scored."""
    with pytest.raises((UserError, RuntimeError)) as fault:
        run_bundle(
            BUNDLE.root, ["train", "demo", "pretrain", "evaluate"], "evaluating", dataset_dir=str(data),
            weights=str(stage_one / "model.pt"), output_dir=str(tmp_path), image_size=SHORT["image_size"],
        )  # fmt: skip
    assert "and no logits of a mask; leave an overlay of pretraining out" in str(user_error(fault.value))
    assert not (tmp_path / "summary.json").exists()
    with pytest.raises(UserError, match="pretrain: an overlay is of training alone"):
        common.load("c2seg", ["demo", "pretrain"], "cpu")


@pytest.fixture(scope="module")
def polyp_model(polyp_run):
    """What a step on polyps gave."""
    size, weights = SHORT["image_size"], str(polyp_run / "model.pt")
    model = common.load("c2seg", ["demo", "polyp"], "cpu", image_size=size, weights=weights)
    assert model.network.in_channels == 3
    return model


SENTENCE = "one polyp in the top right of the image"


def test_polyps_in_colour(polyps, polyp_model):
    """Three channels in, one mask out, by the polyp's grammar; the colours make a difference."""
    data = polyp_model.prepare(polyps / "0.png", SENTENCE, "image")
    assert data["image"].shape == (3, SIZE, SIZE)
    assert not torch.equal(data["image"][0], data["image"][1])
    result = polyp_model(polyps / "0.png", SENTENCE, "image")
    assert result.mask.shape == (70, 80)
    assert result.findings.grammar == "polyp"
    shown = explain(polyp_model, polyps / "0.png", SENTENCE, "image").picture
    np.testing.assert_allclose(shown, np.asarray(Image.open(polyps / "0.png")) / 255, atol=1e-6)


def test_the_overlay_changes_what_the_bundle_is_for(polyp_model):
    told, chest = polyp_model.metadata, BUNDLE.json("metadata")
    assert (told["grammar"], told["modality"], told["body_part"]) == ("polyp", "ES", "COLON")
    assert told["network_data_format"]["inputs"]["image"]["num_channels"] == polyp_model.network.in_channels
    assert polyp_model.kind == "polyp"
    ids = Tokenizer.of("compact").ids(told["default_prompt"])
    assert list(ids) == polyp_model.network.default_text[0].tolist()
    assert told["name"] == chest["name"]
    assert chest["network_data_format"]["inputs"]["image"]["num_channels"] == 1


def test_a_folder_of_polyps_is_segmented(polyps, polyp_model, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(polyps / "0.png", folder)
    code = main([
        "segment", "--bundle", "c2seg", "--overlay", "demo", "--overlay", "polyp", "--weights",
        str(polyp_model.weights), "--set", f"image_size={SHORT['image_size']}", "--input", str(folder), "--output",
        str(out), "--text", SENTENCE, "--laterality", "image", "--device", "cpu", "--workers", "0",
    ])  # fmt: skip
    assert code == 0
    (row,) = csv.DictReader((out / "results.csv").open())
    assert (row["status"], row["understood"]) == ("done", "One polyp, located in top-right of the image.")
    written = np.asarray(Image.open(out / row["mask"])) > 0
    assert (written == polyp_model(polyps / "0.png", SENTENCE, "image").displayed).all()


def test_a_network_of_polyps_is_exported(polyp_model, tmp_path):
    sidecar = export(polyp_model, tmp_path, ["ts"])
    assert sidecar["inputs"]["image"]["shape"] == ["batch", 3, SIZE, SIZE]
    assert sidecar["bundle"]["modality"] == "ES"
