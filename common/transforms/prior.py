"""The prior of a sentence's position words, as a map in the picture's grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from common.prompts import parse
from common.prompts.zones import KINDS, composite_prior


class PositionPriord(MapTransform):
    """Draw the composite Gaussian prior (SSA, II.B) of the zones that a sentence names.

    The sentence is about the picture's sides and the image as displayed, so it comes after ``ToDisplayd``,
    ``PreparePromptd`` and a mirror, and before whatever else moves the image: the map lies in the image's grid and is
    to be warped with it. A sentence that names no place, or stands in for one that was not given, gets 1 everywhere.

    Args:
        keys: of the sentence, ``text_prompt``.
        grammar: ``"chest"`` or ``"polyp"``.
        kind: kind of image, as :mod:`common.prompts.zones` names it; None takes what the item says under ``kind``, as
            those of data sets do, else the grammar's usual one.
        image_key: whose grid it is.
        prior_key: where the map goes, (1, H, W) float32.
    """

    def __init__(
        self,
        keys: KeysCollection,
        grammar: str,
        kind: str | None = None,
        image_key: str = "image",
        prior_key: str = "prior",
    ) -> None:
        super().__init__(keys)
        self.grammar, self.kind = grammar, kind
        self.image_key, self.prior_key = image_key, prior_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the map."""
        d = dict(data)
        for key in self.keys:
            image = d[self.image_key]
            found = parse(d[key], "image", self.grammar)
            given = d.get("prompt_used") != "default" and found.understood
            bits = found.zones if given else (0,) * len(found.zones)
            kind = self.kind or d.get("kind") or KINDS[self.grammar]
            prior = torch.from_numpy(composite_prior(bits, tuple(image.shape[-2:]), kind).copy())[None]
            prior = prior.to(image.device)
            d[self.prior_key] = MetaTensor(prior, affine=image.affine) if isinstance(image, MetaTensor) else prior
        return d
