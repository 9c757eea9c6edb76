"""The encoder of U-KAN (Li et al., AAAI 2025, arXiv 2406.02918): convolutions first, KAN on tokens at the deep stages.

Each stage halves the grid. A convolutional one: twice (conv 3 × 3, batch norm, ReLU), max pool 2. A KAN one: conv 3 × 3
of stride 2 and layer norm ("patch embedding"), one Tok-KAN block, layer norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from common.errors import UserError
from common.networks.blocks.kan import KANLinear
from common.networks.checkpoints import read_weights

PREFIX = "image_encoder."  # of its names in the weights of a network that it is part of
STAGE_ONE = "project.weight"  # W_v, which no weights but those of stage I have


class DoubleConv(nn.Sequential):
    """Conv 3 × 3 to ``middle`` channels and another to ``out_channels``, each with batch norm and ReLU.

    Args:
        in_channels: of the input.
        middle: channels between.
        out_channels: of the result.
    """

    def __init__(self, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, middle, kernel_size=3, padding=1), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, out_channels, kernel_size=3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(),
        )  # fmt: skip


class TokKAN(nn.Module):
    """x + f(LN x), f being three times: KAN layer of each token; depthwise conv 3 × 3, batch norm and ReLU on the grid.

    Args:
        channels: of the tokens.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.kans = nn.ModuleList(KANLinear(channels, channels) for _ in range(3))
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) to (B, channels, h, w)."""
        y = self.norm(x.movedim(1, -1))  # (B, h, w, channels)
        for kan, conv in zip(self.kans, self.convs, strict=True):
            y = conv(kan(y).movedim(-1, 1)).movedim(1, -1)
        return x + y.movedim(-1, 1)


class KANStage(nn.Module):
    """Patch embedding, one Tok-KAN block, layer norm.

    Args:
        in_channels: of the finer grid.
        out_channels: of the coarser one.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.embed_norm = nn.LayerNorm(out_channels)
        self.block = TokKAN(out_channels)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, 2h, 2w) to (B, out_channels, h, w)."""
        x = self.embed_norm(self.embed(x).movedim(1, -1)).movedim(-1, 1)
        return self.norm(self.block(x).movedim(1, -1)).movedim(-1, 1)


class UKAN(nn.Module):
    """Five stages, each half the grid of the one before. The defaults are U-KAN's: 3.507 M parameters.

    Args:
        widths: channels of the stages.
        kan_from: the first stage with KAN, counted from 0: 3 is U-KAN's, 0 makes all of them KAN, as many as there are
            stages none.
        stage_one: weights of a pretraining in which this encoder took part (its ``model.pt``); None for random ones.
            Those of stage II are refused: they have seen masks, and what came of them would pass as stage I's.

    Attributes:
        stride: pixels of the picture for each step of the deepest grid.

    Raises:
        UserError: the weights are not there, are not stage I's, or do not fit.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 128, 160, 256),
        kan_from: int = 3,
        stage_one: str | None = None,
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stride = 2 ** len(self.widths)
        self.stages = nn.ModuleList(
            KANStage(coarse, fine)
            if number >= kan_from
            else nn.Sequential(DoubleConv(coarse, fine, fine), nn.MaxPool2d(2))
            for number, (coarse, fine) in enumerate(zip((3, *self.widths), self.widths, strict=False))
        )
        if stage_one is not None:
            self._load(Path(stage_one))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1 or 3, H, W) to the stages' maps, (B, widths[ℓ], H/2^(ℓ+1), W/2^(ℓ+1)); one channel counts as grey."""
        x, maps = image.expand(-1, 3, -1, -1), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(
                f"{path}: there are no weights of stage I; make them with the bundle's configs/pretrain.json, or train "
                f"without them: leave image_checkpoint out"
            )
        given = read_weights(path)
        given = given if isinstance(given, Mapping) else {}
        if "_run" in given:
            raise UserError(f"{path}: this is last.pt of a run; give its model.pt")
        own = self.state_dict()
        part = {key.removeprefix(PREFIX): value for key, value in given.items() if key.startswith(PREFIX)}
        if STAGE_ONE not in given:
            trained = any(key.startswith("stages.") for key in part)
            kind = "weights of stage II, which have seen masks" if trained else "no weights of stage I"
            raise UserError(f"{path}: these are {kind}; give the model.pt that the bundle's configs/pretrain.json made")
        differ = sorted(key for key in own.keys() | part.keys() if _shape(own, key) != _shape(part, key))
        if differ:
            raise UserError(
                f"{path}: these weights of stage I are of another encoder ('{PREFIX}{differ[0]}' has shape "
                f"{_shape(part, differ[0])}, expected {_shape(own, differ[0])}); give those that were trained with the "
                f"same image_encoder and overlay"
            )
        self.load_state_dict(part)


def _shape(state: dict[str, torch.Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None
