import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.prompts import parse
from common.prompts.zones import zones_of_mask
from common.transforms import RandMirrorPromptd


def item():
    mask = np.zeros((64, 64), bool)
    mask[40:56, 6:20] = True
    sentence = "Unilateral pulmonary infection, one infected area, lower left lung."
    assert zones_of_mask(mask, "radiograph") == parse(sentence, "image").zones
    image = torch.arange(64 * 64, dtype=torch.float32).reshape(1, 64, 64)
    return {"image": MetaTensor(image), "label": MetaTensor(mask[None].astype(np.float32)), "text_prompt": sentence}


def test_picture_and_sentence_stay_true_to_each_other():
    out = RandMirrorPromptd(["image", "label"], prob=1.0)(item())
    assert out["text_prompt"] == "Unilateral pulmonary infection, one infected area, lower right lung."
    assert zones_of_mask(out["label"][0].numpy() > 0, "radiograph") == parse(out["text_prompt"], "image").zones
    assert torch.equal(out["image"].as_tensor(), item()["image"].as_tensor().flip(-1))


def test_off_is_off():
    out = RandMirrorPromptd(["image", "label"], prob=0.0)(item())
    assert torch.equal(out["image"].as_tensor(), item()["image"].as_tensor())
    assert out["text_prompt"] == item()["text_prompt"]


@pytest.mark.parametrize("prob", [0.5])
def test_image_mask_and_words_flip_together(prob):
    flip = RandMirrorPromptd(["image", "label"], prob=prob).set_random_state(0)
    seen = set()
    for _ in range(20):
        out = flip(item())
        flipped = "right" in out["text_prompt"]
        assert torch.equal(out["image"].as_tensor(), item()["image"].as_tensor().flip(-1)) is flipped
        assert bool(out["label"][0, 45, 10]) is not flipped
        seen.add(flipped)
    assert seen == {True, False}
