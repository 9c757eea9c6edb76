import numpy as np
import torch

from common.transforms import RandMotionBlurd
from common.transforms.motion_blur import motion_kernel


def point():
    image = torch.zeros(1, 15, 15)
    image[0, 7, 7] = 1
    return {"image": image, "other": image.clone(), "label": image.clone()}


def test_lengths_and_angles_are_drawn():
    blur = RandMotionBlurd("image", prob=1.0).set_random_state(0)
    widths = [int(np.ptp(np.nonzero(blur(point())["image"][0].numpy()), axis=1).max()) + 1 for _ in range(200)]
    assert set(widths) == {3, 5, 7}
    assert min(widths.count(size) for size in (3, 5, 7)) > 40


def test_angle_and_direction_stay_in_their_ranges():
    blur = RandMotionBlurd("image", prob=1.0, sizes=[7], angle=5, direction=0.5).set_random_state(0)
    ends = []
    for _ in range(100):
        streak = blur(point())["image"][0].numpy()
        assert (np.nonzero(streak)[0] == 7).all()  # 5 degrees are less than half a pixel at 3 pixels
        ends.append(streak[7, 4] / streak[7].sum())
    # a streak is the kernel mirrored; heaviest and lightest ends of direction 0.5
    lightest, heaviest = sorted(motion_kernel(7, 0, 0.5)[3, [0, 6]])
    assert lightest <= min(ends) < lightest + 0.02 and heaviest - 0.02 < max(ends) <= heaviest


def test_probability_seed_and_keys():
    blur = RandMotionBlurd(["image", "other"], prob=0.25).set_random_state(0)
    found = [blur(point()) for _ in range(400)]
    changed = sum(not torch.equal(one["image"], one["label"]) for one in found)
    assert 70 < changed < 130
    assert all(torch.equal(one["image"], one["other"]) for one in found)
    again = RandMotionBlurd(["image", "other"], prob=0.25).set_random_state(0)
    assert all(torch.equal(again(point())["image"], one["image"]) for one in found)
