import pytest

from common.prompts import DEFAULT_PROMPT, parse
from common.prompts.captions import canonical_captions
from common.prompts.tokenizer import Tokenizer


@pytest.mark.parametrize(("grammar", "number"), [("chest", 443), ("polyp", 906)])
def test_captions_are_canonical_and_fit(grammar, number):
    captions = canonical_captions(grammar)
    assert len(set(captions)) == len(captions) == number
    assert DEFAULT_PROMPT[grammar] in captions
    tokenizer = Tokenizer.of("compact")
    for caption in captions:
        assert parse(caption, "image", grammar).check().caption() == caption
        tokenizer.encode(caption)


def test_every_set_of_chest_zones_is_there():
    zones = {parse(caption, "image", "chest").zones for caption in canonical_captions("chest")}
    assert len(zones) == 64
