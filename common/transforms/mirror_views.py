"""``MirrorViews``: picture, target and sentence with sides swapped."""

from __future__ import annotations

from dataclasses import replace

import torch

from common.errors import UserError
from common.prompts import mirror_words

from .views import Mixing, Views


class MirrorViews(Mixing):
    """Flip some of the pictures and their targets left to right, and swap "left" and "right" in their sentences.

    Semi-MedRef's row "w/ SPC" (Table 3), the perturbation of RESMatch (arXiv 2402.05589) that keeps text and picture in
    agreement. The paper says no more; that it is this one of RESMatch is a reading. The heart changes sides, too.

    Args:
        prob: that a picture is flipped.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise UserError(f"MirrorViews: prob is {prob}, expected 0 to 1")
        self.prob = prob

    def __call__(self, views: Views) -> Views:
        """Flip."""
        changed = torch.as_tensor(self.R.random_sample(len(views.sentences)) < self.prob)
        sentences = [mirror_words(s) if flip else s for s, flip in zip(views.sentences, changed, strict=True)]
        where = changed.to(views.image.device)[:, None, None, None]
        image, probability = (torch.where(where, x.flip(-1), x) for x in (views.image, views.probability))
        return replace(views, image=image, probability=probability, sentences=sentences, changed=changed)
