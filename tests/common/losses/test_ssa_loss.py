import pytest
import torch

from common.errors import UserError
from common.losses import SSALoss, Supervised
from common.losses.contrastive import symmetric_infonce
from common.losses.guidance import guidance, guide_loss
from common.losses.transport import transport_loss
from common.prompts.zones import composite_prior

SIZE = (24, 32)


@pytest.fixture
def output():
    g = torch.Generator().manual_seed(0)
    text = torch.tensor([[2, 7, 8, 3, 0], [2, 9, 3, 0, 0], [2, 7, 8, 3, 0]])
    return {
        "pred": torch.randn(3, 1, *SIZE, generator=g), "text": text,
        "words": torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]) > 0,
        "image_tokens": torch.randn(3, 12, 6, generator=g), "word_tokens": torch.randn(3, 5, 6, generator=g),
        "attention": torch.rand(3, 6, 8, generator=g),
    }  # fmt: skip


@pytest.fixture
def target():
    g = torch.Generator().manual_seed(1)
    mask = (torch.rand(3, 1, *SIZE, generator=g) > 0.7).float()
    bits = [(0, 0, 1, 0, 0, 0), (0,) * 6, (1, 1, 1, 0, 0, 1)]
    return torch.cat([mask, torch.stack([torch.from_numpy(composite_prior(b, SIZE).copy())[None] for b in bits])], 1)


def parts(output, target, positives):
    """Each term from its own function, tested there."""
    image, word = (torch.nn.functional.normalize(output[key], dim=-1) for key in ("image_tokens", "word_tokens"))
    sentences = torch.stack([word[b][output["words"][b]].mean(dim=0) for b in range(3)])
    return {
        "global": symmetric_infonce(image.mean(dim=1), sentences, positives, 0.07),
        "local": transport_loss(output["image_tokens"], output["word_tokens"], output["words"]),
        "guide": guide_loss(output["pred"], guidance(output["attention"], target[:, 1])),
    }


SAME = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]) > 0


@pytest.mark.parametrize("same", [True, False])
def test_total(output, target, same):
    loss = SSALoss(same_sentence_is_positive=same)
    loss.set_epoch(5)
    expected = parts(output, target, SAME if same else torch.eye(3) > 0)
    total = Supervised()(output, target[:, :1]) + 0.1 * expected["global"] + 0.02 * expected["local"]
    torch.testing.assert_close(loss(output, target), total + 0.1 * expected["guide"])
    assert loss.terms.keys() == {"dice", "ce", "global", "local", "guide", "guided"}
    for name, part in expected.items():
        torch.testing.assert_close(loss.terms[name], part)
    assert float(loss.terms["guided"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ({"global_weight": 0, "local_weight": 0, "guide_weight": 0}, set()),
        ({"global_weight": 0, "local_weight": 0}, {"guide", "guided"}),
        ({"guide_weight": 0}, {"global", "local"}),
    ],
)
def test_ablations(output, target, weights, names):
    loss = SSALoss(guide_from=0, **weights)
    found = loss(output, target)
    assert loss.terms.keys() == {"dice", "ce"} | names
    if not names:
        assert torch.equal(found, Supervised()(output, target[:, :1]))


def test_guidance_waits(output, target):
    loss = SSALoss(guide_from=3)
    for epoch, there in ((2, False), (3, True)):
        loss.set_epoch(epoch)
        loss(output, target)
        assert ("guide" in loss.terms) is there


def test_a_label_without_prior(output, target):
    loss = SSALoss()
    with pytest.raises(UserError, match="the label has 1 channels, expected the mask and the prior"):
        loss(output, target[:, :1])
    assert torch.isfinite(SSALoss(guide_weight=0)(output, target[:, :1]))


def test_finite_in_half_precision(output, target):
    loss = SSALoss(guide_from=0)
    half = {k: v.bfloat16().requires_grad_() if v.is_floating_point() else v for k, v in output.items()}
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(half, target)
    found.backward()
    assert torch.isfinite(found)
    assert all(torch.isfinite(half[key].grad).all() for key in ("pred", "image_tokens", "word_tokens"))
    assert half["attention"].grad is None, "the guide is a constant"
    assert float(found) == pytest.approx(float(loss(output, target)), rel=0.02)
