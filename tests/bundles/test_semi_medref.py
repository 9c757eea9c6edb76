"""The rows of Semi-MedRef's Tables 2 and 3: options and overlays of its bundle give what the model card says."""

import csv
import re
import shlex

import fire
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.scripts import create_workflow
from monai.data import MetaTensor
from monai.transforms import Compose

from common.networks.semi_medref import SemiMedRefGuideDecoder, SemiMedRefMMIUNet
from common.transforms import CutMix, MirrorViews, RandPositionAugd, RandWordNoised, TPatchMix

from .base import SIZE, Bundle

BUNDLE = Bundle("semi_medref")
CARD = (BUNDLE.root / "docs" / "README.md").read_text()
# row of the card's table -> mixing, transforms of sentences, weights (λ, labelled and unlabelled alignment), alignment
TABLE = {
    "baseline, supervised alone": (None, [], (0.0, 0, 0), "itcl"),
    "+ teacher and student": (None, [], (0.3, 0, 0), "itcl"),
    "+ PosAug (V1)": (None, [RandPositionAugd], (0.3, 0, 0), "itcl"),
    "+ T-PatchMix": (TPatchMix, [RandPositionAugd], (0.3, 0, 0), "itcl"),
    "+ ITCL (all)": (TPatchMix, [RandPositionAugd], (0.3, 0.02, 0.1), "itcl"),
    "TextStrong": (None, [RandWordNoised], (0.3, 0, 0), "itcl"),
    "w/ CutMix": (CutMix, [], (0.3, 0, 0), "itcl"),
    "w/ SPC (RESMatch's swap of sides)": (MirrorViews, [], (0.3, 0, 0), "itcl"),
    "T-PatchMix alone (V2)": (TPatchMix, [], (0.3, 0, 0), "itcl"),
    "CLIP's loss for ITCL (V3)": (TPatchMix, [RandPositionAugd], (0.3, 0.02, 0.1), "clip"),
    "the released rules": (TPatchMix, [RandPositionAugd], (0.3, 0.02, 0.1), "itcl"),
    "GuideDecoder": (TPatchMix, [RandPositionAugd], (0.3, 0.02, 0.1), "itcl"),
}


def parsed(*names, **override) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(BUNDLE.files(*names))
    if "train" in names:
        parser["train"]["dataset"] = {"_target_": "Dataset", "data": [{}]}
    parser.update({"load_pretrained": False} | override)
    return parser


def test_the_papers_configuration():
    parser = parsed("train")
    mix, (text,) = (parser.get_parsed_content(f"train::trainer::{n}") for n in ("mixing", "sentence_transforms"))
    assert isinstance(mix, TPatchMix) and isinstance(text, RandPositionAugd)
    assert (mix.mode, mix.prob, mix.block, mix.gate, mix.as_released) == ("pos+prob", 0.5, 16, 0.55, False)
    assert (text.edit, text.dropout) == (0.5, 0.5)
    loss = parser.get_parsed_content("loss")
    assert (loss.weight, loss.burn_in, loss.ramp) == (0.3, 5, 15)
    assert (loss.align_weight, loss.align_unlabelled_weight, loss.temperature) == (0.02, 0.1, 0.07)
    trainer = parser["train"]["trainer"]
    assert parser.get_parsed_content("train::trainer::decay_epochs") == 20
    assert parser.get_parsed_content("train::trainer::decay_from") == 5
    assert parser.get_parsed_content("train::trainer::decay") == [0.99, 0.999]
    assert (trainer["threshold"], trainer["evaluate"], parser["batch_size"]) == (0.55, "student", 32)
    strong = [t["_target_"] for t in trainer["unlabelled"]["strong"]]
    assert strong[:3] == ["RandScaleIntensityd", "RandScaleIntensityFixedMeand", "RandGaussianSmoothd"]
    assert parsed("train", image_size=[112, 112]).get_parsed_content("train::trainer::mixing").block == 8


def as_written(row: str) -> tuple[list[str], list[str]]:
    """Options, as a shell hands them on, and overlays of a row of the card's table."""
    options, overlay = re.search(rf"^\| {re.escape(row)} \|(.*)\|(.*)\|$", CARD, re.M).groups()
    short = dict(re.findall(r"`([A-Z])` is\s`([^`]+)`", CARD))
    assert short.keys() == {"M", "S", "A"}
    words = [short.get(word, word) for word in options.strip("` ").split(" ")]
    return shlex.split(" ".join(words)), re.findall(r"`(\w+)\.json`", overlay)


def test_the_card_has_these_rows():
    table = CARD.split("| row | options | overlay |")[1].split("\n\n")[0]
    assert re.findall(r"^\| (\S.*?) \|", table, re.M) == ["---", *TABLE]


