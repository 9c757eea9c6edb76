"""ITCL, position-guided contrast of images and sentences (Semi-MedRef, arXiv 2605.15720, section 2.4 and eq. 9).

Of a batch, with L2-normalised embeddings û_i of images and ŵ_i of sentences, and y_i the zones that sentence i names:

    s_ij = û_i · ŵ_j / τ,   P_ij = |y_i ∧ y_j| / max(|y_i ∨ y_j|, 1),  P_ii = 1
    L = ½ [ mean_i −(Σ_j P_ij log softmax_j s_ij) / Σ_j P_ij  +  the same of sᵀ ]

P is the zones' Jaccard index: how much two sentences speak of the same places. The released code's 1e-6 in the divisor
is left out: P_ii = 1. With P = I this is CLIP's loss, the paper's compared row.
"""

from __future__ import annotations

import torch

from .contrastive import symmetric_infonce


def soft_positives(zones: torch.Tensor) -> torch.Tensor:
    """P (B, B) of zone bits (B, Z): sentences without a zone belong to their own image alone."""
    bits = zones > 0
    both = (bits[:, None] & bits[None]).sum(dim=2)
    either = (bits[:, None] | bits[None]).sum(dim=2).clamp(min=1)
    return (both / either).fill_diagonal_(1)


def itcl(image: torch.Tensor, text: torch.Tensor, zones: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    """The loss.

    Args:
        image: embeddings of the images (B, D), of any length.
        text: of the sentences (B, D).
        zones: bits of the zones that each sentence names, (B, Z).
        temperature: τ.
    """
    return symmetric_infonce(image, text, soft_positives(zones), temperature)
