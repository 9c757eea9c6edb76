"""A convolution whose kernel each sample brings along, such as one made of its sentence."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def correlate(maps: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """S = W ∗ F + b with another W and b for each sample, zeros around the map, to one channel.

    One matrix product gives the K² maps Σ_i W[i, a, b]·F[i]; shifted by their a and b they are added. The usual form, a
    grouped convolution with one group a sample, does not export with a free batch size.

    Args:
        maps: F, (B, C, H, W).
        kernels: W, (B, C, K, K), K odd.
        bias: b, (B,).

    Returns:
        S, (B, 1, H, W).
    """
    (height, width), size = maps.shape[-2:], kernels.shape[-1]
    reach = size // 2
    scores = kernels.flatten(2).transpose(1, 2) @ maps.flatten(2)  # (B, K², H·W)
    padded = F.pad(scores.unflatten(2, (height, width)), (reach, reach, reach, reach))
    terms = (padded[:, size * a + b, a : a + height, b : b + width] for a in range(size) for b in range(size))
    return (sum(terms) + bias[:, None, None])[:, None]