@pytest.mark.parametrize("row", TABLE)
def test_rows_of_the_card(row, data, tmp_path):
    """Its words, through the command line's parser and MONAI's workflow, to what the trainer has."""
    options, overlays = as_written(row)
    config = ["--config_file", str(BUNDLE.files("train", "demo", *overlays)), "--dataset_dir", str(data)]
    config += ["--output_dir", str(tmp_path), "--fraction", "0.25", "--image_size", "[64,64]", "--batch_size", "4"]
    config += ["--num_workers", "0", "--load_pretrained", "False"]
    flow = fire.Fire(lambda **given: create_workflow(**given), command=[*config, *options], serialize=lambda flow: "")
    trainer, loss = (flow.parser.get_parsed_content(name) for name in ("train::trainer", "loss"))
    mixing, sentences, weights, alignment = TABLE[row]
    assert type(trainer.mixing) is (mixing or type(None))
    assert [type(t) for t in trainer.sentence_transforms.transforms] == sentences
    assert (loss.weight, loss.align_weight, loss.align_unlabelled_weight) == weights
    assert loss.alignment == alignment
    assert isinstance(trainer.student, SemiMedRefGuideDecoder if row == "GuideDecoder" else SemiMedRefMMIUNet)
    assert len(trainer.unlabelled.dataset) > len(trainer.data_loader.dataset)


def test_both_backbones_learn_with_all_parts(data, tmp_path):
    """The base tests train on MMI-UNet; here one step on GuideDecoder."""
    flow = BUNDLE.workflow(
        "train", "demo", "guide_decoder", kind="train", dataset_dir=str(data), image_size=[SIZE, SIZE], batch_size=4,
        output_dir=str(tmp_path), max_epochs=1, epoch_length=1, fraction=0.25,
    )  # fmt: skip
    flow.run()
    (row,) = csv.DictReader((tmp_path / "history.csv").open())
    assert float(row["loss/weight"]) == pytest.approx(0.3)
    assert {"loss/align", "loss/unsupervised", "loss/align_unlabelled", "loss/mixed"} <= row.keys()


def test_the_kind_of_image_is_the_datas():
    ct = {"_target_": "Dataset", "data": [{"kind": "axial_ct"}]}
    mix = parsed("train", **{"train::dataset": ct}).get_parsed_content("train::trainer::mixing")
    assert mix.kind == "axial_ct"
    assert parsed("train").get_parsed_content("train::trainer::mixing").kind == "radiograph"


def test_brightness_and_contrast_survive_the_normalisation():
    """With jitter alone a strong view differs from its weak one by more than 0.1 standard deviations."""
    parser = parsed("train", image_size=[64, 64])
    chain = parser["train"]["trainer"]["unlabelled"]
    chain["strong"] = [t for t in chain["strong"] if t["_target_"] != "RandGaussianSmoothd"]
    views = {"_target_": "CopyItemsd", "keys": "image", "names": "strong"}
    parser["views"] = [views, *chain["strong"], *chain["final"][:-1]]
    transform = Compose(parser.get_parsed_content("views")).set_random_state(0)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    picture = MetaTensor((0.2 + 0.3 * rows + 0.3 * columns)[None])
    found = [transform({"image": picture, "text_prompt": ""}) for _ in range(100)]
    for item in found:
        assert float(item["image"].mean()) == pytest.approx(0, abs=1e-5)
        assert float(item["image"].std(unbiased=False)) == pytest.approx(1, abs=1e-5)
    assert sum(float((item["image"] - item["strong"]).abs().mean()) for item in found) / len(found) > 0.1


def test_short_runs_have_the_schedule_in_proportion():
    parser = parsed("train", "demo")
    loss = parser.get_parsed_content("loss")
    assert (loss.burn_in, loss.ramp) == (2, 3)
    assert parser.get_parsed_content("train::trainer::decay_epochs") == 5
    assert parser.get_parsed_content("train::trainer::decay") == [0.97, 0.99], "means of fewer steps than there are"


@pytest.mark.parametrize(("overlay", "kind"), [("cutmix", CutMix), ("mirror", MirrorViews)])
def test_other_mixings(overlay, kind):
    mix = parsed("train", "demo", overlay).get_parsed_content("train::trainer::mixing")
    assert isinstance(mix, kind) and mix.prob == 0.5


def test_disturbed_words():
    (text,) = parsed("train", "word_noise").get_parsed_content("train::trainer::sentence_transforms")
    assert isinstance(text, RandWordNoised)


def test_as_released():
    parser = parsed("train", "as_released")
    mix = parser.get_parsed_content("train::trainer::mixing")
    assert (mix.mode, mix.prob, mix.as_released) == ("pos", 0.08, True)
    assert parser.get_parsed_content("loss").supervised.weights == {"dice": 1.0, "ce": 0.0}


@pytest.mark.parametrize("base", ["train", "inference"])
def test_both_backbones(base):
    for names, kind in (((base, "demo"), SemiMedRefMMIUNet), ((base, "demo", "guide_decoder"), SemiMedRefGuideDecoder)):
        net = parsed(*names).get_parsed_content("network_def").eval()
        assert isinstance(net, kind)
        assert net(torch.rand(1, 1, 64, 64)).shape == (1, 1, 64, 64)
    assert all(float(layer.scale.detach()) == pytest.approx(0.01) for layer in net.guide_layers)
