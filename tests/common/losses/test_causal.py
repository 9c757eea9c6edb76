import math

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.losses.causal import CausalGame
from tests.common.networks.causal_reference import cross_entropy


def inputs(scale=1.0):
    torch.manual_seed(0)
    output = {key: (scale * torch.randn(2, 1, 3, 4)).requires_grad_() for key in ("pred", "confounding")}
    return output, (torch.rand(2, 1, 3, 4) > 0.6).float()


@pytest.mark.parametrize("mode", ["none", "literal", "grl", "uniform"])
def test_equals_loops(mode):
    output, target = inputs()
    loss = CausalGame(mode, weight=0.05)
    found = loss(output, target).item()
    pred, confounding, truth = (x.detach().double().numpy() for x in (*output.values(), target))
    causal, other = cross_entropy(pred, truth), cross_entropy(confounding, truth)
    even = cross_entropy(confounding, np.full_like(truth, 0.5))
    expected = {"none": 0.0, "literal": -0.05 * other, "grl": other, "uniform": 0.05 * even}[mode] + causal
    assert found == pytest.approx(expected, abs=1e-6)
    terms = {"causal": causal} | ({} if mode == "none" else {"confounding": other})
    assert {k: v.item() for k, v in loss.terms.items() if k != "clamped"} == pytest.approx(terms, abs=1e-6)
    assert ("clamped" in loss.terms) is (mode == "literal")


def test_literal_stops_at_the_clamp_and_says_so():
    output, target = inputs()
    loss = CausalGame("literal", weight=0.05)
    for scale, clamped in ((1.0, 0.0), (20.0, 1.0)):
        wrong = (scale * (1 - 2 * target)).requires_grad_()
        value = loss({"pred": output["pred"], "confounding": wrong}, target)
        value.backward()
        assert float(loss.terms["clamped"]) == clamped
        assert bool(wrong.grad.any()) is not bool(clamped)
    assert value.item() == pytest.approx(loss.terms["causal"].item() - 0.05 * 5 * math.log(2))
    # on the mean of the batch, not on each pixel
    assert float(loss.terms["confounding"]) == pytest.approx(20.0, rel=1e-5)


def test_uniform_is_least_where_nothing_can_be_told():
    output, target = inputs()
    values = [
        float(CausalGame("uniform", weight=1.0)(output | {"confounding": torch.full((2, 1, 3, 4), x)}, target))
        for x in (-1.0, 0.0, 1.0)
    ]
    assert values[0] == pytest.approx(values[2])
    assert values[1] == pytest.approx(float(CausalGame("none")(output, target)) + math.log(2))
    assert values[1] < values[0]


def test_half_precision_logits():
    output, target = inputs()
    half = {key: value.detach().bfloat16() for key, value in output.items()}
    assert CausalGame()(half, target).dtype == torch.float32


def test_faults_are_one_line():
    output, target = inputs()
    with pytest.raises(UserError, match="mode 'minmax', expected one of none, literal, grl, uniform"):
        CausalGame("minmax")
    with pytest.raises(UserError, match="mode 'grl', but the network has no second decoder; give its 'game' the same"):
        CausalGame("grl")({"pred": output["pred"]}, target)
