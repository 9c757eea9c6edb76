"""Dice plus binary cross-entropy on logits: the supervised loss of every method here."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.losses import DiceLoss


class Supervised(torch.nn.Module):
    """MONAI's ``DiceCELoss(sigmoid=True)``, its two terms kept apart so that both are logged.

    MONAI before 1.3 computed a softmax over the single channel, which made the cross-entropy zero: GuideDecoder,
    MMI-UNet and Semi-MedRef were trained with Dice alone although their papers say Dice and BCE. ``ce_weight=0``
    is that loss.

    Args:
        dice_weight: of the Dice term (per image, then averaged).
        ce_weight: of the cross-entropy (mean over all pixels).
    """

    def __init__(self, dice_weight: float = 1.0, ce_weight: float = 1.0) -> None:
        super().__init__()
        self.weights = {"dice": dice_weight, "ce": ce_weight}
        self.dice = DiceLoss(sigmoid=True)
        self.ce = torch.nn.BCEWithLogitsLoss()
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, output: torch.Tensor | Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The weighted sum.

        Args:
            output: logits (B, 1, H, W), or the dictionary of a network in training with them under ``"pred"``.
            target: mask (B, 1, H, W) of zeros and ones.
        """
        logits = output["pred"] if isinstance(output, Mapping) else output
        # half-precision logits would lose small probabilities in the sums of the Dice term
        logits, target = logits.float(), target.float()
        self.terms = {"dice": self.dice(logits, target), "ce": self.ce(logits, target)}
        return sum(self.weights[name] * term for name, term in self.terms.items())
