"""Counts, Dice and IoU against loops over single pixels written from the definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.metrics.overlap import binary, counts, dice, iou

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
pairs = shapes.flatmap(lambda s: st.tuples(arrays(bool, s), arrays(bool, s)))


def loop(pred, truth):
    """TP, FP, FN, |P ∩ T| / |P ∪ T| and 2 |P ∩ T| / (|P| + |T|), one pixel after the other."""
    tp = fp = fn = both = either = p = t = 0
    for i in range(len(pred)):
        for j in range(len(pred[0])):
            a, b = bool(pred[i][j]), bool(truth[i][j])
            tp += a and b
            fp += a and not b
            fn += b and not a
            both += a and b
            either += a or b
            p += a
            t += b
    return tp, fp, fn, 2 * both / (p + t) if p + t else math.nan, both / either if either else math.nan


@given(pairs)
def test_counts_dice_and_iou_equal_a_loop_over_pixels(masks):
    *expected, d, i = loop(*masks)
    assert list(counts(*masks)) == expected
    assert dice(*expected) == pytest.approx(d, nan_ok=True)
    assert iou(*expected) == pytest.approx(i, nan_ok=True)


@given(pairs)
def test_dice_and_iou_are_symmetric_and_linked(masks):
    here, there = counts(*masks), counts(*masks[::-1])
    assert here == (there[0], there[2], there[1])
    if sum(here):
        assert dice(*here) == dice(*there)
        assert iou(*here) == pytest.approx(dice(*here) / (2 - dice(*here)))


def test_equal_masks_score_one_and_two_empty_ones_nothing():
    mask = np.eye(4, dtype=bool)
    assert dice(*counts(mask, mask)) == iou(*counts(mask, mask)) == 1
    assert math.isnan(dice(0, 0, 0)) and math.isnan(iou(0, 0, 0))


def test_a_hand_made_example():
    pred = np.array([[1, 1, 0], [0, 0, 0]])
    truth = np.array([[0, 1, 1], [0, 1, 0]])
    assert counts(pred, truth) == (1, 1, 2)
    assert dice(1, 1, 2) == 2 / 5 and iou(1, 1, 2) == 1 / 4


@pytest.mark.parametrize(
    ("mask", "words"),
    [(np.full((2, 2), 0.5), "apply the threshold"), (np.full((2, 2), 255), "apply the threshold"),
     (np.zeros((1, 2, 2)), r"\(H, W\), not one of shape \(1, 2, 2\)")],
)  # fmt: skip
def test_what_is_no_binary_mask_is_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        binary(mask)


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and ground truth \(3, 2\) differ in shape"):
        counts(np.zeros((2, 3)), np.zeros((3, 2)))
