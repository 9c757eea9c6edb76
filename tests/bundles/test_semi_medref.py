"""The rows of Semi-MedRef's Tables 2 and 3: overlays of its bundle give what the model card says."""

import pytest
import torch
from monai.bundle import ConfigParser

from common.networks.semi_medref import SemiMedRefGuideDecoder, SemiMedRefMMIUNet
from common.transforms import CutMix, MirrorViews, RandPositionAugd, RandWordNoised, TPatchMix

from .base import Bundle

BUNDLE = Bundle("semi_medref")


def parsed(*names, **override) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(BUNDLE.files(*names))
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
    assert (trainer["threshold"], trainer["evaluate"], parser["batch_size"]) == (0.55, "student", 32)
    strong = [t["_target_"] for t in trainer["unlabelled"]["strong"]]
    assert strong[:3] == ["RandScaleIntensityd", "RandScaleIntensityFixedMeand", "RandGaussianSmoothd"]
    assert parsed("train", image_size=[112, 112]).get_parsed_content("train::trainer::mixing").block == 8


def test_short_runs_have_the_schedule_in_proportion():
    parser = parsed("train", "demo")
    loss = parser.get_parsed_content("loss")
    assert (loss.burn_in, loss.ramp) == (2, 3)
    assert parser.get_parsed_content("train::trainer::decay_epochs") == 5


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
