"""``RandMotionBlurd``: motion blur as augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from .motion_blur import motion_blur, motion_kernel


class RandMotionBlurd(RandomizableTransform, MapTransform):
    """Blur along a line of random length, angle and direction.

    Args:
        keys: of pictures (C, H, W); all get the same kernel.
        prob: probability.
        sizes: lengths of the line in pixels, odd, one of which is drawn.
        angle: degrees; the angle is drawn from -angle to angle.
        direction: the direction is drawn from -direction to direction, at most 1; 0 blurs evenly.

    Source: kornia's ``RandomMotionBlur``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        sizes: Sequence[int] = (3, 5, 7),
        angle: float = 180.0,
        direction: float = 0.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.sizes, self.angle, self.direction = tuple(sizes), angle, direction

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Blur, or not."""
        d = dict(data)
        self.randomize(None)
        if self._do_transform:
            size = self.sizes[self.R.randint(len(self.sizes))]
            angle = self.R.uniform(-self.angle, self.angle)
            kernel = motion_kernel(size, angle, self.R.uniform(-self.direction, self.direction))
            for key in self.key_iterator(d):
                d[key] = motion_blur(d[key], kernel)
        return d
