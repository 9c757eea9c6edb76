import itertools

import numpy as np
import pytest
from PIL import Image, ImageOps

from common.errors import UserError
from common.images import to_display, to_stored
from common.images.orientation import (
    AS_STORED,
    EXIF,
    affine_of_letters,
    display_map,
    display_of,
    index_map,
    letters_of_vector,
    usable,
)

MAPS = list(itertools.product((0, 1), repeat=3))
GRID = np.arange(12).reshape(4, 3)  # (W, H)


@pytest.mark.parametrize("display", MAPS)
def test_to_stored_undoes_to_display(display):
    shown = to_display(GRID, display)
    assert shown.shape == ((4, 3) if display[0] else (3, 4))
    assert np.array_equal(to_stored(shown, display), GRID)


def test_the_eight_ways_differ():
    square = np.arange(9).reshape(3, 3)
    assert len({to_display(square, display).tobytes() for display in MAPS}) == 8


# Written down from PS3.3 C.7.6.1.1.1 by hand: the picture, as displayed, is [[a, b], [c, d]] with the patient's right
# and head (or front) at a; the letters say how the file stores it.
@pytest.mark.parametrize(
    ("letters", "stored"),
    [
        ("LF", [["a", "b"], ["c", "d"]]),
        ("RF", [["b", "a"], ["d", "c"]]),
        ("LH", [["c", "d"], ["a", "b"]]),
        ("RH", [["d", "c"], ["b", "a"]]),
        ("FL", [["a", "c"], ["b", "d"]]),
        ("FR", [["b", "d"], ["a", "c"]]),
        ("HL", [["c", "a"], ["d", "b"]]),
        ("HR", [["d", "b"], ["c", "a"]]),
        ("LP", [["a", "b"], ["c", "d"]]),
        ("RA", [["d", "c"], ["b", "a"]]),
        ("PL", [["a", "c"], ["b", "d"]]),
        # Lateral: the front stays on its side, the head goes up.
        ("AF", [["a", "b"], ["c", "d"]]),
        ("PF", [["a", "b"], ["c", "d"]]),
        ("PH", [["c", "d"], ["a", "b"]]),
        ("FA", [["a", "c"], ["b", "d"]]),
    ],
)
def test_display_map_makes_the_radiologists_view(letters, stored):
    shown = to_display(np.array(stored).T, display_map(*letters))
    assert shown.tolist() == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize("letters", [("", ""), ("L", "R"), ("L", ""), ("D", "V"), ("A", "P"), ("L", "L")])
def test_letters_that_span_no_plane_leave_the_picture_as_stored(letters):
    assert not usable(*letters)
    assert display_map(*letters) == AS_STORED


@pytest.mark.parametrize("orientation", EXIF)
def test_exif_maps_are_pillows(orientation):
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(to_display(stored.T, EXIF[orientation]), expected)


@pytest.mark.parametrize("display", MAPS)
def test_index_map_finds_the_stored_pixel(display):
    shown = to_display(GRID, display)
    for row, column in np.ndindex(shown.shape):
        x, y, _, _ = (index_map(display, shown.shape) @ [row, column, 0, 1]).astype(int)
        assert GRID[x, y] == shown[row, column]


@pytest.mark.parametrize("letters", ["LF", "RF", "HL", "AF", "LP", "FP"])
def test_affine_of_letters_runs_where_they_say(letters):
    affine = affine_of_letters(*letters, (0.2, 0.5))
    assert [letters_of_vector(affine[:3, i]) for i in (0, 1)] == list(letters)
    assert np.linalg.norm(affine[:3, 0]) == 0.5  # between columns
    assert np.linalg.norm(affine[:3, 1]) == 0.2  # between rows
    assert np.linalg.det(affine) > 0


def test_a_picture_without_letters_gets_itks_affine():
    affine = affine_of_letters("", "", (float("nan"), float("nan")))
    assert np.array_equal(affine, np.diag([-1.0, -1.0, 1.0, 1.0]))


def test_an_image_of_another_reader_is_refused():
    with pytest.raises(UserError, match=r"a\.png: its meta does not say how to display it; .*ChestReader"):
        display_of({"filename_or_obj": "a.png"})
