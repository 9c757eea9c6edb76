"""CARAFE: "Content-Aware ReAssembly of FEatures" (Wang et al., ICCV 2019, arXiv 1905.02188), in a form that exports.

Eq. 2, with the kernels of eq. 1 and 3: an output pixel l' is the sum over the k × k neighbours of its source pixel
l = ⌊l'/σ⌋, each weighted by a kernel that was predicted for l' and sums to 1. The usual form gathers neighbours by
``unfold`` or an operator of its own; here each of the k² shifted maps is a slice of the padded one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Carafe(nn.Module):
    """Upsample by predicted kernels, then a 1×1 convolution (as CausalCLIPSeg's released code has it).

    Args:
        channels: of the map and of the result; a multiple of 4, to a quarter of them kernels are compressed.
        factor: σ, the result's size over the map's.
        kernel: k, odd: neighbours that a pixel is made of.
    """

    def __init__(self, channels: int, factor: int = 2, kernel: int = 3) -> None:
        super().__init__()
        self.factor = factor
        self.kernel = kernel
        self.compress = nn.Conv2d(channels, channels // 4, kernel_size=1)
        self.encode = nn.Conv2d(channels // 4, (factor * kernel) ** 2, kernel_size=3, padding=1)
        self.out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) to (B, channels, σ·h, σ·w)."""
        kernels = F.pixel_shuffle(self.encode(self.compress(x)), self.factor)  # (B, k², σ·h, σ·w)
        return self.out(reassemble(x, kernels.softmax(dim=1), self.factor, self.kernel))


def reassemble(x: torch.Tensor, kernels: torch.Tensor, factor: int, kernel: int) -> torch.Tensor:
    """Σ over a, b of kernels[k·a + b] ⊙ (x shifted by a − ⌊k/2⌋ rows and b − ⌊k/2⌋ columns, then each pixel σ × σ).

    Shifting comes before upsampling: neighbours are those of the coarse grid.

    Args:
        x: (B, C, h, w); zeros around it.
        kernels: (B, k², σ·h, σ·w).
        factor: σ.
        kernel: k, odd.

    Returns:
        (B, C, σ·h, σ·w).
    """
    height, width = x.shape[-2:]
    reach = kernel // 2
    padded = F.pad(x, (reach, reach, reach, reach))[..., :, None, :, None]  # (B, C, h + k - 1, 1, w + k - 1, 1)
    # broadcasting over the σ × σ pixels of each source pixel is nearest upsampling
    kernels = kernels.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))  # (B, k², h, σ, w, σ)
    terms = (
        padded[:, :, a : a + height, :, b : b + width] * kernels[:, None, kernel * a + b]
        for a in range(kernel)
        for b in range(kernel)
    )
    return sum(terms).flatten(4, 5).flatten(2, 3)
