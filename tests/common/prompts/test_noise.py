"""Departures of typists, and which of them are held out."""

import re
from random import Random

import pytest

from common.prompts import parse
from common.prompts.noise import KEYS, disturb, is_held_out, misspell, reorder

SENTENCE = "Bilateral pulmonary infection, two infected areas, upper middle left lung and lower right lung."


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("word", ["left", "right", "upper", "middle", "lower", "lung", "bilateral", "infection"])
def test_misspelt_words_are_nearest_to_their_own_and_held_out_or_not(word, held_out):
    forms = {misspell(word, Random(seed), held_out) for seed in range(200)} - {word}
    assert len(forms) > 10
    assert all(is_held_out(form) == held_out for form in forms)
    assert not forms & KEYS


def test_forms_for_training_and_for_tests_never_meet():
    forms = {
        held_out: {
            w for s in range(400) for w in re.findall("[a-z]+", disturb(SENTENCE.lower(), Random(s), 1, held_out))
        }
        for held_out in (False, True)
    }
    known = set(re.findall("[a-z]+", SENTENCE.lower()))
    common = forms[True] & forms[False] - known
    # parts of a torn word are words on their own
    assert all(any(word.startswith(part) or word.endswith(part) for word in known) for part in common)
    assert len(forms[True] - known) > 50


@pytest.mark.parametrize("held_out", [False, True])
def test_a_disturbed_sentence_is_no_other_sentence(held_out):
    """The parser reads the same zones, or refuses."""
    zones = parse(SENTENCE, "image").zones
    readings = [parse(disturb(SENTENCE, Random(seed), 1, held_out), "image") for seed in range(300)]
    understood = [reading for reading in readings if reading.understood]
    assert len(understood) > 200
    assert {reading.zones for reading in understood} == {zones}


def test_orders():
    made = {held_out: {reorder(SENTENCE, Random(seed), held_out) for seed in range(300)} for held_out in (False, True)}
    assert not made[True] & made[False]
    assert "Lower right" not in made[True]
    assert (
        "two infected areas, lung lower right and lung upper middle left, Bilateral pulmonary infection." in made[True]
    )
    assert (
        "two infected areas, Bilateral pulmonary infection, left upper middle lung and right lower lung." in made[False]
    )
    words = sorted(re.findall(r"\w+", SENTENCE))
    assert all(sorted(re.findall(r"\w+", sentence)) == words for kind in made.values() for sentence in kind)


def test_what_has_another_shape_keeps_its_words_together():
    assert reorder("Opacity in the left base.", Random(0)) == "Opacity in the left base."
