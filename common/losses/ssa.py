"""The loss of SSA: segmentation, alignment at two granularities (DSOT), directional guidance (CDG)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from common.errors import UserError

from .contrastive import masked_mean, same_sentence, symmetric_infonce
from .guidance import guidance, guide_loss
from .supervised import Supervised
from .transport import transport_loss


class SSALoss(torch.nn.Module):
    """L = DiceCE + λ_global·L_global + λ_local·L_local + λ_guide·L_guide (SSA, eq. 2 and 4).

    The paper gives neither the segmentation loss nor the weights nor τ and β; the defaults are this project's. A part
    with weight 0 is not computed: 0, 0, 0 is the baseline, ``global_weight`` and ``local_weight`` 0 leaves CDG,
    ``guide_weight`` 0 leaves DSOT. ``terms`` also holds ``guided``, the share of images that had a guide.

    Args:
        global_weight: λ_global, of the symmetric InfoNCE of whole images and sentences.
        local_weight: λ_local, of the optimal transport between image tokens and words.
        guide_weight: λ_guide, of the guidance.
        guide_from: first epoch (from 0) with guidance: before, the attention says nothing yet.
        temperature: τ of the InfoNCE.
        same_sentence_is_positive: images of the batch with the same sentence are positives of each other; False is the
            plain InfoNCE, which pushes them apart.
        epsilon: ε of the transport, the paper's.
        max_iterations: of Sinkhorn's iteration, the paper's.
        tolerance: at which it stops, the paper's.
        beta: β, share of the guide in the refined pseudo-target.
        box_relative: lay the zones into the attention's box instead of cutting them at it.
        suppress_only: the pseudo-target only takes away what lies outside the named places, wherever the attention is.
        dice_weight: of the Dice term.
        ce_weight: of the cross-entropy.
    """

    def __init__(
        self,
        global_weight: float = 0.1,
        local_weight: float = 0.02,
        guide_weight: float = 0.1,
        guide_from: int = 5,
        temperature: float = 0.07,
        same_sentence_is_positive: bool = True,
        epsilon: float = 0.03,
        max_iterations: int = 100,
        tolerance: float = 1e-2,
        beta: float = 0.5,
        box_relative: bool = False,
        suppress_only: bool = False,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = {"global": global_weight, "local": local_weight, "guide": guide_weight}
        self.guide_from = guide_from
        self.temperature, self.same_sentence_is_positive = temperature, same_sentence_is_positive
        self.transport = {"epsilon": epsilon, "max_iterations": max_iterations, "tolerance": tolerance}
        self.beta, self.box_relative, self.suppress_only = beta, box_relative, suppress_only
        self.supervised = Supervised(dice_weight, ce_weight)
        self.epoch = 0
        self.terms: dict[str, torch.Tensor] = {}

    def set_epoch(self, epoch: int) -> None:
        """The epoch that begins, from 0."""
        self.epoch = epoch

    def forward(self, output: Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The weighted sum.

        Args:
            output: of :class:`common.networks.ssa.SSA` in train mode.
            target: (B, 2, H, W): the mask, and the prior of the position words, both warped as the image.

        Raises:
            UserError: guidance is wanted, but the target holds no prior.
        """
        if self.weights["guide"] and target.shape[1] != 2:
            raise UserError(
                f"SSALoss: the label has {target.shape[1]} channels, expected the mask and the prior of the "
                f"position words; keep PositionPriord in train::random_transforms, or set loss::guide_weight 0"
            )
        loss = self.supervised(output, target[:, :1])
        self.terms = dict(self.supervised.terms)
        parts: dict[str, torch.Tensor] = {}
        if self.weights["global"]:
            parts["global"] = self._global(output)
        if self.weights["local"]:
            tokens = (output[key] for key in ("image_tokens", "word_tokens", "words"))
            parts["local"] = transport_loss(*tokens, **self.transport)
        if self.weights["guide"] and self.epoch >= self.guide_from:
            guides = guidance(output["attention"], target[:, 1], self.box_relative)
            parts["guide"] = guide_loss(output["pred"], guides, self.beta, self.suppress_only)
            self.terms["guided"] = guides.active.float().mean()
        self.terms |= parts
        return loss + sum(self.weights[name] * part for name, part in parts.items())

    def _global(self, output: Mapping[str, torch.Tensor]) -> torch.Tensor:
        text, words = output["text"], output["words"]
        image_tokens, word_tokens = (
            F.normalize(output[key].float(), dim=-1) for key in ("image_tokens", "word_tokens")
        )
        same = same_sentence(text) if self.same_sentence_is_positive else torch.eye(len(text), device=text.device) > 0
        return symmetric_infonce(image_tokens.mean(dim=1), masked_mean(word_tokens, words), same, self.temperature)
