import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from common.losses import Supervised


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(3)
    return torch.randn(2, 1, 6, 5, generator=g) * 3, (torch.rand(2, 1, 6, 5, generator=g) > 0.6).float()


def slow(logits: np.ndarray, target: np.ndarray, dice_weight: float, ce_weight: float) -> float:
    """From the definitions: mean over images of 1 - (2 inter + 1e-5)/(sum + 1e-5); mean over pixels of the entropy."""
    dice, ce, pixels = 0.0, 0.0, 0
    for b in range(logits.shape[0]):
        inter = union = 0.0
        for y in range(logits.shape[2]):
            for x in range(logits.shape[3]):
                p, t = 1 / (1 + np.exp(-logits[b, 0, y, x])), target[b, 0, y, x]
                inter += p * t
                union += p + t
                ce -= t * np.log(p) + (1 - t) * np.log(1 - p)
                pixels += 1
        dice += 1 - (2 * inter + 1e-5) / (union + 1e-5)
    return dice_weight * dice / logits.shape[0] + ce_weight * ce / pixels


@pytest.mark.parametrize("weights", [(1, 1), (1, 0), (0.3, 2)])
def test_equals_the_definition(case, weights):
    logits, target = case
    found = Supervised(*weights)({"pred": logits}, target)
    assert float(found) == pytest.approx(slow(logits.double().numpy(), target.numpy(), *weights), rel=1e-5)


def test_equals_monai(case):
    logits, target = case
    assert torch.allclose(Supervised()(logits, target), DiceCELoss(sigmoid=True)(logits, target))


def test_terms_are_kept(case):
    loss = Supervised(ce_weight=0.5)
    total = loss({"pred": case[0]}, case[1])
    assert float(total) == pytest.approx(float(loss.terms["dice"] + 0.5 * loss.terms["ce"]))
