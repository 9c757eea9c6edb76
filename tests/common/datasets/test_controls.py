import pytest

from common.datasets import load_dataset
from common.datasets.controls import with_control
from common.errors import UserError
from common.prompts import parse
from common.transforms import PreparePromptd

ITEMS = [{"image": str(n), "text_prompt": f"sentence {n}", "laterality": "image"} for n in range(7)]


def test_none_changes_nothing():
    assert with_control(ITEMS, "none") == ITEMS


def test_default_takes_the_sentence_away():
    assert with_control(ITEMS, "default") == [{"image": i["image"], "laterality": "image"} for i in ITEMS]


def test_mirrored_reads_with_the_other_laterality():
    assert {i["laterality"] for i in with_control(ITEMS, "mirrored")} == {"patient"}
    assert {i["laterality"] for i in ITEMS} == {"image"}


def polyps(*sentences, laterality="image"):
    return [{"image": f"{n}.png", "text_prompt": s, "laterality": laterality} for n, s in enumerate(sentences)]


def test_mirrored_polyps_have_other_words():
    items = polyps(
        "two small white round polyp, located in top left, right of the image",
        "One polyp, located in bottom-Right of the image.",
        "one polyp, located in center of the image",
    )
    out = with_control(items, "mirrored", grammar="polyp")
    assert [item["text_prompt"] for item in out] == [
        "two small white round polyp, located in top right, left of the image",
        "One polyp, located in bottom-Left of the image.",
        "one polyp, located in center of the image",
    ]
    prepared = PreparePromptd("text_prompt", "polyp", "canonical", "default")
    for item, other in zip(items, out, strict=True):
        heard, told = prepared(other), parse(item["text_prompt"], "image", "polyp")
        assert (heard["text_prompt"], heard["prompt_used"]) == (told.mirrored().caption(), "given")


def test_a_polyp_sentence_that_is_not_understood_has_its_words_swapped():
    (item,) = with_control(polyps("a thing on the left"), "mirrored", grammar="polyp")
    assert item["text_prompt"] == "a thing on the right"


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (polyps("one polyp, located in lefft of the image"), "0.png: the sides of 'one polyp, .*' cannot be swapped"),
        (polyps("polyp in left of the image", laterality="patient"), "0.png: laterality 'patient' means nothing for"),
    ],
)
def test_a_polyp_sentence_that_cannot_be_mirrored_is_one_line(items, message):
    with pytest.raises(UserError, match=f"control 'mirrored': {message}") as fault:
        with_control(items, "mirrored", grammar="polyp")
    assert "\n" not in str(fault.value)


@pytest.mark.real
def test_real_polyp_sentences_are_mirrored(kvasir_dir):
    items = load_dataset("auto", kvasir_dir, "trainval")
    for item, other in zip(items, with_control(items, "mirrored", grammar="polyp"), strict=True):
        one, two = (parse(i["text_prompt"], "image", "polyp") for i in (item, other))
        assert (two.zones, two.count) == (one.mirrored().zones, one.count)


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_leaves_no_sentence_with_its_image(seed):
    out = with_control(ITEMS, "shuffled", seed)
    assert sorted(i["text_prompt"] for i in out) == [i["text_prompt"] for i in ITEMS]
    assert all(i["text_prompt"] != f"sentence {i['image']}" for i in out)
    assert out == with_control(ITEMS, "shuffled", seed)
    assert [i["image"] for i in out] == [i["image"] for i in ITEMS]


def test_refusals():
    with pytest.raises(UserError, match="control 'swapped': is not known; use one of none, default"):
        with_control(ITEMS, "swapped")
    with pytest.raises(UserError, match="at least two images"):
        with_control(ITEMS[:1], "shuffled")
