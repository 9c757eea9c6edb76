"""``RandLowDoseNoised``: the noise of a low dose as augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from .low_dose import low_dose


class RandLowDoseNoised(RandomizableTransform, MapTransform):
    """Photon noise of a random dose, drawn anew at each call.

    Args:
        keys: of pictures (C, H, W) in [0, 1]; all get the same field.
        prob: probability.
        doses: the range of photons of a white pixel, lowest and highest.

    Source: as :class:`common.transforms.LowDoseNoised`; as augmentation it is ours.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, doses: Sequence[float] = (110, 140)) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.doses = tuple(doses)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the noise, or not.

        Raises:
            UserError: a picture is not in [0, 1].
        """
        d = dict(data)
        self.randomize(None)
        if self._do_transform:
            dose = self.R.uniform(*self.doses)
            field = self.R.random_sample(d[self.keys[0]].shape[-2:])
            for key in self.key_iterator(d):
                d[key] = low_dose(d[key], dose, field)
        return d
