"""``MotionBlurd``: a patient who moved, in one fixed direction an image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils.type_conversion import convert_to_dst_type, convert_to_numpy
from scipy.ndimage import correlate

from common.errors import UserError

from .file_random import random_of_file


class MotionBlurd(MapTransform):
    """The mean over a line of one pixel's width, at an angle that belongs to the image.

    After the resize to the network's size, whose pixels it counts. The angle is uniform over all directions and drawn
    once an image, from its file name: the same on every machine, in any order and at every size.

    Args:
        keys: of pictures (C, H, W).
        size: length of the line in pixels, odd.

    Source: BiCLIP (arXiv 2603.00156), section 3.4: "directional convolution kernels of sizes 3, 5, and 7"; angle and
    kernel as in its training's augmentation, kornia's motion blur.
    """

    def __init__(self, keys: KeysCollection, size: int) -> None:
        super().__init__(keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Blur.

        Raises:
            UserError: the image does not tell its file.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            angle = random_of_file(d[key], "motion blur").uniform(-180, 180)
            d[key] = motion_blur(d[key], motion_kernel(self.size, angle))
        return d


def motion_blur(image: Any, kernel: np.ndarray) -> Any:
    """Correlate each channel of a picture (C, H, W) with a kernel (K, K); beyond its border it is mirrored.

    The border's own pixels are not repeated ("reflect" in torch, "mirror" in SciPy). Type, meta and device are kept.
    """
    blurred = [correlate(channel, kernel, mode="mirror") for channel in convert_to_numpy(image, dtype=np.float64)]
    return convert_to_dst_type(np.stack(blurred), image)[0]


def motion_kernel(size: int, angle: float, direction: float = 0.0) -> np.ndarray:
    """The kernel of a motion: a horizontal line, turned; its sum is 1.

    Args:
        size: of the kernel, odd, at least 3.
        angle: degrees, counter-clockwise as displayed (rows run downwards).
        direction: from -1 to 1; 0 is an even line, 1 puts the weight at its left end before it is turned (falling
            linearly to 0 at the right), -1 at its right end.

    Returns:
        (size, size) float64. A turned pixel takes the weight of the nearest pixel of the line, as in kornia; so the
        number of pixels on the line depends on the angle: 3 at 45 degrees and 7 at 25 degrees for a size of 5.

    Raises:
        UserError: the size is even or below 3.

    Source: the conventions of kornia's ``get_motion_kernel2d``.
    """
    if size < 3 or size % 2 == 0:
        raise UserError(f"motion blur: a line of {size} pixels has no middle; use 3, 5, 7 or another odd number")
    half = size // 2
    heavy = (np.clip(direction, -1, 1) + 1) / 2
    line = np.linspace(heavy, 1 - heavy, size)  # left to right
    turn = np.deg2rad(angle)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    # where each pixel came from: the turn undone, with y downwards
    column = np.rint(np.cos(turn) * x - np.sin(turn) * y).astype(int) + half
    row = np.rint(np.sin(turn) * x + np.cos(turn) * y).astype(int)
    kernel = np.where((row == 0) & (column >= 0) & (column < size), line[column.clip(0, size - 1)], 0.0)
    return kernel / kernel.sum()
