"""Panels: what stands where, at which scale, in which colours."""

import numpy as np
import pytest

from common.report.overlay import PREDICTION, TRUTH
from common.report.panel import WIDTH, Maps, _colours, panel

SHAPE = (96, 96)


def blob(row, column, shape=SHAPE, size=12):
    array = np.zeros(shape)
    array[row - size : row + size, column - size : column + size] = 1
    return array


def near(picture, colour, by=2):
    return (np.abs(picture.astype(int) - colour) <= by).all(axis=-1)


def drawn(shape=SHAPE, truth=None, **more):
    image = np.full(shape, 0.3)
    probability, mask = blob(50, 30, shape), blob(50, 30, shape) > 0
    return panel(image, probability, mask, truth, **{"title": "t", "marker": ""} | more)


def attention(count, shape=SHAPE):
    values = np.stack([blob(30 + 3 * k, 60, shape) * 4 for k in range(count)])
    return Maps("heading", [("before", f"word{k}", "after") for k in range(count)], values, least_top=2, unit="x")


def test_it_is_1600_wide_and_the_three_pictures_stand_side_by_side():
    picture = drawn()
    assert picture.dtype == np.uint8 and picture.shape[1:] == (WIDTH, 3) and WIDTH == 1600
    bright = near(picture, _colours(np.array(1.0)))  # probability 1
    columns = np.nonzero(bright.sum(axis=0) > 60)[0]
    assert columns.min() > 500 and columns.max() < 1100
    contour = near(picture, PREDICTION)
    rows, columns = np.nonzero(contour)
    inside = columns[rows > 200]
    assert inside.min() > 1100  # the mask is in the third picture


def test_left_stays_left_and_up_stays_up():
    picture = drawn()
    rows, columns = np.nonzero(near(picture, _colours(np.array(1.0))))
    block = (columns > 520) & (columns < 1040)
    centre = np.median(columns[block]), np.median(rows[block])
    left, width = 28 + 473 + 16, 473
    assert (centre[0] - left) / width == pytest.approx(30 / 96, abs=0.04)
    assert (centre[1] - 54 - 84) / width == pytest.approx(50 / 96, abs=0.04)


def test_the_ground_truth_is_drawn_and_named():
    assert not near(drawn(), TRUTH).any()
    picture = near(drawn(truth=blob(40, 70) > 0), TRUTH)
    rows, columns = np.nonzero(picture)
    assert columns.min() > 1100 and picture.sum() > 300
    assert (rows < 140).any()  # the legend


def test_the_r_stands_at_the_left_of_every_picture():
    changed = (drawn(maps=[attention(2)]) != drawn(maps=[attention(2)], marker="R")).any(axis=-1)
    first, maps = changed[:600], changed[600:]
    assert maps.any()
    for part, lefts, width in ((first, (28, 517, 1098), 473), (maps, (28, 391), 347)):
        assert part.any(axis=1).sum() < 50
        inside = np.zeros(WIDTH, bool)
        for left in lefts:
            place = part[:, left : left + width // 5]
            assert place.any()
            inside[left : left + width // 5] = True
        assert not part[:, ~inside].any()


@pytest.mark.parametrize(("count", "rows", "width"), [(1, 1, 347), (5, 1, 274), (6, 1, 226), (7, 2, 347), (12, 2, 226)])
def test_at_most_six_maps_in_a_row(count, rows, width):
    without = drawn().shape[0]
    heading = drawn(maps=[attention(1)]).shape[0] - without - 44 - 347
    assert heading > 30
    assert drawn(maps=[attention(count)]).shape[0] - without - heading == rows * (44 + width)


def test_maps_share_one_scale_that_does_not_blow_noise_up():
    shape = (64, 64)
    flat = Maps("h", [("", "a", "")], np.full((1, *shape), 1.0), least_top=2)
    picture = drawn(shape, maps=[flat])
    opacity = 0.1 + 0.75 * 0.5
    expected = round(0.3 * 255) * (1 - opacity) + _colours(np.array(0.5)) * opacity
    assert near(picture, expected, by=3).sum() > 30_000  # an even look is half of the scale
    two = Maps("h", [("", "a", ""), ("", "b", "")], np.stack([np.full(shape, 1.0), np.full(shape, 10.0)]), least_top=2)
    assert not near(drawn(shape, maps=[two]), expected, by=3).sum() > 30_000  # the second sets the scale


@pytest.mark.parametrize(("shape", "high"), [((300, 100), 591), ((100, 300), 158), ((96, 96), 473)])
def test_a_tall_picture_and_a_wide_one_keep_their_aspect(shape, high):
    """At their own aspect, at most 1.25 times as high as their place is wide."""
    probability = np.ones(shape)
    picture = panel(np.zeros(shape), probability, probability, title="t", marker="")
    rows, columns = np.nonzero(near(picture, _colours(np.array(1.0)), by=0)[:, 517 : 517 + 473])
    assert np.ptp(rows) + 1 == high
    assert np.ptp(columns[rows > rows.min() + 20]) + 1 == pytest.approx(high * shape[1] / shape[0], abs=1)


def test_long_sentences_are_wrapped_and_nothing_breaks_without_maps():
    short = drawn(lines=[("sentence", "short")])
    long = drawn(lines=[("sentence", "word " * 80), ("understood", "")], notes=["note " * 80])
    assert long.shape[0] > short.shape[0]


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"mask \(4, 4\) and image \(8, 8\) differ in size"):
        panel(np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((4, 4)), title="t")
    with pytest.raises(ValueError, match="heading: 2 captions and 1 maps"):
        group = Maps("heading", [("", "a", ""), ("", "b", "")], np.zeros((1, 8, 8)))
        panel(np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((8, 8)), title="t", maps=[group])


def test_the_colours_grow_lighter_all_along():
    """So that they are told apart with any colour vision and in grey print."""
    light = _colours(np.linspace(0, 1, 64)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all() and light[-1] - light[0] > 200


def test_an_outline_is_drawn_in_every_map():
    values = np.stack([blob(30, 60), blob(40, 60)])
    plain, lined = (
        drawn(maps=[Maps("h", [("", "a", ""), ("", "b", "")], values, outline=outline)])
        for outline in (None, blob(60, 60) > 0)
    )
    rows, columns = np.nonzero((plain != lined).any(axis=2))
    assert near(lined, (238, 238, 238))[rows, columns].mean() > 0.25, "white, with a darker edge"
    assert {int(column > 400) for column in columns} == {0, 1}
    with pytest.raises(ValueError, match="h: outline"):
        drawn(maps=[Maps("h", [("", "a", ""), ("", "b", "")], values, outline=np.zeros((3, 3), bool))])
