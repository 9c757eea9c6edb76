"""``LowDoseNoised``: the noise of a low dose, one fixed field an image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils.type_conversion import convert_to_dst_type, convert_to_numpy
from scipy.special import ndtri, pdtr

from common.errors import UserError

from .file_random import random_of_file


class LowDoseNoised(MapTransform):
    """Photon noise: ``clip(Poisson(dose x) / dose, 0, 1)``, the less dose the more.

    For a picture x in [0, 1], so after the resize to the network's size and before the normalisation. White is
    ``dose`` photons; the standard deviation is ``sqrt(x / dose)``: 0.06 of mid-grey at 140, less in the dark.

    The field is drawn once an image, from its file name: the same file gets the same on every machine, in any order,
    and at every dose the same quantiles, so that doses differ in strength alone. Channels share it, so that a grey
    picture stays grey.

    Args:
        keys: of pictures (C, H, W).
        dose: photons of a white pixel.

    Source: BiCLIP (arXiv 2603.00156), section 3.4, names the doses 140, 120 and 110 but no formula; the photon count
    is the reading under which lower doses are noisier and dark CT slices suffer less, as its Table 3 has it.
    """

    def __init__(self, keys: KeysCollection, dose: float) -> None:
        super().__init__(keys)
        self.dose = dose

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the noise.

        Raises:
            UserError: the image does not tell its file, or is not in [0, 1].
        """
        d = dict(data)
        for key in self.key_iterator(d):
            field = random_of_file(d[key], "low dose").random_sample(d[key].shape[-2:])
            d[key] = low_dose(d[key], self.dose, field)
        return d


def low_dose(image: Any, dose: float, field: np.ndarray) -> Any:
    """The picture at this dose.

    Args:
        image: (C, H, W) tensor in [0, 1]; its type, meta and device are kept.
        dose: photons of a white pixel.
        field: (H, W) uniform in [0, 1), the quantile that each pixel's photon count takes. One number a pixel,
            whatever the picture: a difference in its last digits cannot shift the numbers of the pixels behind it.

    Raises:
        UserError: the picture is not in [0, 1].
    """
    x = convert_to_numpy(image, dtype=np.float64)  # SciPy's functions know no GPU
    low, high = x.min(), x.max()
    if not (low > -1e-3 and high < 1 + 1e-3):
        raise UserError(
            f"low dose: wants a picture in [0, 1], this one is in [{low:.3g}, {high:.3g}]; put it before the "
            f"normalisation"
        )
    count = poisson_quantile(np.broadcast_to(field, x.shape), dose * x.clip(0, 1))
    return convert_to_dst_type((count / dose).clip(0, 1), image)[0]


def poisson_quantile(share: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The least count k with ``P(N <= k) >= share`` for N Poisson-distributed.

    Args:
        share: in [0, 1), any shape.
        mean: not negative, the same shape.

    Source: start at the normal distribution's quantile, corrected for skewness (Cornish and Fisher), then step.
    """
    z = ndtri(np.maximum(share, 2.0**-54))  # not -inf
    k = np.floor(mean + np.sqrt(mean) * z + (z * z - 1) / 6).clip(0)
    index = np.nonzero(pdtr(k, mean) < share)
    while index[0].size:
        k[index] += 1
        index = tuple(axis[pdtr(k[index], mean[index]) < share[index]] for axis in index)
    index = np.nonzero(k > 0)
    while index[0].size:
        lower = (k[index] > 0) & (pdtr(np.maximum(k[index] - 1, 0), mean[index]) >= share[index])
        index = tuple(axis[lower] for axis in index)
        k[index] -= 1
    return k
