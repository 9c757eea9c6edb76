import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from common.losses.guidance import names_a_place
from common.prompts import DEFAULT_PROMPT
from common.prompts.zones import composite_prior
from common.transforms import PositionPriord

SIZE = (60, 80)
LOWER_LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."


def item(sentence=LOWER_LEFT, **more):
    return {"image": MetaTensor(torch.zeros(1, *SIZE)), "text_prompt": sentence, **more}


def test_the_map_of_the_sentence_s_zones():
    out = PositionPriord("text_prompt", "chest")(item())
    assert out["prior"].shape == (1, *SIZE) and out["prior"].dtype == torch.float32
    np.testing.assert_array_equal(out["prior"][0], composite_prior((0, 0, 1, 0, 0, 0), SIZE))
    row, column = np.unravel_index(out["prior"][0].argmax(), SIZE)
    assert row > 30 and column < 40, "lower left of the picture"


@pytest.mark.parametrize(
    "case",
    [
        item("No pulmonary infection."),
        item("zork in the frobnic lung"),
        item(DEFAULT_PROMPT["chest"], prompt_used="default"),
    ],
)
def test_nothing_known_is_one_everywhere(case):
    assert (PositionPriord("text_prompt", "chest")(case)["prior"] == 1).all()


def test_all_zones_named_are_not_nothing_known():
    out = PositionPriord("text_prompt", "chest")(item(DEFAULT_PROMPT["chest"], prompt_used="given"))
    assert names_a_place(out["prior"].as_tensor()).all()


def test_polyps_and_ct():
    out = PositionPriord("text_prompt", "polyp")(item("one small polyp located in the top right of the image"))
    row, column = np.unravel_index(out["prior"][0].argmax(), SIZE)
    assert row < 20 and column > 50
    ct = PositionPriord("text_prompt", "chest", kind="axial_ct")(item())["prior"][0]
    assert ct.argmax() // SIZE[1] > 50, "the bottom of an axial picture, not of the lungs"
    of_the_row = PositionPriord("text_prompt", "chest")(item(kind="axial_ct"))["prior"][0]
    assert torch.equal(of_the_row, ct)


def chain(flip_prob=0.0):
    """The bundle's own random transforms, always warping."""
    parser = ConfigParser()
    config = json.loads((Path(__file__).resolve().parents[3] / "bundles/ssa/configs/train.json").read_text())
    parser.update(config | {"image_size": list(SIZE), "flip_prob": flip_prob})
    parser["train"]["random_transforms"][2]["prob"] = 1.0
    return Compose(parser.get_parsed_content("train::random_transforms"))


def test_image_mask_and_prior_are_warped_as_one():
    """Image and mask drawn as the prior itself: they must fit it wherever it goes."""
    prior = composite_prior((0, 0, 1, 0, 0, 0), SIZE)
    transforms = chain().set_random_state(0)
    places = set()
    for _ in range(12):
        case = item(image=MetaTensor(torch.from_numpy(prior.copy())[None]))
        case["label"] = MetaTensor(torch.from_numpy((prior > 0.5).astype(np.float32))[None])
        out = transforms(case)
        assert "prior" not in out and out["label"].shape == (2, *SIZE)
        mask, warped = out["label"].numpy()
        assert set(np.unique(mask)) == {0, 1}
        inside = np.s_[4:-4, 5:-5]
        np.testing.assert_allclose(warped[inside], out["image"][0].numpy()[inside], atol=0.02)
        assert ((warped > 0.5) != (mask > 0))[inside].mean() < 0.02
        places.add(int(warped.argmax()))
    assert len(places) > 6


def test_both_axes_are_scaled():
    """Each for itself, 0.9 to 1.1."""
    affine = chain().transforms[2]
    affine.set_random_state(3)
    found = []
    for _ in range(20):
        affine.rand_affine.randomize()
        found.append(affine.rand_affine.rand_affine_grid.scale_params)
    found = np.array(found)
    assert found.shape == (20, 2)
    assert ((found >= 0.9) & (found <= 1.1)).all() and (found.std(axis=0) > 0.03).all()


def test_a_mirrored_sentence_gets_its_own_map():
    transforms = chain(flip_prob=0.5).set_random_state(0)
    seen = set()
    for _ in range(12):
        case = item()
        case["label"] = MetaTensor(torch.zeros(1, *SIZE))
        out = transforms(case)
        seen.add(("left" in out["text_prompt"], int(out["label"][1].argmax()) % SIZE[1] < 40))
    assert seen == {(True, True), (False, False)}


def test_a_warped_map_of_ones_stays_ones():
    transforms = chain().set_random_state(1)
    for _ in range(5):
        case = item("No pulmonary infection.")
        case["label"] = MetaTensor(torch.zeros(1, *SIZE))
        np.testing.assert_allclose(transforms(case)["label"][1], 1, atol=1e-5)
