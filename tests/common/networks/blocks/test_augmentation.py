import math

import numpy as np
import pytest
import torch

from common.networks.blocks.augmentation import (
    Appearance,
    ImageNetNormalise,
    RandomGeometry,
    correlate,
    motion_kernels,
    warp,
)


def identity(batch: int = 1) -> torch.Tensor:
    return torch.eye(3)[:2].expand(batch, -1, -1)


def slow_warp(picture: np.ndarray, hflip, vflip, angle, scale, shift) -> np.ndarray:
    """(H, W): where each pixel of the result comes from, by p' = s R F p + d about the middle; bilinear, zeros outside.

    Angle in radians, counter-clockwise as displayed (y is down); shift (x, y) in pixels.
    """
    height, width = picture.shape
    out = np.zeros((height, width))
    for row in range(height):
        for col in range(width):
            x, y = col + 0.5 - width / 2 - shift[0], row + 0.5 - height / 2 - shift[1]
            # clockwise again, for this is the way back
            x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
            x, y = x / scale, y / scale
            x, y = (-x if hflip else x), (-y if vflip else y)
            x, y = x + width / 2 - 0.5, y + height / 2 - 0.5
            left, top = math.floor(x), math.floor(y)
            for r in (top, top + 1):
                for c in (left, left + 1):
                    if 0 <= r < height and 0 <= c < width:
                        out[row, col] += picture[r, c] * (1 - abs(y - r)) * (1 - abs(x - c))
    return out


def test_warp_equals_loops():
    geometry = RandomGeometry(affine=0.8, degrees=40, translate=0.2, scale=(0.6, 1.5))
    x = torch.rand(12, 2, 9, 14, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    theta = geometry(x)
    torch.manual_seed(3)
    drawn = torch.rand(7, 12).double().numpy()
    out = warp(x, theta)
    seen = set()
    for b in range(12):
        hflip, vflip, moved = drawn[0, b] < 0.5, drawn[1, b] < 0.5, drawn[2, b] < 0.8
        scale = 0.6 + 0.9 * drawn[3, b] if moved else 1
        angle = math.radians(40) * (2 * drawn[4, b] - 1) if moved else 0
        shift = [0.2 * size * (2 * u - 1) if moved else 0 for size, u in zip((14, 9), drawn[5:, b], strict=True)]
        seen.add((hflip, vflip, moved))
        for c in range(2):
            expected = slow_warp(x[b, c].double().numpy(), hflip, vflip, angle, scale, shift)
            np.testing.assert_allclose(out[b, c], expected, atol=1e-5)
    assert len(seen) >= 5, "flips and affine, together and alone"


def test_flips_alone_are_exact():
    x = torch.rand(3, 2, 10, 7)
    for hflip, vflip, axes in ((1, 0, [3]), (0, 1, [2]), (1, 1, [2, 3])):
        theta = RandomGeometry(hflip=hflip, vflip=vflip, affine=0)(x)
        for mode in ("bilinear", "nearest"):
            torch.testing.assert_close(warp(x, theta, mode), x.flip(axes), atol=1e-5, rtol=0)
    assert torch.equal(RandomGeometry(0, 0, 0)(x), identity(3))


def test_a_positive_angle_turns_counter_clockwise_and_a_shift_goes_right_and_down():
    """A spot at the right goes up, by 90 degrees to the top; of a picture that is wider than high it leaves it."""
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 18] = 1
    theta = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])  # cos 90°, sin 90° as RandomGeometry has them
    assert np.argwhere(warp(x, theta)[0, 0].numpy() > 0.5).tolist() == [[2, 10]]
    geometry = RandomGeometry(0, 0, 1, degrees=0, translate=0.2, scale=(1, 1))
    torch.manual_seed(0)
    theta = geometry(x.expand(50, -1, -1, -1))
    torch.manual_seed(0)
    right, down = 0.2 * 21 * (2 * torch.rand(7, 50)[5:] - 1)
    out = warp(x.expand(50, -1, -1, -1), theta)[:, 0]
    rows, cols = torch.arange(21.0)[:, None], torch.arange(21.0)
    inside = (right < 2).nonzero().flatten()
    assert len(inside) > 20
    torch.testing.assert_close((out * cols).sum((1, 2))[inside], 18 + right[inside], atol=1e-3, rtol=0)
    torch.testing.assert_close((out * rows).sum((1, 2))[inside], 10 + down[inside], atol=1e-3, rtol=0)


