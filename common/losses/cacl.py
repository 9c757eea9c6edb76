"""CaCL, cluster-aware contrast of C2Seg ("Towards Text-Mask Consistency in Medical Image Segmentation", eqs. 1-3).

In a batch of B pictures and their sentences, L2-normalised v_i and l_i, sentences that are alike share the target:

    M_ij = l_i · l_j,  M'_ij = max(M_ij − mean_k M_ik, 0),  Ŷ = softmax_j(M'/τ),  Y = ρ Ŷ + (1 − ρ) I        (1)
    s_ij = v_i · l_j,  L = −(1/B) Σ_ij [ Y_ij log softmax_j(s_ij/τ) + Y_ji log softmax_i(s_ij/τ) ]             (2)
    ∂L/∂s_ij = (softmax_j(s_ij/τ) − Y_ij + softmax_i(s_ij/τ) − Y_ji) / (Bτ)                                   (3)

The printed eq. 3 lacks the 1/B. ρ = 0 is the ordinary one-to-one contrast (Table 3's HardCL). A clipped M' of 0 still
weighs exp(0) = 1 in Ŷ; how much of Ŷ lies there, on sentences no more alike than the average, is logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


class CaCL(nn.Module):
    """Eq. 2 over the batch; over those of all processes where there are several.

    Args:
        temperature: τ.
        softness: ρ, the share of the target that goes by likeness; 0 for one-to-one.

    Attributes:
        terms: of the last call: ``to_text`` and ``to_image``, the halves of the sum; ``unrelated``, the mean share of
            Ŷ on clipped sentences, as eq. 1 has it even where ρ is 0.
    """

    def __init__(self, temperature: float = 0.07, softness: float = 0.8) -> None:
        super().__init__()
        self.temperature, self.softness = temperature, softness
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, output: Mapping[str, torch.Tensor], target: Any = None) -> torch.Tensor:
        """The loss.

        Args:
            output: ``"pred"`` (B, 2, D): v and l of each pair.
            target: of segmentation; not used.
        """
        pred = output["pred"]
        with torch.autocast(pred.device.type, enabled=False):
            pairs = F.normalize(pred.to(torch.promote_types(pred.dtype, torch.float32)), dim=2)
            images, sentences = gathered(pairs).unbind(dim=1)  # v and l, (B, D) each
            soft, unrelated = soft_labels(sentences.detach(), self.temperature)
            eye = torch.eye(len(soft), dtype=soft.dtype, device=soft.device)
            y = self.softness * soft + (1 - self.softness) * eye
            scores = images @ sentences.T / self.temperature  # s/τ (B, B)
            to_text = -(y * scores.log_softmax(dim=1)).sum() / len(soft)
            to_image = -(y.T * scores.log_softmax(dim=0)).sum() / len(soft)
        self.terms = {"to_text": to_text, "to_image": to_image, "unrelated": unrelated}
        return to_text + to_image


def soft_labels(sentences: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 1.

    Args:
        sentences: l (B, D), normalised.
        temperature: τ.

    Returns:
        Ŷ (B, B), whose rows sum to 1, and the mean over its rows of what lies on clipped entries.
    """
    likeness = sentences @ sentences.T
    above = F.relu(likeness - likeness.mean(dim=1, keepdim=True))
    soft = (above / temperature).softmax(dim=1)
    return soft, (soft * (above == 0)).sum(dim=1).mean()


def gathered(rows: torch.Tensor) -> torch.Tensor:
    """Rows (b, ...) of all processes, (B, ...), in their order; the rows themselves where there is one process.

    Every process must have as many, and compute the same loss of all of them: the gradient of its own rows is then
    multiplied by the number of processes, by which ``DistributedDataParallel`` divides again.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    return _Gather.apply(rows)


class _Gather(torch.autograd.Function):
    """All rows forward, the gradient of one's own backward."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        first = dist.get_rank() * ctx.count
        return grad[first : first + ctx.count] * dist.get_world_size()
