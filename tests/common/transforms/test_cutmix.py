import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.transforms import CutMix, Views


def views() -> Views:
    image = torch.arange(1.0, 5)[:, None, None, None].expand(-1, 2, 12, 16).clone()
    return Views(image, image[:, :1] / 10, list("abcd"), [True] * 4, torch.zeros(4, dtype=torch.bool))


@given(st.integers(0, 999))
def test_a_rectangle_of_one_other_picture(seed):
    before, mix = views(), CutMix(prob=1.0)
    mix.set_random_state(seed)
    after = mix(before)
    assert after.sentences == before.sentences
    for i in range(4):
        taken = after.image[i, 0] != i + 1
        assert bool(taken.any()) == bool(after.changed[i])
        torch.testing.assert_close(after.probability[i, 0] * 10, after.image[i, 0])
        if taken.any():
            (rows, columns) = np.nonzero(taken.numpy())
            assert taken.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert len(set(after.image[i, 0][taken].tolist())) == 1


def test_off_and_faults():
    before = views()
    assert torch.equal(CutMix(prob=0.0)(before).image, before.image)
    with pytest.raises(UserError, match="CutMix: prob is 2, expected 0 to 1"):
        CutMix(prob=2)
