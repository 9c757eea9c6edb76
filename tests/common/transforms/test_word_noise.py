from hypothesis import given
from hypothesis import strategies as st

from common.transforms import RandWordNoised

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


def disturbed(sentence, seed, **options) -> str:
    noise = RandWordNoised("text_prompt", **options)
    noise.set_random_state(seed)
    return noise({"text_prompt": sentence})["text_prompt"]


@given(st.integers(0, 999))
def test_no_word_is_new(seed):
    words = disturbed(SENTENCE, seed).split()
    assert words
    assert all(words.count(word) <= SENTENCE.split().count(word) for word in words)
    assert sorted(disturbed(SENTENCE, seed, deletion=0).split()) == sorted(SENTENCE.split())
    kept = disturbed(SENTENCE, seed, swap=0).split()
    assert kept == [word for word in SENTENCE.split() if word in kept]


def test_ends():
    assert disturbed(SENTENCE, 0, deletion=0, swap=0) == SENTENCE
    assert disturbed(SENTENCE, 0, deletion=1) == "Unilateral"
    assert disturbed("a b c", 0, deletion=0, swap=1) == "b c a"
