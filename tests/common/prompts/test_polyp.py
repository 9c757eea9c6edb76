"""Polyp sentences."""

import string
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.prompts import Findings, parse
from common.prompts.zones import POLYP

LETTERS = string.ascii_lowercase + " .,;:-'/" + string.digits
CODES = list(product((0, 1), repeat=9))


def read(sentence):
    return parse(sentence, "image", "polyp")


def bits(*names):
    return tuple(int(name in names) for name in POLYP)


@pytest.mark.parametrize(
    ("sentence", "zones", "count"),
    [
        ("one small brown middle of ear polyp, located in bottom of the image", bits("bottom"), 1),
        ("two large white round polyp, located in top left, right of the image", bits("top left", "right"), 2),
        ("two small pink polyp, located in center, center of the image", bits("center"), 2),
        ("a polyp in the upper left corner", bits("top left"), None),
        ("polyp at the centre", bits("center"), None),
        ("two polyps in lower right and left", bits("bottom right", "left"), 2),
        ("one polyp, loacted in botom rigth of the image", bits("bottom right"), 1),
        ("no polyp", bits(), None),
        ("zero polyps", bits(), 0),
    ],
)
def test_understood(sentence, zones, count):
    found = read(sentence)
    assert found.unreadable == ()
    assert (found.zones, found.count) == (zones, count)


@pytest.mark.parametrize(
    "sentence",
    [
        "polyp",
        "round lesion in the top left",
        "no polyp in the left",
        "none polyp, located in left of the image",
        "polyp, located in left right of the image",
        "polyp, located in top,left of the image",
        "polyp, located in flurb of the image",
        "polyp, located in light of the image",
    ],
)
def test_refused(sentence):
    found = read(sentence)
    assert found.unreadable
    assert not any(found.zones)


def test_fewer_polyps_than_positions_is_a_warning():
    assert read("one polyp, located in left and right of the image").warnings == ("counts 1 but names 2 positions",)


def test_mirrored():
    assert read("polyp, located in top left of the image").mirrored().zones == bits("top right")


def edits(sentence, at):
    """Every insertion, deletion, substitution and swap of neighbours at one place."""
    before, letter, after = sentence[:at], sentence[at : at + 1], sentence[at + 1 :]
    yield before + after
    yield before + after[:1] + letter + after[1:]
    for other in LETTERS:
        yield before + other + letter + after
        yield before + other + after


def moved(sentence, code, at):
    """The edits at one place that give other positions without being refused."""
    found = [(edited, read(edited)) for edited in edits(sentence, at)]
    return [edited for edited, result in found if result.understood and result.zones != code]


@given(code=st.sampled_from(CODES), count=st.sampled_from([None, 1, 2, 8]), data=st.data())
def test_no_edit_moves_a_position(code, count, data):
    sentence = Findings("polyp", code, count if any(code) else None).caption()
    assert moved(sentence, code, data.draw(st.integers(0, len(sentence)))) == []


@pytest.mark.full
@pytest.mark.parametrize("count", [None, 1, 2, 8])
def test_no_edit_of_any_sentence_moves_a_position(count):
    for code in CODES:
        sentence = Findings("polyp", code, count if any(code) else None).caption()
        assert [edit for at in range(len(sentence) + 1) for edit in moved(sentence, code, at)] == []
