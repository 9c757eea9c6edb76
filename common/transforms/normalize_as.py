"""``NormalizeAsd``: an image in the units of another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform


class NormalizeAsd(MapTransform):
    """Subtract another image's mean, and divide by its standard deviation.

    For a strong view, by those of its weak view: by its own, brightness and contrast would be what they were before
    the augmentation. It comes before the other image is normalised itself. An image of one value is divided by 1, as
    by MONAI's ``NormalizeIntensityd``.

    Args:
        keys: of tensors, any shape.
        reference: key of the image whose statistics over all its values they get.

    Source: Semi-MedRef's weak and strong views are in the same units: its released code changes brightness and contrast
    after the normalisation.
    """

    def __init__(self, keys: KeysCollection, reference: str) -> None:
        super().__init__(keys)
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise."""
        d = dict(data)
        values = d[self.reference].float()
        mean, deviation = float(values.mean()), float(values.std(unbiased=False))
        for key in self.key_iterator(d):
            d[key] = (d[key] - mean) / (deviation or 1.0)
        return d
