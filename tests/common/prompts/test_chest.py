"""The data sets' pattern: its defects, its contradictions, and every one-letter edit of a canonical sentence."""

import string
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.prompts import Findings, parse

BI, UNI = "Bilateral pulmonary infection", "Unilateral pulmonary infection"
LETTERS = string.ascii_lowercase + " .,;:-'/()" + string.digits
CODES = list(product((0, 1), repeat=6))


def read(sentence):
    return parse(sentence, "image")


@pytest.mark.parametrize(
    ("sentence", "zones"),
    [
        (f"{BI}, two infected areas, all left and lower right lung.", (1, 1, 1, 0, 0, 1)),
        (f"{BI},two infected areas,lower left and all right lung..", (0, 0, 1, 1, 1, 1)),
        (f"{UNI}, one infected areas, higher left lung", (1, 0, 0, 0, 0, 0)),
        (f"{UNI}, oneinfected areas, midddle lowerl rught lung.", (0, 0, 0, 0, 1, 1)),
        (f"{BI}, thrr infected areas, uooer lowe leff lung andmiddle lowerright ung.", (1, 0, 1, 0, 1, 1)),
        (f"{UNI}, one infected area, middle lower leflung.", (0, 1, 1, 0, 0, 0)),
        (f"{UNI}, two infected areas, all lower left lung.", (1, 1, 1, 0, 0, 0)),
        (f"{UNI}, two infected areas, upper lower and right lung.", (0, 0, 0, 1, 0, 1)),
        # a bare lung: none in a unilateral sentence, the other's zones in a bilateral one, whole where none has zones
        (f"{UNI}, two infected areas, left lung and middle right lung.", (0, 0, 0, 0, 1, 0)),
        (f"{UNI}, two infected areas, upper left lung and right lung.", (1, 0, 0, 0, 0, 0)),
        (f"{BI}, two infected areas, left lung and middle right lung.", (0, 1, 0, 0, 1, 0)),
        (f"{BI}, two infected areas, lower left lung and right lung.", (0, 0, 1, 0, 0, 1)),
        (f"{UNI}, one infected area, left lung.", (1, 1, 1, 0, 0, 0)),
        (f"{BI}, two infected areas, left lung and right lung.", (1, 1, 1, 1, 1, 1)),
        # a phrase without a side is of the side not named
        (f"{BI}, two infected areas, all left lung and upper lower lung.", (1, 1, 1, 1, 0, 1)),
        (f"{BI}, two infected areas, all lung and lower right lung.", (1, 1, 1, 0, 0, 1)),
        ("No pulmonary infection, zero infected areas.", (0,) * 6),
        ("bilateral pulmonary infection in the lower lobes.", (0, 0, 1, 0, 0, 1)),
    ],
)
def test_understood(sentence, zones):
    found = read(sentence)
    assert found.unreadable == ()
    assert found.zones == zones


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        (f"{UNI}, one infected area, lower light lung.", "light"),
        (f"{UNI}, one infected area, lower eight lung.", "(which side?)"),
        (f"{UNI}, one infected area, middle right left lung.", "right"),
        (f"{UNI}, one infected area, lower lung.", "lower"),
        (f"{UNI}, one infected area.", "(no place)"),
        (f"{BI}, two infected areas, flurb left lung and lower right lung.", "flurb"),
        ("nilateral pulmonary infection, two infected areas, left lung and lower right lung.", "lateral"),
        ("Now pulmonary infection.", "infection"),
        ("Pulmonary infection.", "(no place)"),
    ],
)
def test_refused_with_the_words(sentence, word):
    found = read(sentence)
    assert not found.understood
    assert not any(found.zones)
    if word != "(which side?)":
        assert word in found.unreadable


@pytest.mark.parametrize(
    ("sentence", "warning"),
    [
        (f"{UNI}, one infected area, lower left lung and lower right lung.", "says unilateral but names both sides"),
        (f"{BI}, two infected areas, lower left lung.", "says bilateral but names the left side only"),
        (f"{BI}, one infected area, lower left lung and all right lung.", "counts 1 area but names 2 sides"),
        (f"{BI}, zero infected areas, lower left lung and all right lung.", "counts no area but names a place"),
        (f"{BI}, two one infected area, lower left lung and all right lung.", "states several counts: 2, 1"),
        (f"{UNI}, one infected area, left lung and lower right lung.", "left lung without zones in a unilateral"),
        (f"{BI}, two infected areas, left lung and lower right lung.", "left lung without zones takes those of the"),
    ],
)
def test_a_contradiction_is_a_warning(sentence, warning):
    assert any(warning in line for line in read(sentence).warnings)


def test_a_sound_sentence_has_no_warning():
    for code in CODES[1:]:
        assert read(Findings("chest", code, 7).caption()).warnings == ()


def test_counts():
    assert read(f"{UNI}, three infected areas, lower left lung.").count == 3
    assert read(f"{UNI}, lower left lung.").count is None
    assert read("No pulmonary infection, zero infected areas.").count == 0


def test_the_patients_side():
    found = parse(f"{UNI}, one infected area, upper left lung.", "patient")
    assert found.zones == (0, 0, 0, 1, 0, 0)
    assert found.caption("patient") == f"{UNI}, one infected area, upper left lung."


def canonical(code, count, swapped):
    """A canonical sentence, or one with Uni- and Bilateral exchanged."""
    sentence = Findings("chest", code, count if any(code) else None).caption()
    if swapped:
        return sentence.replace(UNI, BI) if UNI in sentence else sentence.replace(BI, UNI)
    return sentence


def edits(sentence):
    """Every insertion, deletion, substitution and swap of neighbours."""
    for i in range(len(sentence) + 1):
        yield from (sentence[:i] + letter + sentence[i:] for letter in LETTERS)
        if i < len(sentence):
            yield sentence[:i] + sentence[i + 1 :]
            yield from (sentence[:i] + letter + sentence[i + 1 :] for letter in LETTERS)
        if i + 1 < len(sentence):
            yield sentence[:i] + sentence[i + 1] + sentence[i] + sentence[i + 2 :]


def same_or_refused(sentence, code):
    found = read(sentence)
    return not found.understood or found.zones == code


@given(
    code=st.sampled_from(CODES),
    count=st.sampled_from([None, 1, 2, 6, 8, 10]),
    swapped=st.booleans(),
    where=st.floats(0, 0.999),
)
def test_no_edit_at_a_place_moves_a_zone(code, count, swapped, where):
    sentence = canonical(code, count, swapped)
    at = int(where * len(sentence))
    for edit in edits(sentence[at : at + 2]):
        edited = sentence[:at] + edit + sentence[at + 2 :]
        assert same_or_refused(edited, code), edited


@pytest.mark.parametrize(
    ("code", "count"), [((0,) * 6, None), ((0, 0, 1, 0, 0, 0), 6), ((1, 0, 0, 0, 1, 1), None), ((0, 1, 0, 1, 0, 1), 8)]
)
def test_no_edit_moves_a_zone(code, count):
    sentence = canonical(code, count, False)
    assert read(sentence).zones == code
    assert [edit for edit in edits(sentence) if not same_or_refused(edit, code)] == []


@pytest.mark.full
@pytest.mark.parametrize("count", [None, *range(1, 11)])
@pytest.mark.parametrize("swapped", [False, True])
def test_no_edit_of_any_sentence_moves_a_zone(count, swapped):
    for code in CODES:
        wrong = [edit for edit in edits(canonical(code, count, swapped)) if not same_or_refused(edit, code)]
        assert wrong == []
