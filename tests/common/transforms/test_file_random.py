import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.errors import UserError
from common.transforms.file_random import random_of_file


def named(path):
    return MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": path})


def numbers(path, purpose="low dose"):
    return random_of_file(named(path), purpose).random_sample(4)


def test_the_numbers_of_a_name_are_these_on_every_machine():
    assert numbers("covid_1.png") == pytest.approx([0.97962672, 0.39545350, 0.13523780, 0.64194705], abs=1e-8)


def test_the_folder_does_not_matter_the_name_and_the_purpose_do():
    assert np.array_equal(numbers("/data/a/x.png"), numbers("elsewhere/x.png"))
    others = [numbers("x.png"), numbers("y.png"), numbers("X.png"), numbers("x.png", "motion blur")]
    assert len({tuple(other) for other in others}) == 4


@pytest.mark.parametrize("image", [torch.zeros(1, 2, 2), MetaTensor(torch.zeros(1, 2, 2))])
def test_no_file_no_numbers(image):
    with pytest.raises(UserError, match="low dose: the image has no file name to seed it by; load it"):
        random_of_file(image, "low dose")
