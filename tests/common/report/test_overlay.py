"""Overlays and contact sheets: what is drawn, where, and how large."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.report import contact_sheet, overlay
from common.report.overlay import PREDICTION, TRUTH

GREY = np.full((512, 512), 0.5)


def box(top, bottom, left, right, shape=(512, 512)):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def near(picture, colour):
    return (np.abs(picture.astype(int) - colour) <= 2).all(axis=-1)


def test_the_prediction_is_filled_and_outlined_in_its_place():
    mask = box(100, 200, 300, 400)
    picture = overlay(GREY, mask, marker="")
    line = near(picture, PREDICTION)
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    assert line[100, 350] and line[199, 350] and line[150, 300] and line[150, 399]
    assert not line[150, 350] and not line[~mask].any()
    inside, outside = picture[150, 350].astype(int), picture[400, 100].astype(int)
    assert (outside == 128).all()
    assert inside[2] > outside[2] + 15 and inside[0] < outside[0] - 5  # bluer, and the lung still shows
    assert (picture[99, 350] < 90).all()  # the dark line outside


def test_the_truth_is_an_outline_in_the_other_colour():
    truth = box(300, 420, 60, 180)
    picture = overlay(GREY, box(0, 0, 0, 0), truth, marker="")
    line = near(picture, TRUTH)
    assert line[300, 100] and line[350, 60] and not line[350, 120]
    assert (picture[350, 120] == 128).all()  # no fill
    assert near(picture[512:], TRUTH).any() and near(picture[512:], PREDICTION).any()  # the legend


def test_the_r_stands_at_the_left_where_the_patients_right_is():
    none = box(0, 0, 0, 0)
    changed = (overlay(GREY, none) != overlay(GREY, none, marker="")).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert changed.any() and columns.max() < 512 / 8 and rows.max() < 512 / 8


def test_left_stays_left_and_up_stays_up():
    image = np.zeros((512, 512))
    image[:256, 256:] = 1
    picture = overlay(image, box(0, 0, 0, 0), marker="")
    assert picture[100, 400, 0] == 255 and picture[100, 100, 0] == picture[400, 400, 0] == 0


@given(st.integers(1, 2500), st.integers(1, 2500), st.sampled_from([None, "", "lower left lung", "word " * 300]))
def test_the_longest_side_is_at_most_1024(height, width, sentence):
    picture = overlay(np.zeros((height, width)), np.zeros((height, width), bool), sentence=sentence)
    assert max(picture.shape) <= 1024
    if sentence is None:
        assert max(picture.shape) >= 512
        long, short = max(height, width), min(height, width)
        assert abs(min(picture.shape[:2]) - max(1, max(picture.shape[:2]) * short / long)) <= 1


def test_a_large_picture_keeps_its_mask_in_place():
    mask = box(1000, 1500, 2000, 2500, (2000, 3000))
    picture = overlay(np.full((2000, 3000), 0.5), mask, marker="")
    rows, columns = np.nonzero(near(picture, PREDICTION))
    assert picture.shape[:2] == (683, 1024)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([341, 512, 683, 853], abs=2)


def test_colour_pictures_and_values_outside_0_and_1():
    image = np.zeros((512, 512, 3))
    image[..., 0], image[0, 0, 1] = 1.7, np.nan
    picture = overlay(image, box(0, 0, 0, 0), marker="")
    assert (picture[300, 300] == (255, 0, 0)).all()
    assert (picture[0, 0] == (255, 0, 0)).all()


def test_any_sentence_can_be_drawn():
    for sentence in ("", "a\nb\x00c", "вернее 漢字 \udcff", "x" * 5000):
        assert overlay(GREY, box(0, 9, 0, 9), sentence=sentence).shape[0] > 512


def test_a_long_sentence_ends_after_three_lines():
    start = time.process_time()
    three, more = (overlay(GREY, box(0, 9, 0, 9), sentence="word " * n) for n in (30, 100_000))
    assert three.shape == more.shape
    assert time.process_time() - start < 1  # a whole report pasted as a sentence holds nothing up


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"truth \(3, 3\) and image \(512, 512\) differ"):
        overlay(GREY, box(0, 9, 0, 9), np.zeros((3, 3)))


def test_a_contact_sheet_holds_every_picture_once_in_order():
    images = [np.full((50 + 10 * i, 80), (i + 1) / 5) for i in range(5)]
    sheet = contact_sheet(images, ["a"] * 5, columns=2, cell=100)
    assert sheet.shape[1] == 2 * 108 + 8
    high = (sheet.shape[0] - 8) // 3
    seen = [int(sheet[8 + 50 + i // 2 * high, 8 + 50 + i % 2 * 108, 0]) for i in range(5)]
    assert seen == [round(255 * (i + 1) / 5) for i in range(5)]
    assert contact_sheet(images[:1], ["only"], columns=4, cell=100).shape[1] == 116


def test_a_contact_sheet_needs_a_caption_each():
    with pytest.raises(ValueError, match="2 pictures and 1 captions"):
        contact_sheet([GREY, GREY], ["one"])
    with pytest.raises(ValueError, match="0 pictures"):
        contact_sheet([], [])
