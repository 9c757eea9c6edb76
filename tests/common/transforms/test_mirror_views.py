import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.prompts import Findings, parse
from common.transforms import MirrorViews, Views

bits = st.tuples(*[st.integers(0, 1)] * 6).filter(any)


@given(st.lists(bits, min_size=1, max_size=5), st.integers(0, 999))
def test_picture_target_and_sentence_go_together(zones, seed):
    rng = torch.Generator().manual_seed(seed)
    image, probability = (torch.rand(len(zones), 1, 4, 6, generator=rng) for _ in range(2))
    sentences = [Findings("chest", z).caption() for z in zones]
    before = Views(image, probability, sentences, [True] * len(zones), torch.zeros(len(zones)))
    mirror = MirrorViews()
    mirror.set_random_state(seed)
    after = mirror(before)
    for i, named in enumerate(zones):
        turn = (-1,) if after.changed[i] else ()
        assert torch.equal(after.image[i], image[i].flip(turn))
        assert torch.equal(after.probability[i], probability[i].flip(turn))
        expected = named[3:] + named[:3] if after.changed[i] else named
        assert parse(after.sentences[i], "image").zones == expected


def test_ends_and_faults():
    before = Views(torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2), ["left"] * 3, [True] * 3, torch.zeros(3))
    assert MirrorViews(1.0)(before).sentences == ["right"] * 3
    assert not MirrorViews(0.0)(before).changed.any()
    with pytest.raises(UserError, match="MirrorViews: prob is -1, expected 0 to 1"):
        MirrorViews(-1)
