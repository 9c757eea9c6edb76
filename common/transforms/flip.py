"""A horizontal flip that keeps picture and sentence true to each other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Flip, MapTransform, RandomizableTransform
from monai.utils.type_conversion import convert_to_tensor

from common.prompts import mirror_words


class RandMirrorPromptd(RandomizableTransform, MapTransform):
    """Mirror image and mask left to right and swap "left" and "right" in the sentence.

    For arrays as displayed, columns at the last axis; the sentence must already be about the picture's sides.

    Args:
        keys: images and masks, (C, H, W).
        text_key: the sentence.
        prob: probability; 0 where a method's paper has no flip (the heart changes sides).
    """

    def __init__(self, keys: KeysCollection, text_key: str = "text_prompt", prob: float = 0.5) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.text_key = text_key
        self.flip = Flip(spatial_axis=1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Flip all keys or none."""
        d = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(d):
                d[key] = self.flip(convert_to_tensor(d[key], track_meta=True))
            d[self.text_key] = mirror_words(d[self.text_key])
        return d
