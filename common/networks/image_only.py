"""A plain segmentation network behind the signature of the text-guided ones: the baseline of every table."""

from __future__ import annotations

import torch
from torch import nn

from common.networks.base import SegmentationNetwork


class ImageOnly(SegmentationNetwork):
    """Wrap a network ``image -> logits`` (any of MONAI's 2D ones); the sentence is ignored.

    Args:
        network: maps (B, in_channels, H, W) to logits (B, 1, H, W); its dropout is its own.
        in_channels: channels of the image, 1 or 3.
        divisible_by: height and width must be multiples of it (MONAI's U-Net: product of the strides).
    """

    def __init__(self, network: nn.Module, in_channels: int = 1, divisible_by: int = 1) -> None:
        super().__init__(in_channels, divisible_by)
        self.network = network

    def outputs(self, image: torch.Tensor, text: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """``{"pred": logits}`` of the image alone."""
        return {"pred": self.network(image)}
