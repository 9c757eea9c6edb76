"""The loss of Semi-MedRef (arXiv 2605.15720, eq. 2, 4 and 5), of labelled and unlabelled images at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from common.errors import UserError

from .contrastive import symmetric_infonce
from .itcl import itcl
from .supervised import Supervised

ALIGNMENTS = ("itcl", "clip")


class SemiMedRefLoss(torch.nn.Module):
    """L = L_sup + a_l·L_ITCL^l + λ(t)·[L_unsup + a_u·L_ITCL^u].

    L_sup and L_unsup are Dice and cross-entropy, the first against masks, the second against the teacher's answers.
    λ is 0 for epochs (from 0) up to ``burn_in`` and rises linearly to ``weight`` over the ``ramp`` epochs after it;
    while it is 0 the trainer does not touch unlabelled images. As in the released code the unlabelled alignment stands
    inside of λ; the paper's words allow either.

    Args:
        weight: of the unlabelled part when fully risen; 0 trains on labelled images alone.
        burn_in: epochs.
        ramp: epochs.
        align_weight: a_l, of the alignment of labelled images.
        align_unlabelled_weight: a_u.
        alignment: "itcl", or "clip" in which every other sentence is a negative.
        temperature: τ of the alignment.
        dice_weight: of the Dice terms.
        ce_weight: of the cross-entropies; 0 is the released code, see :class:`common.losses.Supervised`.

    Attributes:
        terms: of the last call: ``dice``, ``ce``, ``align``; with unlabelled images also ``unsupervised``,
            ``align_unlabelled``, ``lesion`` (share of the teacher's answer that is lesion) and ``mixed`` (share of the
            images whose target an augmentation of the batch has changed); ``weight``, which is λ, 0 without unlabelled
            images.

    Raises:
        UserError: no such alignment.
    """

    def __init__(
        self,
        weight: float = 0.3,
        burn_in: int = 5,
        ramp: int = 15,
        align_weight: float = 0.02,
        align_unlabelled_weight: float = 0.1,
        alignment: str = "itcl",
        temperature: float = 0.07,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if alignment not in ALIGNMENTS:
            raise UserError(f"SemiMedRefLoss: alignment '{alignment}', expected one of {', '.join(ALIGNMENTS)}")
        self.weight, self.burn_in, self.ramp = weight, burn_in, ramp
        self.align_weight, self.align_unlabelled_weight = align_weight, align_unlabelled_weight
        self.alignment, self.temperature = alignment, temperature
        self.supervised, self.unsupervised = Supervised(dice_weight, ce_weight), Supervised(dice_weight, ce_weight)
        self.unlabelled_weight = 0.0
        self.terms: dict[str, torch.Tensor] = {}

    def set_epoch(self, epoch: int) -> None:
        """The epoch that begins, from 0: sets λ, ``unlabelled_weight``."""
        risen = (epoch - self.burn_in) / self.ramp if self.ramp else float(epoch >= self.burn_in)
        self.unlabelled_weight = self.weight * min(max(risen, 0.0), 1.0)

    def forward(self, output: Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The loss.

        Args:
            output: of :mod:`common.networks.semi_medref` in train mode: ``"pred"`` logits (B, 1, H, W),
                ``"image_embedding"`` and ``"text_embedding"`` (B, D), ``"zones"`` (B, Z) of the sentences. Of
                unlabelled images, if there are any, ``"strong_pred"`` and ``"pseudo"`` (b, 1, H, W), ``"mixed"`` (b,).
                And for their alignment ``"weak_image_embedding"``, ``"weak_text_embedding"`` and ``"weak_zones"``.
            target: masks (B, 1, H, W) of zeros and ones.
        """
        loss = self.supervised(output, target)
        self.terms = dict(self.supervised.terms)
        if self.align_weight:
            self.terms["align"] = self._align(output, "")
            loss = loss + self.align_weight * self.terms["align"]
        self.terms["weight"] = torch.tensor(self.unlabelled_weight if "strong_pred" in output else 0.0)
        if "strong_pred" not in output:
            return loss
        pseudo = output["pseudo"]
        unlabelled = self.unsupervised(output["strong_pred"], pseudo)
        self.terms |= {"unsupervised": unlabelled, "lesion": pseudo.mean(), "mixed": output["mixed"].float().mean()}
        if self.align_unlabelled_weight:
            self.terms["align_unlabelled"] = self._align(output, "weak_")
            unlabelled = unlabelled + self.align_unlabelled_weight * self.terms["align_unlabelled"]
        return loss + self.unlabelled_weight * unlabelled

    def _align(self, output: Mapping[str, torch.Tensor], views: str) -> torch.Tensor:
        image, text, zones = (output[views + key] for key in ("image_embedding", "text_embedding", "zones"))
        if self.alignment == "itcl":
            return itcl(image, text, zones, self.temperature)
        return symmetric_infonce(image, text, torch.eye(len(image), device=image.device), self.temperature)
