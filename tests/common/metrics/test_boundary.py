"""HD95 and ASSD against a loop over all pairs of boundary pixels, written from C2Seg's definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from common.metrics.boundary import assd, boundary_distances, diagonal, hd95

shapes = st.tuples(st.integers(1, 10), st.integers(1, 10))
pairs = shapes.flatmap(lambda s: st.tuples(arrays(bool, s), arrays(bool, s)))
spacings = st.tuples(st.sampled_from([0.14, 0.5, 1.0, 2.5]), st.sampled_from([0.14, 0.7, 1.0, 3.0]))


def edge(mask):
    """Lesion pixels with a neighbour above, below, left or right that is none; outside the picture there is none."""
    h, w = len(mask), len(mask[0])
    found = []
    for i in range(h):
        for j in range(w):
            if mask[i][j]:
                for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                    if a < 0 or a >= h or b < 0 or b >= w or not mask[a][b]:
                        found.append((i, j))
                        break
    return found


def nearest(points, others, spacing):
    out = []
    for i, j in points:
        least = math.inf
        for a, b in others:
            least = min(least, math.sqrt(((i - a) * spacing[0]) ** 2 + ((j - b) * spacing[1]) ** 2))
        out.append(least)
    return out


def loop(pred, truth, spacing=(1.0, 1.0)):
    """HD95: value at rank .95 (n - 1) of the sorted union, between two values in proportion. ASSD: eq. (10)."""
    p, t = edge(pred), edge(truth)
    forth, back = nearest(p, t, spacing), nearest(t, p, spacing)
    union = sorted(forth + back)
    rank = 0.95 * (len(union) - 1)
    low = int(rank)
    high = min(low + 1, len(union) - 1)
    percentile = union[low] + (rank - low) * (union[high] - union[low])
    return percentile, 0.5 * (sum(forth) / len(forth) + sum(back) / len(back))


def ours(pred, truth, spacing=None):
    both = boundary_distances(pred, truth, spacing)
    return hd95(*both), assd(*both)


@given(pairs, spacings)
def test_both_equal_the_loop_over_all_pairs(masks, spacing):
    assume(masks[0].any() and masks[1].any())
    assert ours(*masks) == pytest.approx(loop(*masks), rel=1e-5, abs=1e-6)
    assert ours(*masks, spacing) == pytest.approx(loop(*masks, spacing), rel=1e-5, abs=1e-6)


def test_large_overlapping_blobs_equal_the_loop():
    row, column = np.mgrid[:70, :60]
    a = (row - 30) ** 2 + 2 * (column - 25) ** 2 < 400
    b = (row - 36) ** 2 + (column - 30) ** 2 < 300
    assert ours(a, b, (0.4, 0.9)) == pytest.approx(loop(a, b, (0.4, 0.9)), rel=1e-5)


@given(pairs)
def test_symmetric_and_zero_on_equal_masks(masks):
    assume(masks[0].any() and masks[1].any())
    assert ours(*masks) == pytest.approx(ours(*masks[::-1]))
    assert ours(masks[0], masks[0]) == (0, 0)


@given(pairs, st.integers(0, 5), st.integers(0, 5))
def test_moving_both_masks_changes_nothing(masks, down, right):
    assume(masks[0].any() and masks[1].any())
    here = [np.pad(mask, 1) for mask in masks]
    moved = [np.pad(mask, ((1 + down, 1), (1 + right, 1))) for mask in masks]
    assert ours(*here) == pytest.approx(ours(*moved))


@pytest.mark.parametrize("step", [(3, 0), (0, 4), (3, 4)])
def test_single_pixels_are_as_far_apart_as_their_step(step):
    a, b = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    a[0, 0] = b[step] = True
    assert ours(a, b) == pytest.approx((math.hypot(*step),) * 2)
    assert ours(a, b, (2.0, 0.5)) == pytest.approx((math.hypot(2 * step[0], step[1] / 2),) * 2, rel=1e-6)


def test_a_mask_has_its_boundary_on_the_border_of_the_picture():
    full, inner = np.ones((5, 5), bool), np.zeros((5, 5), bool)
    inner[1:4, 1:4] = True
    # 16 pixels of the border ring, of which the 4 corners are sqrt(2) from the 8 of the inner ring
    assert assd(*boundary_distances(full, inner)) == pytest.approx(((12 + 4 * math.sqrt(2)) / 16 + 1) / 2)


def test_where_monais_classes_differ():
    """A small false positive far away: rare in the union, but most of the shorter directed set's tail."""
    truth, pred = np.zeros((100, 200), bool), np.zeros((100, 200), bool)
    truth[10:80, 10:80] = pred[10:80, 11:80] = True
    pred[40:45, 150:155] = True  # 16 of 300 boundary pixels of the prediction, 2.8 % of the union
    tensors = [torch.from_numpy(mask)[None, None] for mask in (pred, truth)]
    theirs = compute_hausdorff_distance(*tensors, include_background=True, percentile=95).item()
    pooled = compute_average_surface_distance(*tensors, include_background=True, symmetric=True).item()
    assert ours(pred, truth) == pytest.approx(loop(pred, truth), rel=1e-5)
    assert ours(pred, truth)[0] == 1 and theirs > 65
    assert abs(ours(pred, truth)[1] - pooled) > 0.01


def test_an_empty_mask_has_no_distance():
    some, none = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    for masks in ((some, none), (none, some), (none, none)):
        with pytest.raises(ValueError, match="two masks that are not empty"):
            boundary_distances(*masks)


def test_diagonal():
    assert diagonal((224, 224)) == pytest.approx(316.78, abs=0.01)
    assert diagonal((30, 40), (2.0, 2.0)) == 100
    assert diagonal((3, 4), (10.0, 1.0)) == pytest.approx(math.hypot(30, 4))
