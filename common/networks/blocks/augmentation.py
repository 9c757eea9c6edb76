"""Augmentations of a whole batch inside a training step, by kornia's definitions (kornia itself is not needed).

Each image draws its own numbers, from torch's global generator on the batch's device. All of it is computed in float32,
also under autocast: in bfloat16 a sampling grid of 224 pixels is off by half a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_GAMMA = (0.9, 1.1)
_NOISE = 0.01  # standard deviation
_BRIGHTNESS = 0.3
_CONTRAST = 0.3
_BLUR_SIZE = 5  # pixels
_BLUR_ANGLE = 20.0  # degrees
_BLUR_DIRECTION = 0.5


class RandomGeometry(nn.Module):
    """Horizontal flip, vertical flip and affine map, drawn for each image and made one matrix.

    A pixel at p, counted from the middle of the picture (x to the right, y down), goes to ``s R F p + d``: F are the
    flips, R turns counter-clockwise as displayed, s is the scale, d the shift.

    Args:
        hflip: probability that left and right are swapped.
        vflip: probability that up and down are swapped.
        affine: probability of rotation, scale and shift.
        degrees: the angle is between minus and plus this.
        translate: the shift is at most this fraction of the width, and of the height.
        scale: smallest and largest.
    """

    def __init__(
        self,
        hflip: float = 0.5,
        vflip: float = 0.5,
        affine: float = 0.7,
        degrees: float = 20.0,
        translate: float = 0.1,
        scale: Sequence[float] = (0.8, 1.2),
    ) -> None:
        super().__init__()
        self.hflip, self.vflip, self.affine = hflip, vflip, affine
        self.degrees, self.translate, self.scale = degrees, translate, tuple(scale)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Draw θ (B, 2, 3) for images (B, C, H, W): from places in the result to places in them, for :func:`warp`."""
        height, width = image.shape[-2:]
        drawn = torch.rand(7, image.shape[0], device=image.device)
        x_sign, y_sign = 1 - 2 * (drawn[0] < self.hflip).float(), 1 - 2 * (drawn[1] < self.vflip).float()
        moved = drawn[2] < self.affine
        low, high = self.scale
        scale = torch.where(moved, low + (high - low) * drawn[3], 1.0)
        angle = torch.where(moved, math.radians(self.degrees) * (2 * drawn[4] - 1), 0.0)
        # shifts in affine_grid's units, in which the picture is from -1 to 1
        shift = torch.where(moved, 2 * self.translate * (2 * drawn[5:] - 1), 0.0)  # (2, B): x, y
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = torch.stack(
            (
                torch.stack((x_sign * cos, -x_sign * sin * height / width), dim=1),
                torch.stack((y_sign * sin * width / height, y_sign * cos), dim=1),
            ),
            dim=1,
        )  # (B, 2, 2)
        offset = -(rows * shift.T[:, None]).sum(dim=2, keepdim=True)
        return torch.cat((rows, offset), dim=2)


