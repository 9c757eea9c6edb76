"""Words: distances, repairs that never guess a side, mending, swapping."""

import pytest

from common.prompts.words import distance, mend, mirror_words, repair

WORDS = frozenset(("upper", "middle", "lower", "left", "right", "lung", "all", "and", "area", "areas", "two"))


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("lower", "lower", 0), ("lwoer", "lower", 1), ("uooer", "upper", 2), ("", "all", 3), ("left", "right", 4)],
)
def test_distance(a, b, edits):
    assert distance(a, b) == distance(b, a) == edits


@pytest.mark.parametrize("word", ["light", "eight", "night", "weight", "felt", "cleft", "let"])
def test_an_english_word_near_a_side_is_no_side(word):
    assert repair(word, frozenset(("left", "right"))) is None


@pytest.mark.parametrize(
    ("word", "meant"), [("rught", "right"), ("leff", "left"), ("lift", "left"), ("rigth", "right")]
)
def test_a_misspelt_side(word, meant):
    assert repair(word, WORDS) == (meant, 1)


def test_two_edits_from_a_side_are_too_many():
    assert repair("rghht", WORDS) is None


def test_of_two_equally_near_words_neither_is_taken():
    assert repair("nilateral", frozenset(("unilateral", "bilateral"))) is None


@pytest.mark.parametrize(
    ("words", "mended"),
    [
        ("lowerright lung", "lower right lung"),
        ("leflung", "left lung"),
        ("lupper ower left", "upper lower left"),
        ("mid dle lo wer", "middle lower"),
        ("andupper", "and upper"),
        ("a ll left", "all left"),
    ],
)
def test_mend(words, mended):
    assert mend(words.split(), WORDS) == (mended.split(), [])


def test_mend_reports_what_it_cannot_read():
    assert mend(["lower", "flurb", "lung"], WORDS) == (["lower", "lung"], ["flurb"])


def test_mirror_words_keeps_the_case_and_is_its_own_inverse():
    text = "Left base, RIGHT apex, RLL and L hilum; leftward. L1 is no side."
    assert mirror_words(text) == "Right base, LEFT apex, LLL and R hilum; rightward. L1 is no side."
    assert mirror_words(mirror_words(text)) == text
