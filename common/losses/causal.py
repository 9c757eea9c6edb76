"""The min-max game of CausalCLIPSeg (Chen et al., MICCAI 2024, eq. 3 and 4) on the logits of its two decoders.

L_c and L_s are binary cross-entropies of D_c(τ, F^c) and D_s(τ, F^s) with the ground truth, means over all pixels. The
paper minimises L = L_c − λ L_s over the entire model. Read literally D_s too is then trained to be wrong, and −L_s has
no lower bound. So there are three ways to play:

- ``literal``: L = L_c − λ min(L_s, 5 ln 2), one optimiser for all. The clamp, on the batch's mean, is ours: beyond it
  the confounding stream gives no gradient.
- ``grl``: L = L_c + L_s, with the gradient of F^s and τ reversed and multiplied by λ in the network: D_s tries to be
  right, masks and encoders try to leave it nothing to go by.
- ``uniform``: L = L_c + λ·BCE(D_s, ½): from the confounding stream nothing can be told. It is bounded.

``none`` is L_c alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from common.errors import UserError

CLAMP = 5 * math.log(2)
MODES = ("none", "literal", "grl", "uniform")


class CausalGame(torch.nn.Module):
    """L_c and the other player's share; see the head of this file.

    Args:
        mode: "literal", "grl", "uniform" or "none"; the network's ``game``.
        weight: λ of "literal" and "uniform". (That of "grl" is the network's ``weight``.)

    Attributes:
        terms: of the last call: ``causal`` L_c, ``confounding`` L_s (against the ground truth, in each mode), and in
            "literal" ``clamped``, 1 where L_s was at the clamp; its mean over an epoch is the share of such steps.

    Raises:
        UserError: no such mode; or, when called, the network plays none.
    """

    def __init__(self, mode: str = "literal", weight: float = 0.05) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f"CausalGame: mode '{mode}', expected one of {', '.join(MODES)}")
        self.mode, self.weight = mode, weight
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, output: Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The loss.

        Args:
            output: of the network in training: logits (B, 1, H, W) ``"pred"`` and, but for "none", ``"confounding"``.
            target: mask (B, 1, H, W) of zeros and ones.
        """
        target = target.float()
        causal = F.binary_cross_entropy_with_logits(output["pred"].float(), target)
        self.terms = {"causal": causal}
        if self.mode == "none":
            return causal
        if "confounding" not in output:
            raise UserError(
                f"CausalGame: mode '{self.mode}', but the network has no second decoder; give its 'game' the same value"
            )
        logits = output["confounding"].float()
        confounding = F.binary_cross_entropy_with_logits(logits, target)
        self.terms["confounding"] = confounding
        if self.mode == "grl":
            return causal + confounding
        if self.mode == "uniform":
            return causal + self.weight * F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.5))
        self.terms["clamped"] = (confounding >= CLAMP).float()
        return causal - self.weight * confounding.clamp(max=CLAMP)
