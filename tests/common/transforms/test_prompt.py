import logging

import pytest
import torch
from monai.data import MetaTensor

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT
from common.transforms import PreparePromptd

LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, lower right lung."


def prepare(captions="canonical", unreadable="refuse", **item):
    return PreparePromptd("text_prompt", "chest", captions, unreadable)(item)


@pytest.mark.parametrize("captions", ["canonical", "original"])
@pytest.mark.parametrize(("laterality", "expected"), [("image", LEFT), ("patient", RIGHT)])
def test_sides_become_the_pictures(captions, laterality, expected):
    out = prepare(captions, text_prompt=LEFT, laterality=laterality)
    assert out == {"text_prompt": expected, "laterality": "image", "prompt_used": "given"}


def test_canonical_mends_and_original_keeps_the_words():
    words = "Unilateral pulmonary infection, one infected areas, lowerl left lung.."
    assert prepare("canonical", text_prompt=words, laterality="image")["text_prompt"] == LEFT
    assert prepare("original", text_prompt=words, laterality="image")["text_prompt"] == words


@pytest.mark.parametrize("sentence", [None, "", "  "])
def test_no_sentence_is_the_default_one(sentence):
    out = prepare(text_prompt=sentence)
    assert out["text_prompt"] == DEFAULT_PROMPT["chest"]
    assert out["prompt_used"] == "default"
    assert PreparePromptd("text_prompt", "chest", "canonical")({})["prompt_used"] == "default"


@pytest.mark.parametrize("laterality", [None, "", "left", "choose"])
def test_a_sentence_without_laterality_is_refused(laterality):
    with pytest.raises(UserError, match="say whose left the sentence means"):
        prepare(text_prompt=LEFT, laterality=laterality)


def test_an_unreadable_sentence(caplog):
    words = "Xylophone zebra lung left right left."
    with pytest.raises(UserError, match=r"^in/a\.png: sentence not understood: .*'xylophone'"):
        prepare(text_prompt=words, laterality="image", source="in/a.png")
    with caplog.at_level(logging.WARNING):
        out = prepare(unreadable="default", text_prompt=words, laterality="image", source="qata")
    assert (out["text_prompt"], out["prompt_used"]) == (DEFAULT_PROMPT["chest"], "default")
    assert [record.message.startswith("qata: sentence not understood: ") for record in caplog.records] == [True]
    assert caplog.text.endswith(": the default sentence is used instead\n")


def test_an_unreadable_sentence_in_original_words(caplog):
    """In training the network gets what is written; from a user such a sentence is refused."""
    words = "Flurb of the left lung."
    out = prepare("original", "default", text_prompt=words, laterality="image")
    assert (out["text_prompt"], out["prompt_used"]) == (words, "given")
    with pytest.raises(UserError, match="sentence not understood: 'flurb'"):
        prepare("original", "refuse", text_prompt=words, laterality="image")
    with pytest.raises(UserError, match="sentence not understood: 'flurb'"):
        prepare("original", "refuse", text_prompt=words, laterality="patient")
    assert prepare("original", "default", text_prompt=words, laterality="patient")["prompt_used"] == "default"
    assert "flurb" in caplog.text


def test_a_fault_names_the_file_of_the_image():
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "/data/1.png"})
    with pytest.raises(UserError, match=r"^/data/1\.png: the sides of 'Opacity in the lingula.' cannot be swapped"):
        prepare("original", image=image, source="qata", text_prompt="Opacity in the lingula.", laterality="patient")
    with pytest.raises(UserError, match=r"^qata: laterality is None"):
        prepare(source="qata", text_prompt=LEFT)
