"""ConvNeXt (Liu et al. 2022, arXiv 2201.03545) of ``transformers``, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import ConvNextConfig, ConvNextModel

from common.networks.checkpoints import load_pretrained


class ConvNeXt(nn.Module):
    """Four stages, each half the grid of the one before. The defaults are ConvNeXt-T: 27.820 M parameters.

    Args:
        pretrained: "facebook/convnext-tiny-224" or a folder with that checkpoint; None for random weights.
        widths: channels of the four stages.
        depths: blocks of the four stages.
        patch_size: stride of the stem, pixels; 2 gives pictures of 112² the grids of 224².
        layer_scale: initial factor of each block's branch. 1e-6 suits long training.
        drop_path: rate of stochastic depth at the last block, linear from 0 at the first.

    Raises:
        UserError: the checkpoint is missing or does not fit.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        widths: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (3, 3, 9, 3),
        patch_size: int = 4,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        config = ConvNextConfig(
            num_channels=3,
            patch_size=patch_size,
            hidden_sizes=list(widths),
            depths=list(depths),
            layer_scale_init_value=layer_scale,
            drop_path_rate=drop_path,
        )
        self.widths = tuple(widths)
        self.patch_size = patch_size
        self.model = ConvNextModel(config)
        if pretrained is not None:
            load_pretrained(self.model, pretrained, prefix="convnext.")

    @property
    def stride(self) -> int:
        """Pixels of the picture for each step of the deepest grid."""
        return self.patch_size * 2 ** (len(self.widths) - 1)

    @property
    def stages(self) -> nn.ModuleList:
        """The stages; from the second on, each begins with its downsampling."""
        return self.model.encoder.stages

    def stem(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1 or 3, H, W) to (B, widths[0], H/patch_size, W/patch_size); one channel counts as grey."""
        return self.model.embeddings(image.expand(-1, 3, -1, -1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The maps after each stage: (B, widths[i], H/(patch_size·2ⁱ), W/(patch_size·2ⁱ))."""
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Mean over the grid of a deepest map, normalised: (B, widths[-1], h, w) to (B, widths[-1])."""
        return self.model.layernorm(x.mean(dim=(-2, -1)))
