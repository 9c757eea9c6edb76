"""BiCLIP's loss, equation 8 of arXiv 2603.00156, with the released code's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from common.errors import UserError
from common.losses.supervised import Supervised
from common.networks.blocks.augmentation import warp


class BiCLIPLoss(torch.nn.Module):
    """L = L_seg + λ_gen L_gen + λ_IAC L_IAC + λ_cycle L_cycle of what :class:`common.networks.biclip.BiCLIP` returns.

    - L_seg: Dice and cross-entropy of the weak branch's logits against the mask, warped as the picture was.
    - L_gen: mean |x̂ − g| before the warp. g, the "generated ground-truth signal", is the picture with all that is no
      lesion set to 0. It is made here from picture and mask, which gives the same as a transform that makes it.
    - L_IAC (eq. 6): 1 − cos(p_w, p_s); no gradient through p_s (in the released code; the paper does not say so).
    - L_cycle (eq. 2): the distance of t̂ from t; no gradient through t (released code). ``"l1"``, the mean of absolute
      differences, is the released code's, and what its weight is for. ``"mse_mean"`` is the paper's squared norm as a
      mean over the coordinates; their sum would be about a thousand times the weight's due.

    L_IAC and L_cycle are left out if the network has no such part.

    Args:
        gen_weight: λ_gen.
        consistency_weight: λ_IAC.
        cycle_weight: λ_cycle.
        cycle: "l1" or "mse_mean".
        dice_weight: of Dice in L_seg.
        ce_weight: of the cross-entropy in L_seg.

    Raises:
        UserError: no such distance.
    """

    def __init__(
        self,
        gen_weight: float = 0.1,
        consistency_weight: float = 0.05,
        cycle_weight: float = 0.07,
        cycle: str = "l1",
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
    ) -> None:
        super().__init__()
        distances = {"l1": F.l1_loss, "mse_mean": F.mse_loss}
        if cycle not in distances:
            raise UserError(f"BiCLIPLoss: cycle '{cycle}', expected one of {', '.join(distances)}")
        self.weights = {"gen": gen_weight, "consistency": consistency_weight, "cycle": cycle_weight}
        self.distance = distances[cycle]
        self.segmentation = Supervised(dice_weight, ce_weight)
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, output: Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The weighted sum.

        Args:
            output: of the network in train mode.
            target: mask (B, 1, H, W) of zeros and ones, as the picture is before the network warps it.
        """
        total = self.segmentation(output, warp(target, output["theta"], "nearest"))
        signal = output["image"] * target  # g (B, 3, H, W)
        terms = {"gen": F.l1_loss(output["generated"].float(), signal)}
        if "weak" in output:
            alike = F.cosine_similarity(output["weak"].float(), output["strong"].float().detach(), dim=1)
            terms["consistency"] = (1 - alike).mean()
        if "cycle" in output:
            terms["cycle"] = self.distance(output["cycle"].float(), output["text"].float().detach())
        self.terms = self.segmentation.terms | terms
        return total + sum(self.weights[name] * term for name, term in terms.items())
