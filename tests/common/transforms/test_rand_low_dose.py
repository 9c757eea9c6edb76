import numpy as np
import pytest
import torch

from common.errors import UserError
from common.transforms import RandLowDoseNoised


def item(x=0.5, side=128):
    return {"image": torch.full((1, side, side), x), "other": torch.full((1, side, side), x), "label": torch.ones(1)}


def test_doses_are_drawn_from_the_range_and_fields_anew():
    noise = RandLowDoseNoised("image", prob=1.0, doses=(50, 200)).set_random_state(0)
    doses, pictures = [], []
    for _ in range(40):
        found = noise(item())["image"]
        doses.append(0.5 / found.var().item())
        pictures.append(found.numpy().ravel())
    # a variance of 16,384 numbers is known to 1 %
    assert 45 < min(doses) < 75 and 175 < max(doses) < 220 and 105 < np.mean(doses) < 145
    assert abs(np.corrcoef(pictures)[np.triu_indices(40, 1)]).max() < 5 / 128


def test_probability():
    noise = RandLowDoseNoised("image", prob=0.25).set_random_state(0)
    changed = sum(not torch.equal(noise(item(side=4))["image"], item(side=4)["image"]) for _ in range(400))
    assert 70 < changed < 130
    assert torch.equal(RandLowDoseNoised("image", prob=0.0)(item())["image"], item()["image"])


def test_seeded_and_the_same_for_all_keys():
    one, two = (RandLowDoseNoised(["image", "other"], prob=1.0).set_random_state(7)(item()) for _ in range(2))
    assert torch.equal(one["image"], two["image"]) and torch.equal(one["image"], one["other"])
    assert one["image"].dtype == torch.float32 and torch.equal(one["label"], torch.ones(1))


def test_behind_the_normalisation_it_is_refused():
    with pytest.raises(UserError, match=r"wants a picture in \[0, 1\]"):
        RandLowDoseNoised("image", prob=1.0)(item(x=-1.0))
