"""Contrast of images and sentences: symmetric InfoNCE, also where several images of a batch share one sentence.

Sources: van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018); several positives as
in Khosla et al., "Supervised Contrastive Learning" (2020), eq. 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def same_sentence(text: torch.Tensor) -> torch.Tensor:
    """Which sentences of a batch are the same words: ids (B, L) to (B, B) bool."""
    return (text[:, None, :] == text[None, :, :]).all(dim=-1)


def symmetric_infonce(
    image: torch.Tensor, text: torch.Tensor, positives: torch.Tensor, temperature: float = 0.07
) -> torch.Tensor:
    """Mean of both directions of −(1/|P(i)|) Σ_{p∈P(i)} log softmax_p(cos(i, ·)/τ).

    With the diagonal alone as positives this is the plain InfoNCE.

    Args:
        image: a vector an image, (B, D).
        text: a vector a sentence, (B, D).
        positives: (B, B), symmetric; True where image i and sentence j belong together, the diagonal too. Or how much
            they do, 0 to 1: then each counts by its share (:mod:`common.losses.itcl`).
        temperature: τ.
    """
    with torch.autocast(device_type=image.device.type, enabled=False):
        exact = torch.promote_types(image.dtype, torch.float32)
        scores = F.normalize(image.to(exact), dim=1) @ F.normalize(text.to(exact), dim=1).T / temperature  # (B, B)
        share = positives.to(exact) / positives.sum(dim=1, keepdim=True)
        losses = [-(share * F.log_softmax(s, dim=1)).sum(dim=1).mean() for s in (scores, scores.T)]
        return (losses[0] + losses[1]) / 2


def masked_mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the tokens (B, L, D) at which ``mask`` (B, L) is True: (B, D)."""
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1)