def test_statistics_of_the_geometry():
    """At the paper's numbers, each from 20,000 images of another height than width."""
    torch.manual_seed(0)
    count, height, width = 20_000, 64, 96
    theta = RandomGeometry()(torch.empty(count, 1, height, width)).double()
    ratio = torch.tensor([[1, width / height], [height / width, 1]])
    turn = theta[:, :, :2] * ratio  # in pixels: F R⁻¹ / s
    scale = turn.det().abs().rsqrt()
    vertical = turn[:, 1, 1] < 0
    horizontal = turn[:, 0, 0] < 0
    moved = (scale - 1).abs() > 1e-7
    angle = torch.rad2deg(torch.atan2(turn[:, 1, 0] * (1 - 2.0 * vertical), turn[:, 0, 0].abs()))[moved]
    for share, expected in ((horizontal, 0.5), (vertical, 0.5), (moved, 0.7), (horizontal & vertical, 0.25)):
        assert abs(share.double().mean() - expected) < 0.015
    assert torch.equal(theta[~moved, :, 2], torch.zeros_like(theta[~moved, :, 2]))
    # d = −s R F (what θ adds), as a fraction of the picture, which is 2 wide
    shift = -torch.linalg.solve(theta[moved, :, :2], theta[moved, :, 2:])[..., 0] / 2
    for values, limit, middle in ((angle, 20, 0), (scale[moved], 0.2, 1), (shift[:, 0], 0.1, 0), (shift[:, 1], 0.1, 0)):
        assert (values - middle).abs().max() <= limit * 1.0001
        assert (values - middle).abs().max() > limit * 0.99
        assert abs(values.mean() - middle) < 0.03 * limit
        assert abs(values.std() - limit / math.sqrt(3)) < 0.03 * limit
    pairs = torch.stack((angle, scale[moved], shift[:, 0], shift[:, 1]))
    assert (torch.corrcoef(pairs) - torch.eye(4)).abs().max() < 0.04


def test_a_mask_stays_on_its_picture():
    """Bilinear picture and nearest mask of a random blob: the same place within a fraction of a pixel."""
    torch.manual_seed(1)
    noise = torch.rand(24, 1, 6, 6)
    mask = (torch.nn.functional.interpolate(noise, (64, 96), mode="bicubic") > 0.6).float()
    theta = RandomGeometry(affine=1)(mask)
    picture, moved = warp(mask, theta), warp(mask, theta, "nearest")
    assert set(moved.unique().tolist()) == {0, 1}
    assert ((picture > 0.5) != (moved > 0.5)).float().mean() < 0.01
    assert ((picture > 0.5) != (mask > 0.5)).float().mean() > 0.1


def test_autocast_does_not_coarsen_the_grid():
    x = torch.rand(4, 3, 96, 96)
    theta = RandomGeometry(affine=1)(x)
    kernels = motion_kernels(torch.tensor([0.0, 7.0, 15.0, -18.0]), torch.tensor([0.1, -0.3, 0.5, 0.0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(warp(x, theta), warp(x.clone(), theta.clone()))
        under = warp(x, theta), correlate(x, kernels)
        angles = motion_kernels(torch.tensor([0.0, 7.0, 15.0, -18.0]), torch.tensor([0.1, -0.3, 0.5, 0.0]))
    assert [part.dtype for part in under] == [torch.float32] * 2
    torch.testing.assert_close(under, (warp(x, theta), correlate(x, kernels)), atol=1e-6, rtol=0)
    torch.testing.assert_close(angles, kernels)


def test_motion_kernels():
    """kornia's: direction 1 is heavy at the left end, and an angle of 90 brings the heavy end to the bottom."""
    kernels = motion_kernels(torch.tensor([0.0, 90.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))
    line = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0])
    torch.testing.assert_close(kernels[0, 2], line)
    torch.testing.assert_close(kernels[1, :, 2], line.flip(0))
    torch.testing.assert_close(kernels[2, 2], torch.full((5,), 0.2))
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(3))
    assert kernels.count_nonzero().item() == 4 + 4 + 5


@pytest.mark.parametrize(("angle", "direction"), [(20.0, 0.5), (-17.0, -0.4), (33.0, 0.2)])
def test_motion_kernels_equal_loops(angle, direction):
    """Each cell takes the line's nearest cell, where it comes from when the kernel is turned."""
    first = (direction + 1) / 2
    line = np.zeros((5, 5))
    for i in range(5):
        line[2, i] = first + (1 - 2 * first) / 4 * i
    expected, a = np.zeros((5, 5)), math.radians(angle)
    for r in range(5):
        for c in range(5):
            x, y = c - 2, r - 2
            col, row = round(x * math.cos(a) - y * math.sin(a)) + 2, round(x * math.sin(a) + y * math.cos(a)) + 2
            if 0 <= row < 5 and 0 <= col < 5:
                expected[r, c] = line[row, col]
    (found,) = motion_kernels(torch.tensor([angle]), torch.tensor([direction]))
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-6)


