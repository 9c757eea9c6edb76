"""Picture grids: what stands where, in which colours."""

import numpy as np
import pytest

from common.report.grid import EXCESS, LEGEND, Row, errors, grid
from common.report.overlay import PREDICTION, TRUTH

SHAPE = (96, 96)


def box(top, bottom, left, right, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def near(picture, colour, by=2):
    return (np.abs(np.asarray(picture).astype(int) - colour) <= by).all(axis=-1)


def fill(colour, grey=0.3):
    """A colour as it lies on a grey picture."""
    return np.round(0.6 * grey * 255 + 0.4 * np.array(colour))


TRUE = box(20, 80, 10, 50)
FOUND = box(40, 90, 30, 60)  # overlaps in rows 40 to 80, columns 30 to 50


def row(masks=(FOUND,), truth=TRUE, shape=SHAPE, **more):
    defaults = {"scores": ["Dice 1.0 %"] * len(masks), "marker": ""}
    return Row(np.full(shape, 0.3), truth, masks, **defaults | more)


def test_colours_stand_where_mask_and_truth_agree_or_differ():
    picture = np.asarray(errors(np.full(SHAPE, 0.3), TRUE, FOUND, (96, 96)))
    both, missed, excess = (near(picture, fill(colour)) for colour in (PREDICTION, TRUTH, EXCESS))
    assert both[45:75, 35:45].all() and missed[25:35, 15:45].all() and excess[84:87, 35:55].all()
    assert not both[~(TRUE & FOUND)].any() and not missed[~TRUE | FOUND].any() and not excess[~FOUND | TRUE].any()
    # the lines are full colours, at the regions' own borders
    for region, (_, colour) in zip((TRUE & FOUND, TRUE & ~FOUND, FOUND & ~TRUE), LEGEND, strict=True):
        line = near(picture, colour)
        assert line.sum() > 60 and region[line].all()


def test_the_three_colours_differ_in_lightness_too():
    lightness = sorted(np.dot(colour, (0.299, 0.587, 0.114)) for _, colour in LEGEND)
    assert np.diff(lightness).min() > 25


def test_nothing_marked_nothing_drawn():
    empty = np.zeros(SHAPE, bool)
    picture = np.asarray(errors(np.full(SHAPE, 0.3), empty, empty, (96, 96)))
    assert near(picture, np.full(3, round(0.3 * 255))).all()


@pytest.mark.parametrize(("runs", "wide"), [(1, range(1160, 1240)), (2, range(1580, 1601)), (8, range(2100, 2160))])
def test_columns_are_image_truth_and_a_run_each(runs, wide):
    shift = [np.roll(FOUND, 5 * number, axis=1) for number in range(runs)]
    picture = grid("title", [f"run {number}" for number in range(runs)], [row(shift)])
    assert picture.dtype == np.uint8 and picture.shape[1] in wide
    body = picture[160:]
    excess = np.nonzero(near(body, fill(EXCESS)).any(axis=0))[0]
    yellow = np.nonzero(near(body, fill(TRUTH)).any(axis=0))[0]
    cell = (picture.shape[1] - 56 + 10) / (2 + runs)
    assert 28 + cell < yellow.min() < 28 + 1.5 * cell  # nothing on the image itself, the truth beside it
    assert excess.min() > 28 + 2 * cell
    assert {int((column - 28) // cell) for column in excess} == set(range(2, 2 + runs))
    # left stays left: the truth begins at a tenth of its cell
    assert (yellow.min() - 28 - cell) / (cell - 10) == pytest.approx(0.1, abs=0.03)


def test_rows_stand_below_each_other_with_captions_between():
    one = grid("t", ["a"], [row()])
    two = grid("t", ["a"], [row(), row()])
    told = grid("t", ["a"], [row(caption=("file.png", "Opacity of the left lung.")), row()])
    long = grid("t", ["a"], [row(caption=("file.png", "opacity " * 60)), row()])
    assert one.shape[0] < two.shape[0] < told.shape[0] < long.shape[0]
    assert two.shape[0] - one.shape[0] == 390  # a picture of 380 and the gap
    assert grid("t", ["a"], [row()], ["note"]).shape[0] > one.shape[0]


def test_labels_scores_and_marker_are_drawn_on_the_pictures():
    def white(picture):
        return near(picture[160:550], (255, 255, 255), by=0)

    empty = np.zeros(SHAPE, bool)
    blank = {"masks": (empty,), "truth": empty, "scores": [""]}
    assert not white(grid("t", ["a"], [row(**blank)])).any()
    for more, columns in (
        ({"label": "low dose"}, {0}),
        ({"scores": ["Dice 50.0 %"]}, {2}),
        ({"marker": "R"}, {0, 1, 2}),
    ):
        found = np.nonzero(white(grid("t", ["a"], [row(**blank | more)])))
        assert {int((column - 28) // 390) for column in found[1]} == columns
        assert bool(found[0].mean() < 60) is ("marker" in more)


def test_pictures_keep_the_aspect_of_the_file_not_of_the_network():
    wide = (60, 120)
    truth = box(20, 40, 50, 70, wide)  # a square
    picture = grid("t", ["a"], [Row(np.full((32, 32), 0.3), truth, [truth], ["x"], marker="")])
    rows, columns = np.nonzero(near(picture[160:], fill(PREDICTION)))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.1)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "at least one row"),
        ([row((FOUND, FOUND))], "row 0: 2 masks, 2 scores, 1 runs"),
        ([row(), row((FOUND[1:],))], r"row 1: mask of a \(95, 96\) and truth \(96, 96\) differ"),
    ],
)
def test_what_does_not_fit_is_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        grid("t", ["a"], rows)
