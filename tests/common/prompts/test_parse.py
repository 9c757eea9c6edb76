"""The door of the room: parse, prepare, the default prompt, light imports."""

import subprocess
import sys

import pytest

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT, mirror_words, parse, prepare

SENTENCE = "Unilateral pulmonary infection, one infected area, lowerl left lung."


def test_the_patients_left_is_the_right_of_the_picture():
    assert parse(SENTENCE, "image").zones == (0, 0, 1, 0, 0, 0)
    assert parse(SENTENCE, "patient").zones == (0, 0, 0, 0, 0, 1)


def test_laterality_has_no_default():
    with pytest.raises(TypeError):
        parse(SENTENCE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((SENTENCE, "viewer"), "laterality 'viewer' is unknown; use 'image'"),
        ((SENTENCE, "image", "brain"), "grammar 'brain' is unknown; use one of chest, polyp"),
        (("polyp in the left", "patient", "polyp"), "laterality 'patient' means nothing for polyps"),
        ((None, "image"), "sentence None is no text"),
    ],
)
def test_wrong_settings_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        parse(*arguments)


@pytest.mark.parametrize("sentence", ["", "  ", "...", "12"])
def test_no_words_is_a_refusal(sentence):
    for grammar in ("chest", "polyp"):
        assert not parse(sentence, "image", grammar).understood


def test_prepare_canonical():
    assert prepare(SENTENCE, "image", "chest", "canonical") == (
        "Unilateral pulmonary infection, one infected area, lower left lung."
    )
    assert prepare("RLL opacity.", "patient", "chest", "canonical") == (
        "Unilateral pulmonary infection, lower left lung."
    )
    with pytest.raises(UserError, match="'flurb'"):
        prepare("flurb of the left lung", "image", "chest", "canonical")


def test_prepare_original_keeps_the_words_and_swaps_the_patients_sides():
    assert prepare(SENTENCE, "image", "chest", "original") == SENTENCE
    assert prepare(SENTENCE, "patient", "chest", "original") == mirror_words(SENTENCE)
    assert prepare("flurb of the left lung", "image", "chest", "original") == "flurb of the left lung"
    with pytest.raises(UserError, match="sentence not understood: 'flurb'"):
        prepare("flurb of the left lung", "patient", "chest", "original")
    with pytest.raises(UserError, match="captions 'raw' is unknown"):
        prepare(SENTENCE, "image", "chest", "raw")
    with pytest.raises(UserError, match="laterality None is unknown"):
        prepare(SENTENCE, None, "chest", "original")


@pytest.mark.parametrize(
    "sentence",
    [
        "Unilateral pulmonary infection, one infected area, lower lefft lung.",
        "Unilateral pulmonary infection, one infected area, lower leff lung.",
        "Unilateral pulmonary infection, one infected area, lower rught lung.",
        "Opacity in the lingula.",
        "Opacity in the lower lobe of the patient's left lung.",
    ],
)
def test_words_whose_sides_cannot_be_swapped_are_refused(sentence):
    assert parse(sentence, "patient").understood
    with pytest.raises(UserError, match="cannot be swapped word by word; write 'left' and 'right' out, or") as fault:
        prepare(sentence, "patient", "chest", "original")
    assert "\n" not in str(fault.value)
    assert parse(prepare(sentence, "patient", "chest", "canonical"), "image").zones == parse(sentence, "patient").zones


def test_the_default_prompt_names_every_zone():
    for grammar, sentence in DEFAULT_PROMPT.items():
        assert all(parse(sentence, "image", grammar).zones)
        assert prepare(sentence, "image", grammar, "canonical") == sentence


def test_importing_the_room_is_light():
    code = "import sys, common.prompts; print(sorted({'torch', 'monai', 'transformers', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
