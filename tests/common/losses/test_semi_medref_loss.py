import pytest
import torch

from common.errors import UserError
from common.losses import SemiMedRefLoss, Supervised
from common.losses.itcl import itcl


@pytest.fixture
def output():
    g = torch.Generator().manual_seed(0)
    found = {name: torch.randn(3, 1, 8, 8, generator=g) for name in ("pred", "strong_pred")}
    found |= {f"{view}{kind}_embedding": torch.randn(3, 5, generator=g) for view in ("", "weak_")
              for kind in ("image", "text")}  # fmt: skip
    found["zones"], found["weak_zones"] = torch.eye(6)[:3], torch.eye(6)[[1, 1, 2]]
    found["pseudo"] = (torch.rand(3, 1, 8, 8, generator=g) > 0.5).float()
    found["mixed"] = torch.tensor([True, False, False])
    return found


TARGET = (torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(9)) > 0.5).float()


def test_lambda():
    loss = SemiMedRefLoss()
    seen = []
    for epoch in range(25):
        loss.set_epoch(epoch)
        seen.append(loss.unlabelled_weight)
    assert seen[:6] == [0] * 6
    assert seen[6] == pytest.approx(0.3 / 15) and seen[19] == pytest.approx(0.3 * 14 / 15)
    assert seen[20:] == [0.3] * 5
    jump = SemiMedRefLoss(burn_in=2, ramp=0)
    for epoch, expected in ((1, 0), (2, 0.3)):
        jump.set_epoch(epoch)
        assert jump.unlabelled_weight == expected


@pytest.mark.parametrize("ce", [1.0, 0.0])
def test_equals_the_sum_of_its_parts(output, ce):
    """L_sup + .02 ITCL_l + λ [L_unsup + .10 ITCL_u]."""
    loss, plain = SemiMedRefLoss(ce_weight=ce), Supervised(ce_weight=ce)
    loss.set_epoch(10)
    found = loss(output, TARGET)
    aligned = itcl(output["image_embedding"], output["text_embedding"], output["zones"])
    weak = itcl(output["weak_image_embedding"], output["weak_text_embedding"], output["weak_zones"])
    unlabelled = plain(output["strong_pred"], output["pseudo"]) + 0.1 * weak
    torch.testing.assert_close(found, plain(output, TARGET) + 0.02 * aligned + 0.1 * unlabelled)
    assert loss.terms.keys() == {"dice", "ce", "align", "weight", "unsupervised", "lesion", "mixed", "align_unlabelled"}
    assert float(loss.terms["weight"]) == pytest.approx(0.1)
    assert float(loss.terms["mixed"]) == pytest.approx(1 / 3)
    assert float(loss.terms["lesion"]) == pytest.approx(float(output["pseudo"].mean()))


def test_without_unlabelled_images_it_is_supervised(output):
    labelled = {key: output[key] for key in ("pred", "image_embedding", "text_embedding", "zones")}
    loss = SemiMedRefLoss(align_weight=0)
    loss.set_epoch(50)
    torch.testing.assert_close(loss(labelled, TARGET), Supervised()(labelled, TARGET))
    assert loss.terms.keys() == {"dice", "ce", "weight"}
    assert float(loss.terms["weight"]) == 0, "the λ that took part"


def test_clip_is_another_alignment(output):
    values = {}
    for name in ("itcl", "clip"):
        loss = SemiMedRefLoss(alignment=name)
        loss.set_epoch(30)
        loss(output, TARGET)
        values[name] = loss.terms
    assert values["itcl"]["align"] == values["clip"]["align"], "no two sentences share a zone"
    assert values["itcl"]["align_unlabelled"] != values["clip"]["align_unlabelled"]
    with pytest.raises(UserError, match="SemiMedRefLoss: alignment 'l2', expected one of itcl, clip"):
        SemiMedRefLoss(alignment="l2")
