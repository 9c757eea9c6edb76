"""The way back up to the pixels: U-Net steps and the subpixel head."""

from __future__ import annotations

import torch
from monai.networks.blocks import SubpixelUpsample
from torch import nn


class UpBlock(nn.Module):
    """Double the grid, join the skip, mix: ConvT 2×2, concatenation, conv 3×3, batch norm, ReLU.

    Args:
        in_channels: channels of the coarse map.
        out_channels: channels of the skip and of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * out_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) and (B, out_channels, 2h, 2w) to (B, out_channels, 2h, 2w)."""
        return self.mix(torch.cat((self.up(x), skip), dim=1))


class SubpixelHead(nn.Module):
    """Logits at the picture's size from a map ``scale`` times smaller (Aitken et al. 2017, arXiv 1707.02937).

    Conv 3×3 to (C/4)·scale² channels, pixel shuffle, zeros before the first row and column, mean over
    scale × scale, 1×1 conv to one channel. MONAI's block does all but the last.

    Args:
        in_channels: C, a multiple of 4.
        scale: the picture's size over the map's.
    """

    def __init__(self, in_channels: int, scale: int) -> None:
        super().__init__()
        self.up = SubpixelUpsample(2, in_channels, in_channels // 4, scale)
        self.out = nn.Conv2d(in_channels // 4, 1, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) to logits (B, 1, scale·h, scale·w)."""
        return self.out(self.up(x))
