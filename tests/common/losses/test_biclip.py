import math

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.losses import BiCLIPLoss, Supervised
from common.networks.blocks.augmentation import RandomGeometry, warp


@pytest.fixture
def case():
    """Output of a step and target, of 3 images of 6 x 8 pixels."""
    torch.manual_seed(2)
    picture = torch.rand(3, 1, 6, 8).expand(-1, 3, -1, -1)
    output = {
        "pred": torch.randn(3, 1, 6, 8), "theta": RandomGeometry(affine=1)(picture), "image": picture,
        "generated": torch.rand(3, 3, 6, 8), "text": torch.randn(3, 16), "cycle": torch.randn(3, 16),
        "weak": torch.randn(3, 5), "strong": torch.randn(3, 5),
    }  # fmt: skip
    for key in ("pred", "generated", "text", "cycle", "weak", "strong"):
        output[key].requires_grad_()
    return output, (torch.rand(3, 1, 6, 8) > 0.6).float()


def slow_terms(output, target, cycle) -> dict[str, float]:
    """Equations 2 and 6 and the generator's term, one index at a time."""
    o = {key: value.detach().double().numpy() for key, value in output.items()}
    m = target.double().numpy()
    gen = consistency = distance = 0.0
    for b, c, y, x in np.ndindex(o["generated"].shape):
        g = o["image"][b, c, y, x] if m[b, 0, y, x] else 0.0
        gen += abs(o["generated"][b, c, y, x] - g) / o["generated"].size
    for b in range(3):
        dot = sum(o["weak"][b, i] * o["strong"][b, i] for i in range(5))
        norms = [math.sqrt(sum(o[key][b, i] ** 2 for i in range(5))) for key in ("weak", "strong")]
        consistency += (1 - dot / (norms[0] * norms[1])) / 3
        for i in range(16):
            gap = o["text"][b, i] - o["cycle"][b, i]
            distance += (abs(gap) if cycle == "l1" else gap**2) / (3 * 16)
    return {"gen": gen, "consistency": consistency, "cycle": distance}


@pytest.mark.parametrize("cycle", ["l1", "mse_mean"])
def test_equals_the_equations(case, cycle):
    output, target = case
    loss = BiCLIPLoss(cycle=cycle)
    total = loss(output, target)
    expected = slow_terms(output, target, cycle)
    for name, value in expected.items():
        assert loss.terms[name].item() == pytest.approx(value, rel=1e-5), name
    segmentation = Supervised()
    value = segmentation(output["pred"], warp(target, output["theta"], "nearest")).item()
    assert {"dice", "ce"} | expected.keys() == loss.terms.keys()
    value += 0.1 * expected["gen"] + 0.05 * expected["consistency"] + 0.07 * expected["cycle"]
    assert total.item() == pytest.approx(value, rel=1e-5)


def test_each_weight_is_its_term_s(case):
    output, target = case
    names = {"gen_weight": "gen", "consistency_weight": "consistency", "cycle_weight": "cycle", "dice_weight": "dice",
             "ce_weight": "ce"}  # fmt: skip
    for weight, name in names.items():
        loss = BiCLIPLoss(**(dict.fromkeys(names, 0.0) | {weight: 3.0}))
        assert loss(output, target).item() == pytest.approx(3 * loss.terms[name].item(), rel=1e-5)


def test_no_gradient_through_the_strong_view_and_the_sentence(case):
    output, target = case
    BiCLIPLoss()(output, target).backward()
    assert output["strong"].grad is None
    assert output["text"].grad is None
    for key in ("pred", "generated", "cycle", "weak"):
        assert output[key].grad.any(), key


def test_the_mask_is_warped_for_the_segmentation_alone():
    """Logits that are right after the flip; the pseudo-image before it."""
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3] = 1
    theta = RandomGeometry(hflip=1, vflip=0, affine=0)(mask)
    output = {"pred": 40 * mask.flip(3) - 20, "theta": theta, "image": torch.full((1, 3, 8, 8), 0.7),
              "generated": 0.7 * mask.expand(-1, 3, -1, -1)}  # fmt: skip
    loss = BiCLIPLoss()
    assert loss(output, mask).item() < 1e-4
    assert loss.terms.keys() == {"dice", "ce", "gen"}
    assert loss(output | {"theta": RandomGeometry(0, 0, 0)(mask)}, mask).item() > 1


def test_half_precision_is_finite_and_near(case):
    output, target = case
    expected = BiCLIPLoss()(output, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = {k: v.bfloat16() if k not in ("theta", "image") else v for k, v in output.items()}
        found = BiCLIPLoss()(half, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_another_distance_is_refused():
    with pytest.raises(UserError, match="BiCLIPLoss: cycle 'l2', expected one of l1, mse_mean"):
        BiCLIPLoss(cycle="l2")
