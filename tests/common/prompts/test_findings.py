"""Findings: canonical sentences that parse back, mirrors, refusals."""

from itertools import product

import pytest

from common.errors import UserError
from common.prompts import Findings, parse

CHEST = list(product((0, 1), repeat=6))
POLYP = list(product((0, 1), repeat=9))


def test_caption_words():
    assert Findings("chest", (0, 0, 1, 0, 1, 1), 2).caption() == (
        "Bilateral pulmonary infection, two infected areas, lower left lung and middle lower right lung."
    )
    assert Findings("chest", (0, 0, 0, 1, 0, 0), 1).caption() == (
        "Unilateral pulmonary infection, one infected area, upper right lung."
    )
    assert Findings("chest", (1, 1, 1, 0, 0, 0)).caption() == (
        "Unilateral pulmonary infection, upper middle lower left lung."
    )
    assert Findings("chest", (0,) * 6).caption() == "No pulmonary infection."
    assert Findings("polyp", (1, 0, 0, 0, 0, 0, 0, 1, 0), 2).caption() == (
        "Two polyps, located in top-left and bottom of the image."
    )


@pytest.mark.parametrize("zones", CHEST)
def test_a_chest_caption_parses_back_in_either_laterality(zones):
    for count in (None, *range(1, 25)) if any(zones) else (None, 0):
        found = Findings("chest", zones, count)
        for laterality in ("image", "patient"):
            back = parse(found.caption(laterality), laterality)
            assert (back.zones, back.count, back.unreadable) == (zones, count, ())


def test_a_polyp_caption_parses_back():
    for zones in POLYP:
        for count in (None, 3) if any(zones) else (None, 0):
            back = parse(Findings("polyp", zones, count).caption(), "image", "polyp")
            assert (back.zones, back.count, back.unreadable) == (zones, count, ())


def test_mirrored_moves_every_bit_to_the_other_side():
    assert Findings("chest", (1, 0, 0, 0, 1, 1), 2).mirrored().zones == (0, 1, 1, 1, 0, 0)
    assert Findings("polyp", (1, 1, 0, 0, 0, 1, 1, 0, 0)).mirrored().zones == (0, 1, 1, 1, 0, 0, 0, 0, 1)
    for zones in CHEST:
        assert Findings("chest", zones).mirrored().mirrored().zones == zones


def test_the_patients_caption_names_the_other_side():
    assert "lower right lung" in Findings("chest", (0, 0, 1, 0, 0, 0)).caption("patient")


def test_sides():
    assert Findings("chest", (0, 0, 1, 0, 0, 0)).sides == {"left"}
    assert Findings("chest", (0, 1, 0, 0, 0, 1)).sides == {"left", "right"}
    assert Findings("polyp", (0, 1, 1, 0, 1, 0, 0, 0, 0)).sides == {"right"}
    assert Findings("chest", (0,) * 6).sides == set()


def test_a_refused_sentence_has_no_caption_and_no_mirror():
    refused = Findings("chest", (0,) * 6, unreadable=("flurb", "light"))
    assert not refused.understood
    for use in (refused.check, refused.caption, refused.mirrored):
        with pytest.raises(UserError, match="sentence not understood: 'flurb', 'light'; write it like 'Unilateral"):
            use()
