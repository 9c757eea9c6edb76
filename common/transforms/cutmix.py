"""``CutMix``: a rectangle of another image, the sentence as it was."""

from __future__ import annotations

import torch

from common.errors import UserError

from .views import Mixing, Views, pasted


class CutMix(Mixing):
    """Paste a random rectangle of another image of the batch, with its target; sentences know nothing of it.

    Semi-MedRef's row "w/ CutMix" (Table 3), which falls below the baseline: text and picture no longer agree.

    Args:
        prob: that an image gets one.

    Source: Yun et al. 2019: a share 1 − λ of the picture, λ uniform, in its proportions, centred anywhere and cut at
    the border. As in Semi-MedRef's mixing the teacher's answer counts from 0.5.
    """

    threshold = 0.5

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise UserError(f"CutMix: prob is {prob}, expected 0 to 1")
        self.prob = prob

    def __call__(self, views: Views) -> Views:
        """Paste."""
        batch, _, height, width = views.image.shape
        source = torch.as_tensor(self.R.permutation(batch))
        masks = torch.zeros(batch, 1, height, width, dtype=torch.bool)
        for i in range(batch):
            share, row, column = self.R.random_sample(3)
            if self.R.random_sample() < self.prob and source[i] != i:
                half_rows, half_columns = (side * share**0.5 / 2 for side in (height, width))
                rows = slice(max(0, round(row * height - half_rows)), round(row * height + half_rows))
                columns = slice(max(0, round(column * width - half_columns)), round(column * width + half_columns))
                masks[i, 0, rows, columns] = True
        device = views.image.device
        return pasted(views, source.to(device), masks.to(device))
