"""Eq. 3 and 4 of SSA against loops over pixels."""

import math

import numpy as np
import pytest
import torch

from common.losses.guidance import dynamic_box, guidance, guide_loss, into_box, names_a_place, normalise
from common.prompts.zones import composite_prior

SIZE = (24, 32)


def prior_of(*bits):
    return torch.from_numpy(composite_prior(bits, SIZE).copy())


def spot(row, column, size=(6, 8), spread=1.0):
    """Attention (h, w), a bump."""
    grid = [[math.exp(-((r - row) ** 2 + (c - column) ** 2) / spread) for c in range(size[1])] for r in range(size[0])]
    return torch.tensor(grid) / np.sum(grid)


LOWER_LEFT, UPPER_RIGHT = prior_of(0, 0, 1, 0, 0, 0), prior_of(0, 0, 0, 1, 0, 0)
NOWHERE = prior_of(0, 0, 0, 0, 0, 0)


def slow_large(a, height, width):
    """Bilinear, pixel centres at (i + 0.5)/n, edges held."""
    out = np.zeros((height, width))
    for r, c in np.ndindex(height, width):
        y = min(max((r + 0.5) / height * a.shape[0] - 0.5, 0), a.shape[0] - 1)
        x = min(max((c + 0.5) / width * a.shape[1] - 0.5, 0), a.shape[1] - 1)
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, a.shape[0] - 1), min(x0 + 1, a.shape[1] - 1)
        fy, fx = y - y0, x - x0
        out[r, c] = (a[y0, x0] * (1 - fy) + a[y1, x0] * fy) * (1 - fx) + (a[y0, x1] * (1 - fy) + a[y1, x1] * fy) * fx
    return out


def slow_box(a):
    rows = [r for r in range(a.shape[0]) if any(a[r, c] >= 0.5 for c in range(a.shape[1]))]
    columns = [c for c in range(a.shape[1]) if any(a[r, c] >= 0.5 for r in range(a.shape[0]))]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if (bottom - top) * (right - left) < 0.05 * a.size:
        return 0, 0, a.shape[0], a.shape[1]
    down, across = 0.05 * (bottom - top), 0.05 * (right - left)
    return (max(top - down, 0), max(left - across, 0), min(bottom + down, a.shape[0]), min(right + across, a.shape[1]))


def slow_guide(attention, prior):
    large = slow_large(attention, *prior.shape)
    large = (large - large.min()) / (large.max() - large.min())
    top, left, bottom, right = slow_box(large)
    guide = np.zeros(prior.shape)
    for r, c in np.ndindex(prior.shape):
        if top <= r + 0.5 < bottom and left <= c + 0.5 < right and prior[r, c] >= 0.1:
            guide[r, c] = large[r, c] * prior[r, c]
    return large, (top, left, bottom, right), guide / guide.max()


@pytest.mark.parametrize(
    ("attention", "prior"),
    [(spot(3, 1, spread=6), LOWER_LEFT), (spot(2, 6, spread=9), UPPER_RIGHT), (spot(3, 3.5, spread=40), LOWER_LEFT)],
)
def test_equals_the_loops(attention, prior):
    found = guidance(attention[None], prior[None])
    large, box, guide = slow_guide(attention.numpy(), prior.numpy())
    assert found.active.tolist() == [True]
    np.testing.assert_allclose(found.attention[0], large, atol=1e-5)
    np.testing.assert_allclose(found.box[0], box, atol=1e-4)
    np.testing.assert_allclose(found.guide[0], guide, atol=1e-5)
    assert float(found.guide.max()) == pytest.approx(1)


def test_each_image_of_a_batch_for_itself():
    attention = torch.stack([spot(3, 1, spread=6), spot(2, 6, spread=9)])
    prior = torch.stack([LOWER_LEFT, UPPER_RIGHT])
    together = guidance(attention, prior)
    for b in range(2):
        for one, all_of_them in zip(guidance(attention[b : b + 1], prior[b : b + 1]), together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[b])


def test_the_box_is_the_whole_picture_where_attention_is_a_point_or_flat():
    point = torch.zeros(1, 40, 40)
    point[0, 3, 3:6] = 1
    assert dynamic_box(point).tolist() == [[0, 0, 40, 40]]
    flat = normalise(torch.full((1, 4, 4), 0.0625), (40, 40))
    assert flat.min() == 1 and dynamic_box(flat).tolist() == [[0, 0, 40, 40]]


def test_no_position_words_no_guide():
    found = guidance(spot(3, 1, spread=6)[None], NOWHERE[None])
    assert found.active.tolist() == [False] and not found.guide.any()
    warped = torch.nn.functional.interpolate(NOWHERE[None, None], (31, 17), mode="bilinear")[0]
    assert not names_a_place(warped).any() and names_a_place(LOWER_LEFT[None]).all()


def test_attention_on_the_other_side_makes_no_guide():
    """Scaled to 1, what is left of the prior over there would be a guide to the wrong lung."""
    found = guidance(spot(1, 7, spread=2)[None], LOWER_LEFT[None])
    assert found.active.tolist() == [False] and not found.guide.any()