def warp(x: torch.Tensor, theta: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Pictures as :class:`RandomGeometry` drew it; zeros outside.

    Args:
        x: (B, C, H, W).
        theta: (B, 2, 3).
        mode: "bilinear", or "nearest" for masks.

    Returns:
        (B, C, H, W), float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        grid = F.affine_grid(theta.float(), list(x.shape), align_corners=False)
        return F.grid_sample(x.float(), grid, mode=mode, padding_mode="zeros", align_corners=False)


class ImageNetNormalise(nn.Module):
    """The weak view: a picture in 0..1 less ImageNet's means, divided by its standard deviations."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # buffers, for an exported graph holds no nameless numbers; not in the state dict, for nothing trains them
        for name, values in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to the same shape."""
        return (x - self.mean) / self.std


@dataclass(frozen=True)
class Appearance:
    """What the strong view of each of B images is made with.

    Attributes:
        gamma: exponents (B,).
        noise: to be added, (B, C, H, W); zeros in images without.
        brightness: to be added, (B,).
        brighten: which images are, (B,) bool.
        contrast: factors (B,).
        stretch: which images are multiplied, (B,) bool.
        kernels: of the motion blur, (B, k, k).
        blur: which images are blurred, (B,) bool.
    """

    gamma: torch.Tensor
    noise: torch.Tensor
    brightness: torch.Tensor
    brighten: torch.Tensor
    contrast: torch.Tensor
    stretch: torch.Tensor
    kernels: torch.Tensor
    blur: torch.Tensor

    @classmethod
    def draw(cls, x: torch.Tensor) -> Appearance:
        """For images (B, C, H, W): γ from 0.9 to 1.1; noise of 0.01, brightness ±0.3, contrast ±30 % in half of them.

        The motion blur of 5 pixels, its angle ±20° and direction ±0.5, is in a fifth.
        """
        batch = x.shape[0]
        on = torch.rand(4, batch, device=x.device) < torch.tensor([0.5, 0.5, 0.5, 0.2], device=x.device)[:, None]
        u = torch.rand(5, batch, device=x.device)
        return cls(
            gamma=_GAMMA[0] + (_GAMMA[1] - _GAMMA[0]) * u[0],
            noise=_NOISE * torch.randn(x.shape, device=x.device) * on[0, :, None, None, None],
            brightness=_BRIGHTNESS * (2 * u[1] - 1),
            brighten=on[1],
            contrast=1 + _CONTRAST * (2 * u[2] - 1),
            stretch=on[2],
            kernels=motion_kernels(_BLUR_ANGLE * (2 * u[3] - 1), _BLUR_DIRECTION * (2 * u[4] - 1)),
            blur=on[3],
        )

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """The strong view before its normalisation: x (B, C, H, W) in 0..1, changed in the order of the attributes."""

        def each(values: torch.Tensor) -> torch.Tensor:
            return values[:, None, None, None]

        x = x.float().clamp(0, 1).pow(each(self.gamma)) + self.noise
        x = torch.where(each(self.brighten), (x + each(self.brightness)).clamp(0, 1), x)
        x = torch.where(each(self.stretch), (x * each(self.contrast)).clamp(0, 1), x)
        return torch.where(each(self.blur), correlate(x, self.kernels), x)


def motion_kernels(angle: torch.Tensor, direction: torch.Tensor, size: int = _BLUR_SIZE) -> torch.Tensor:
    """Lines of ``size`` pixels that sum to 1.

    Args:
        angle: (B,), degrees, counter-clockwise as displayed; the line is turned to the nearest pixels.
        direction: (B,), from −1 (the weights rise from left to right) over 0 (all alike) to 1 (they fall).
        size: pixels, odd.

    Returns:
        (B, size, size).
    """
    first = (direction + 1) / 2
    steps = torch.arange(size, device=angle.device) / (size - 1)
    line = first[:, None] + (1 - 2 * first[:, None]) * steps  # (B, size)
    kernels = F.pad(line[:, None, None], (0, 0, size // 2, size // 2))  # (B, 1, size, size)
    cos, sin, zero = *(f(torch.deg2rad(angle)) for f in (torch.cos, torch.sin)), torch.zeros_like(angle)
    theta = torch.stack((torch.stack((cos, -sin, zero), 1), torch.stack((sin, cos, zero), 1)), 1)
    with torch.autocast(angle.device.type, enabled=False):
        grid = F.affine_grid(theta, list(kernels.shape), align_corners=True)
        kernels = F.grid_sample(kernels, grid, mode="nearest", align_corners=True)[:, 0]
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def correlate(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each image of x (B, C, H, W) with its own kernel (B, k, k), zeros outside."""
    batch, channels = x.shape[:2]
    weight = kernels[:, None].expand(-1, channels, -1, -1).flatten(0, 1)[:, None]  # (B C, 1, k, k)
    with torch.autocast(x.device.type, enabled=False):
        out = F.conv2d(x.flatten(0, 1)[None], weight, padding=kernels.shape[-1] // 2, groups=batch * channels)
    return out[0].unflatten(0, (batch, channels))
