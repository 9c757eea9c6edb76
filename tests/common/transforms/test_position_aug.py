from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from common.prompts import Findings, parse
from common.prompts.tokenizer import LENGTH, Tokenizer
from common.transforms import RandPositionAugd
from common.transforms.position_aug import FUZZY, PHRASE, UNKNOWN

BOTH = "Bilateral pulmonary infection, two infected areas, upper lower left lung and middle right lung."
bits = st.tuples(*[st.integers(0, 1)] * 6).filter(any)


def augmented(sentence, seed, **options) -> str:
    edit = RandPositionAugd("text_prompt", **options)
    edit.set_random_state(seed)
    return edit({"text_prompt": sentence, "image": 1})["text_prompt"]


@given(bits, st.integers(0, 999))
def test_only_phrases_change(zones, seed):
    """Outside the phrases nothing does, and a phrase is itself, the mark or the vague one."""
    sentence = Findings("chest", zones, 2).caption()
    pieces, phrases = PHRASE.split(sentence), PHRASE.findall(sentence)
    assert len(phrases) == len(parse(sentence, "image").sides)
    found = augmented(sentence, seed)
    expected = [pieces[0]]
    for phrase, piece in zip(phrases, pieces[1:], strict=True):
        expected = [text + new + piece for text in expected for new in (phrase, UNKNOWN, FUZZY)]
    assert found in expected
    assert len(Tokenizer.of("compact").ids(found)) <= LENGTH


def test_shares_are_the_released_ones():
    """A quarter marked, a quarter vague, half untouched; each phrase by itself."""
    edit = RandPositionAugd("text_prompt")
    edit.set_random_state(0)
    found = Counter()
    for _ in range(2000):
        sentence = edit({"text_prompt": BOTH})["text_prompt"]
        first, second = sentence.removeprefix("Bilateral pulmonary infection, two infected areas, ").split(" and ")
        found[first], found[second] = found[first] + 1, found[second] + 1
    for text, share in (("upper lower left lung", 0.25), (UNKNOWN, 0.125), (FUZZY, 0.125), ("middle right lung.", 0.25),
                        (UNKNOWN + ".", 0.125), (FUZZY + ".", 0.125)):  # fmt: skip
        assert abs(found[text] / 4000 - share) < 0.03, text


def test_the_other_reading_and_off():
    assert augmented(BOTH, 0, prob=1.0, dropout=1.0) == BOTH.replace("upper lower left lung", UNKNOWN).replace(
        "middle right lung", UNKNOWN
    )
    assert augmented(BOTH, 0, prob=1.0, dropout=0.0).count(FUZZY) == 2
    assert augmented(BOTH, 0, prob=0.0) == BOTH


def test_original_words_are_made_canonical_first():
    """Also where a phrase has no "lung" of its own."""
    for sentence in ("Bilateral pulmonary infection, all left and lower right lung.",
                     "bilateral pulmonary infection, uppper midlle lower left lung and lower right lung"):  # fmt: skip
        found = augmented(sentence, 0, prob=1.0, dropout=1.0)
        assert found == f"Bilateral pulmonary infection, {UNKNOWN} and {UNKNOWN}."
    assert augmented("Nothing of the kind, lower left lung!", 0, prob=1.0, dropout=1.0) == (
        f"Nothing of the kind, {UNKNOWN}!"
    ), "not understood"


def test_all_of_a_lung_is_a_phrase():
    assert augmented("Unilateral pulmonary infection, all left lung.", 0, prob=1.0, dropout=1.0) == (
        f"Unilateral pulmonary infection, {UNKNOWN}."
    )
