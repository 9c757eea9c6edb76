"""CLIP's modified ResNet with attention pooling (Radford et al. 2021, arXiv 2103.00020, section 2.4), as a backbone.

Names of parameters are OpenAI's, below ``visual.``, so that their checkpoints load; what they do not have is
``attnpool.connect``. Modified against ResNet: a stem of three convolutions, average pooling before each strided
convolution, and at the end attention in the place of the global mean.

Used for dense maps as in CRIS (Wang et al. 2022, arXiv 2111.15174), from which CausalCLIPSeg has its encoder: the
attention pool maps every cell instead of the mean alone, without the token of the mean (so the first position gets no
gradient), its positions resized to the grid, and a 1×1 convolution with batch norm around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from common.networks.clip_checkpoint import load_clip

# of pictures in 0..1, by channel; OpenAI's preprocessing
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "rn101": {"layers": (3, 4, 23, 3), "width": 64, "output_dim": 512},
    "small": {"layers": (2, 2, 4, 2), "width": 32, "output_dim": 256},
}


class Bottleneck(nn.Module):
    """1×1, 3×3, average pooling by the stride, 1×1 to four times the channels; a shortcut around them.

    Args:
        in_channels: of the map.
        channels: inside; the result has four times as many.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or in_channels != 4 * channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, 4 * channels, kernel_size=1, bias=False), nn.BatchNorm2d(4 * channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) to (B, 4·channels, h/stride, w/stride)."""
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn2(self.conv2(out)).relu()
        out = self.bn3(self.conv3(self.pool(out)))
        return (out + (x if self.downsample is None else self.downsample(self.pool(x)))).relu()


class AttentionPool(nn.Module):
    """Every cell looks at all cells; a 1×1 convolution around it: ReLU(attention(x + positions) + BN(conv(x))).

    Args:
        channels: of the map.
        heads: divides ``channels``.
        output_dim: channels of the result.
        grid: rows and columns that there are positions for; others are resized bicubically.
    """

    def __init__(self, channels: int, heads: int, output_dim: int, grid: int) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        # the first is that of CLIP's mean token
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, channels) / channels**0.5)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.c_proj = nn.Linear(channels, output_dim)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=channels**-0.5)
        self.connect = nn.Sequential(
            nn.Conv2d(channels, output_dim, kernel_size=1, bias=False), nn.BatchNorm2d(output_dim)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) to (B, output_dim, h, w)."""
        positions = self.positional_embedding[1:].T.unflatten(1, (self.grid, self.grid))[None]
        positions = F.interpolate(positions, x.shape[-2:], mode="bicubic")  # (1, channels, h, w)
        cells = (x + positions).flatten(2).transpose(1, 2)  # (B, h·w, channels)
        q, k, v = (
            layer(cells).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, h·w, d)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        looked = self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # (B, h·w, output_dim)
        return (looked.transpose(1, 2).unflatten(2, x.shape[-2:]) + self.connect(x)).relu()


class ClipResNet(nn.Module):
    """The maps F2, F3 and F4 of a picture, at an 8th, a 16th and a 32nd of its size.

    Args:
        architecture: "rn101" (OpenAI's RN101), "small", or a mapping with ``layers`` (blocks of the four stages),
            ``width`` (channels of the stem; a multiple of 2) and ``output_dim``. Heads have 64 channels as in CLIP, or
            there is one.
        pretrained: a file of OpenAI's (``RN101.pt``), a folder with one, or a Hugging Face name such as
            "timm/resnet101_clip.openai"; None for random weights.
        stem_stride: 4, or 2 without the stem's pooling: then pictures of 112² have the grids of 224².
        grid: rows and columns of the positions, 7 in CLIP's ResNets.

    Attributes:
        widths: channels of F2, F3 and F4.
        stride: pixels of the picture for each step of F4's grid.

    Raises:
        UserError: no such architecture or stride; the checkpoint is missing or does not fit.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "small",
        pretrained: str | None = None,
        stem_stride: int = 4,
        grid: int = 7,
    ) -> None:
        super().__init__()
        if isinstance(architecture, str):
            if architecture not in ARCHITECTURES:
                known = ", ".join(ARCHITECTURES)
                raise UserError(f"image encoder: architecture '{architecture}', expected one of {known}, or its sizes")
            architecture = ARCHITECTURES[architecture]
        if stem_stride not in (2, 4):
            raise UserError(f"image encoder: stem_stride {stem_stride}, expected 2 or 4")
        layers, width, output_dim = (architecture[key] for key in ("layers", "width", "output_dim"))
        self.widths = (8 * width, 16 * width, output_dim)
        self.stride = 8 * stem_stride
        self.conv1 = nn.Conv2d(3, width // 2, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, kernel_size=3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(2) if stem_stride == 4 else nn.Identity()
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, layers[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, layers[3], stride=2)
        self.attnpool = AttentionPool(32 * width, max(1, width // 2), output_dim, grid)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        if pretrained is not None:
            load_clip(self, pretrained, prefix="visual.", ours=("attnpool.connect.",))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """F2, F3, F4 of pictures (B, 1 or 3, H, W) in 0..1; one channel counts as grey."""
        x = (image - self.mean) / self.std  # (B, 3, H, W)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        x = self.pool(self.bn3(self.conv3(x)).relu())  # (B, width, H/stem, W/stem)
        second = self.layer2(self.layer1(x))  # (B, 8·width, H/2·stem, W/2·stem)
        third = self.layer3(second)  # (B, 16·width, H/4·stem, W/4·stem)
        return [second, third, self.attnpool(self.layer4(third))]


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Bottlenecks, the first with the stride. Each begins as its shortcut: the last norm's weight is 0, as CLIP's."""
    stage = nn.Sequential(
        *(Bottleneck(4 * channels if i else in_channels, channels, 1 if i else stride) for i in range(blocks))
    )
    for block in stage:
        nn.init.zeros_(block.bn3.weight)
    return stage
