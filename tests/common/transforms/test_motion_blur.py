import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from common.errors import UserError
from common.transforms import MotionBlurd
from common.transforms.motion_blur import motion_blur, motion_kernel

SIZES = st.integers(1, 7).map(lambda half: 2 * half + 1)


def loops(image, kernel):
    """Correlation over single indices; an index beyond the border is mirrored at the border's own pixel."""
    rows, columns = image.shape
    half = len(kernel) // 2
    out = np.zeros((rows, columns))
    for r in range(rows):
        for c in range(columns):
            for i in range(len(kernel)):
                for j in range(len(kernel)):
                    y, x = abs(r + i - half), abs(c + j - half)
                    y = 2 * (rows - 1) - y if y >= rows else y
                    x = 2 * (columns - 1) - x if x >= columns else x
                    out[r, c] += kernel[i][j] * image[y, x]
    return out


def turned(size, angle, direction):
    """Every pixel of the kernel, turned back clockwise onto the line; y points up."""
    half = size // 2
    heavy = (direction + 1) / 2
    radians = math.radians(angle)
    kernel = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            right, up = j - half, half - i
            along = right * math.cos(radians) + up * math.sin(radians)
            across = up * math.cos(radians) - right * math.sin(radians)
            place = half + along
            if abs(across) < 0.5 and -0.5 < place < size - 0.5:
                kernel[i, j] = heavy + (1 - 2 * heavy) * round(place) / (size - 1)
    return kernel / kernel.sum()


@given(SIZES, st.floats(-360, 360), st.floats(-0.9, 0.9))
def test_kernel_is_a_turned_line_that_sums_to_one(size, angle, direction):
    kernel = motion_kernel(size, angle, direction)
    assert kernel.shape == (size, size) and (kernel >= 0).all()
    assert kernel.sum() == pytest.approx(1)
    # near a tie of two pixels, rounding decides; elsewhere both are the same
    if all(np.array_equal(kernel > 0, motion_kernel(size, angle + step, direction) > 0) for step in (-1e-6, 1e-6)):
        assert np.allclose(kernel, turned(size, angle, direction))


@pytest.mark.parametrize(
    ("size", "angle", "direction", "expected"),
    [
        (5, 0, 0, {2: [0.2, 0.2, 0.2, 0.2, 0.2]}),
        (5, 0, 1, {2: [0.4, 0.3, 0.2, 0.1, 0]}),
        (5, 0, -1, {2: [0, 0.1, 0.2, 0.3, 0.4]}),
        (3, 90, 1, {1: [0, 1 / 3, 0], 2: [0, 2 / 3, 0]}),
        (3, 215, -0.5, {0: [0, 0, 1 / 6], 1: [0, 1 / 3, 0], 2: [1 / 2, 0, 0]}),
    ],
)
def test_kernels_as_kornia_documents_them(size, angle, direction, expected):
    wanted = np.zeros((size, size))
    for row, values in expected.items():
        wanted[row] = values
    assert np.allclose(motion_kernel(size, angle, direction), wanted)


def test_pixels_on_the_line_at_some_angles():
    assert [(motion_kernel(5, angle) > 0).sum() for angle in (0, 25, 45, 90)] == [5, 7, 3, 5]


@pytest.mark.parametrize("angle", range(-80, 91, 17))
def test_a_point_becomes_a_streak_along_the_angle(angle):
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    streak = motion_blur(point, motion_kernel(15, angle))[0].numpy()
    rows, columns = np.nonzero(streak)
    up, right = 15 - rows, columns - 15
    weights = streak[rows, columns]
    axis = 0.5 * math.degrees(math.atan2(2 * (weights * up * right).sum(), (weights * (right**2 - up**2)).sum()))
    assert abs((axis - angle + 90) % 180 - 90) < 4
    moments = np.linalg.eigvalsh(np.cov(np.stack([up, right]), aweights=weights))
    assert moments[1] > 40 * moments[0]


def test_detail_across_the_line_stays_and_along_it_goes():
    rows = torch.arange(64.0)[None, :, None].expand(1, 64, 64) % 2  # stripes from left to right
    kept, gone = (motion_blur(rows, motion_kernel(7, angle)) for angle in (0, 90))
    assert torch.allclose(kept, rows)
    assert gone.std() < 0.15 * rows.std()


@pytest.mark.parametrize(("size", "angle", "direction"), [(3, 20, 0), (5, -63, 0.5), (7, 137, -1), (7, 0, 0)])
def test_blur_is_that_of_the_loops(size, angle, direction):
    image = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(size))
    kernel = motion_kernel(size, angle, direction)
    found = motion_blur(image, kernel)
    assert found.dtype == torch.float32
    for channel in range(2):
        assert np.allclose(found[channel], loops(image[channel].double().numpy(), kernel), atol=1e-6)


def test_even_pictures_stay_even_to_the_border():
    even = torch.full((1, 16, 16), 0.3)
    assert torch.allclose(motion_blur(even, motion_kernel(7, 33)), even)


@pytest.mark.parametrize("size", [0, 1, 4, -3])
def test_a_line_without_middle_is_refused(size):
    with pytest.raises(UserError, match=f"motion blur: a line of {size} pixels has no middle; use 3, 5, 7 or another"):
        motion_kernel(size, 0)


def streak(name, size, folder="/data"):
    point = torch.zeros(1, 15, 15)
    point[0, 7, 7] = 1
    image = MetaTensor(point, meta={"filename_or_obj": f"{folder}/{name}.png"})
    found = MotionBlurd("image", size)({"image": image})["image"]
    assert isinstance(found, MetaTensor) and found.meta["filename_or_obj"] == f"{folder}/{name}.png"
    return found[0].numpy()


def angle_of(picture):
    rows, columns = np.nonzero(picture)
    up, right = 7 - rows, columns - 7
    return 0.5 * math.atan2(2 * (up * right).sum(), (right**2 - up**2).sum())


def test_the_angle_belongs_to_the_file():
    assert np.array_equal(streak("a", 7), streak("a", 7, "/elsewhere"))
    assert abs(math.sin(angle_of(streak("a", 7)) - angle_of(streak("a", 5)))) < 0.35
    angles = np.array([angle_of(streak(str(number), 7)) for number in range(300)])
    # all directions alike: the mean of the doubled angles' unit vectors is that of 300 random ones
    assert np.hypot(np.cos(2 * angles).mean(), np.sin(2 * angles).mean()) < 0.15
