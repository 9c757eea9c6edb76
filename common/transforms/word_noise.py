"""``RandWordNoised``: a sentence disturbed with no regard to what its words mean."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform


class RandWordNoised(RandomizableTransform, MapTransform):
    """Leave out words, and swap neighbours.

    Semi-MedRef's row "TextStrong" (Table 3): "generic text augmentations", of which the paper says no more. Here two
    of EDA's (Wei and Zou 2019): random deletion and random swap. A side may get lost, or move to the other lung's
    zones; that is what :class:`common.transforms.RandPositionAugd` is compared with.

    Args:
        keys: of sentences.
        deletion: probability for each word to be left out; one word always stays.
        swap: probability for each pair of neighbours to be swapped.
    """

    def __init__(self, keys: KeysCollection, deletion: float = 0.1, swap: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.deletion, self.swap = deletion, swap

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Disturb the sentences."""
        d = dict(data)
        for key in self.key_iterator(d):
            words = d[key].split()
            kept = [word for word in words if self.R.random_sample() >= self.deletion] or words[:1]
            for n in range(len(kept) - 1):
                if self.R.random_sample() < self.swap:
                    kept[n], kept[n + 1] = kept[n + 1], kept[n]
            d[key] = " ".join(kept)
        return d