def test_the_guide_stays_on_the_named_side():
    """Attention on both lungs, a sentence about one."""
    both = torch.maximum(spot(3, 1, spread=4), spot(3, 6, spread=4))
    for prior, side in ((LOWER_LEFT, slice(0, 16)), (prior_of(0, 0, 0, 0, 0, 1), slice(16, 32))):
        guide = guidance(both[None], prior[None]).guide[0]
        assert guide[:, side].sum() > 0.99 * guide.sum()


@pytest.mark.parametrize("zone", range(6))
def test_the_guide_never_reaches_over_to_the_other_lung(zone):
    """Wherever the attention is: a prior's tail there, scaled to 1, would."""
    bits = tuple(int(place == zone) for place in range(6))
    prior = torch.from_numpy(composite_prior(bits, (112, 112)).copy())[None]
    for column in range(14):
        guide = guidance(spot(6, column, size=(14, 14), spread=12)[None], prior).guide[0]
        other = guide[:, 58:] if zone < 3 else guide[:, :54]
        assert not other.any()


def test_suppress_only_leaves_named_places_alone_wherever_the_attention_is():
    """Both lower lungs named, attention on one of them alone."""
    prior = prior_of(0, 0, 1, 0, 0, 1)[None]
    for attention in (spot(3, 1, spread=6), spot(0, 4, spread=0.3)):
        guides = guidance(attention[None], prior)
        logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
        guide_loss(logits, guides, suppress_only=True).backward()
        away = logits.grad[0, 0] > 0
        assert torch.equal(away, prior[0] < 0.1)
    silent = guidance(spot(3, 1, spread=6)[None], NOWHERE[None])
    assert float(guide_loss(torch.zeros(1, 1, *SIZE), silent, suppress_only=True)) == 0


def test_relative_lays_the_zones_into_the_box():
    """The whole picture's prior, shrunk: a point of the box has its value at that share of the picture."""
    box = torch.tensor([[6.0, 4.0, 18.0, 20.0]])
    found = into_box(LOWER_LEFT[None], box, relative=True)[0].numpy()
    prior = LOWER_LEFT.numpy()
    for r, c in np.ndindex(SIZE):
        down, across = (r + 0.5 - 6) / 12, (c + 0.5 - 4) / 16
        if not (0 <= down < 1 and 0 <= across < 1):
            assert found[r, c] == 0
            continue
        y, x = min(max(down * 24 - 0.5, 0), 23), min(max(across * 32 - 0.5, 0), 31)
        y0, x0 = int(y), int(x)
        y1, x1, fy, fx = min(y0 + 1, 23), min(x0 + 1, 31), y - y0, x - x0
        expected = (prior[y0, x0] * (1 - fy) + prior[y1, x0] * fy) * (1 - fx)
        expected += (prior[y0, x1] * (1 - fy) + prior[y1, x1] * fy) * fx
        assert found[r, c] == pytest.approx(expected, abs=1e-5)
    whole = torch.tensor([[0.0, 0, *SIZE]])
    torch.testing.assert_close(into_box(LOWER_LEFT[None], whole, relative=True), LOWER_LEFT[None], atol=1e-5, rtol=0)


def entropy(p, target):
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


@pytest.mark.parametrize("suppress_only", [False, True])
def test_loss_equals_eq_4_and_its_gradient_is_the_paper_s(suppress_only):
    g = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(2, 1, *SIZE, generator=g)).double().requires_grad_()
    guides = guidance(torch.stack([spot(3, 1, spread=6)] * 2), torch.stack([LOWER_LEFT, NOWHERE]))
    assert guides.active.tolist() == [True, False]
    loss = guide_loss(logits, guides, beta=0.3, suppress_only=suppress_only)
    loss.backward()
    pixels, total = SIZE[0] * SIZE[1], 0.0
    for r, c in np.ndindex(SIZE):
        p = 1 / (1 + math.exp(-float(logits[0, 0, r, c])))
        guide = float(guides.guide[0, r, c])
        refined = p * (float(LOWER_LEFT[r, c]) >= 0.1) if suppress_only else 0.7 * p + 0.3 * guide
        total += entropy(p, refined) / pixels / 2
        gradient = p - refined if suppress_only else 0.3 * (p - guide)
        assert float(logits.grad[0, 0, r, c]) == pytest.approx(gradient / pixels / 2, abs=1e-8)
    assert float(loss) == pytest.approx(total, rel=1e-5)
    assert not logits.grad[1].any()


def test_guides_are_constants():
    attention = spot(3, 1, spread=6)[None].requires_grad_()
    prior = LOWER_LEFT[None].clone().requires_grad_()
    assert not any(part.requires_grad for part in guidance(attention, prior))


def test_half_precision():
    attention = spot(3, 1, spread=6)[None]
    logits = torch.randn(1, 1, *SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        loss = guide_loss(logits.bfloat16(), guidance(attention.bfloat16(), LOWER_LEFT[None].bfloat16()))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(guide_loss(logits, guidance(attention, LOWER_LEFT[None]))), rel=0.02)