def test_the_strong_view_equals_loops():
    torch.manual_seed(5)
    x = torch.rand(6, 3, 7, 8)
    flags = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool).T
    view = Appearance(
        gamma=torch.linspace(0.9, 1.1, 6), noise=0.01 * torch.randn(6, 3, 7, 8),
        brightness=torch.tensor([0.3, 0.3, -0.2, 0.1, -0.3, 0.25]), brighten=flags[0],
        contrast=torch.tensor([1.3, 0.7, 1.3, 1.2, 1.25, 0.8]), stretch=flags[1],
        kernels=motion_kernels(torch.linspace(-20, 20, 6), torch.linspace(-0.5, 0.5, 6)), blur=flags[2],
    )  # fmt: skip
    out, clip = view.apply(x), lambda v: min(max(v, 0.0), 1.0)
    for b in range(6):
        for c in range(3):
            picture = np.zeros((7, 8))
            for r, col in np.ndindex(7, 8):
                v = float(x[b, c, r, col]) ** float(view.gamma[b]) + float(view.noise[b, c, r, col])
                v = clip(v + float(view.brightness[b])) if flags[0, b] else v
                picture[r, col] = clip(v * float(view.contrast[b])) if flags[1, b] else v
            if flags[2, b]:
                blurred = np.zeros((7, 8))
                for r, col, i, j in np.ndindex(7, 8, 5, 5):
                    if 0 <= r + i - 2 < 7 and 0 <= col + j - 2 < 8:
                        blurred[r, col] += float(view.kernels[b, i, j]) * picture[r + i - 2, col + j - 2]
                picture = blurred
            np.testing.assert_allclose(out[b, c], picture, atol=1e-6)


def test_statistics_of_the_strong_view():
    torch.manual_seed(0)
    count = 20_000
    view = Appearance.draw(torch.empty(count, 3, 2, 2))
    noisy = view.noise.flatten(1).any(dim=1)
    for share, expected in ((noisy, 0.5), (view.brighten, 0.5), (view.stretch, 0.5), (view.blur, 0.2)):
        assert abs(share.float().mean() - expected) < 0.015
    assert (torch.corrcoef(torch.stack((noisy, view.brighten, view.stretch, view.blur)).float()) - torch.eye(4)).abs(
    ).max() < 0.04  # fmt: skip
    assert abs(view.noise[noisy].std() - 0.01) < 2e-4
    assert abs(view.noise[noisy].mean()) < 2e-4
    assert (torch.corrcoef(view.noise[noisy][:, :, 0, 0].T) - torch.eye(3)).abs().max() < 0.04, "each channel its own"
    for values, middle, limit in ((view.gamma, 1, 0.1), (view.brightness, 0, 0.3), (view.contrast, 1, 0.3)):
        assert limit * 0.99 < (values - middle).abs().max() <= limit * 1.0001
        assert abs(values.mean() - middle) < 0.03 * limit
        assert abs(values.std() - limit / math.sqrt(3)) < 0.03 * limit
    # the line's two ends tell the direction: (1 + d)/2 and (1 - d)/2 of a line that sums to 5/2
    flat = (view.kernels[:, 2] > 0).all(dim=1)
    ends = view.kernels[flat][:, 2]
    direction = (ends[:, 0] - ends[:, -1]) / (ends[:, 0] + ends[:, -1])
    assert 0.45 < direction.abs().max() <= 0.5001
    assert 0.3 < flat.float().mean() < 0.9, "steep lines leave the middle row"


def test_normalise():
    x = torch.rand(2, 3, 4, 5)
    out = ImageNetNormalise()(x)
    for c, (mean, deviation) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        torch.testing.assert_close(out[:, c], (x[:, c] - mean) / deviation)


def test_numbers_come_from_the_global_generator():
    x = torch.rand(5, 3, 8, 8)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        theta = RandomGeometry()(x)
        found.append((theta, Appearance.draw(x).apply(x)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[2][0])
    assert len({tuple(row.flatten().tolist()) for row in found[0][0]}) > 1, "each image its own"
