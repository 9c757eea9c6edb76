"""BiCLIP: "Bidirectional and Consistent Language-Image Processing for Robust Medical Image Segmentation" (2026).

Paper: Talaei et al., arXiv 2603.00156, and its released code; its ancestor EF-UNet: Chai et al., arXiv 2510.12482.

The paper's parts, in the code:
    frozen CXR-BERT, one row t of a sentence ......... :class:`SentenceMean`, ``projection``
    eq. 1, bidirectional fusion t' = t + g([t; i]) ... :class:`Fusion`
    pseudo-image generator, x̂ of t' .................. :class:`Generator`
    eq. 2, image-to-text head, t̂ = h(x̂) .............. ``cycle``; the distance in :mod:`common.losses.biclip`
    eq. 3, geometric augmentation A_g ................ :class:`common.networks.blocks.augmentation.RandomGeometry`
    eq. 4, views A_w, A_s, N_p ....................... :mod:`common.networks.blocks.augmentation`, :meth:`BiCLIP.views`
    eq. 5, shared U-Net F and eq. 7, its 1×1 out ..... :class:`UNet`
    eq. 6, projections p_w, p_s ...................... ``consistency``; the distance in :mod:`common.losses.biclip`
    eq. 8, the loss .................................. :class:`common.losses.BiCLIPLoss`

A training step: t, t', x̂ of the picture as it is; picture and x̂ flipped, turned, scaled and shifted by one θ; a
weak and a strong view of the picture, each with the same x̂, through the U-Net. The loss warps the mask by θ. The
sentence is not edited when the picture is flipped, and is right all the same: x̂ is made of sentence and picture
before, and is flipped with the picture; the U-Net sees the sentence in x̂ alone. A_g must stay behind the generator.

Open in the paper, and what was chosen: the network's input is the picture in 0..1 (the chain's last normalisation is
off), of which the released code's image encoder gets the raw values and its U-Net ImageNet's. One channel is said
three times. All that the paper does not number is the released code's: layers, views, where gradients stop. The strong
view gives p_s alone, through which no gradient goes, so its pass keeps no graph; weak first, batch norms in train mode:
gradients and running statistics are those of two passes with graphs. The mean over words leaves padding out
(``pool="valid"``), so logits do not depend on its length; the released code's takes all of 32 places (``"all"``).
784 = 28² is 224²/8²: at other sizes the 28 × 28 map is resized (bilinear) to an eighth of the picture, so weights fit
every size. Flips and affine map are one matrix and one interpolation, where kornia makes three.

EF-UNet is this network without ``fusion``, ``cycle`` and ``consistency``.

Parameters at the paper's sizes: U-Net 31.04 M, projection 1.22 M, fusion 1.43 M and its image encoder 0.15 M, cycle
0.07 M, consistency 0.017 M, generator 0.0027 M; 33.93 M, EF-UNet 32.26 M.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import nn

from common.errors import UserError
from common.networks.base import TextNetwork, is_exporting
from common.networks.blocks.augmentation import Appearance, ImageNetNormalise, RandomGeometry, warp
from common.networks.text import BertText, FrozenText

_RELEASED_LENGTH = 32  # tokens to which the released code pads
_GENERATOR_SCALE = 8


class SentenceMean(nn.Module):
    """One row of a sentence: the mean of its words' states in each layer that the encoder gives, then of the layers.

    Args:
        encoder: ids (B, L) to states (B, layers, L, width).
        pool: "valid", the mean over the tokens of the sentence; "all", over its tokens and padding to 32 places, as
            in the released code (a longer sentence is not cut).

    Raises:
        UserError: no such pool.
    """

    def __init__(self, encoder: BertText, pool: str = "valid") -> None:
        super().__init__()
        if pool not in ("valid", "all"):
            raise UserError(f"BiCLIP: pool '{pool}', expected valid or all")
        self.encoder, self.pool = encoder, pool

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L), padded with 0, to (B, width)."""
        if self.pool == "all":
            # a graph must hold no choice by the sentence's length
            length = self.encoder.max_length if is_exporting() else max(ids.shape[1], _RELEASED_LENGTH)
            ids = F.pad(ids, (0, length))[:, :length]
        counted = ids != 0
        if self.pool == "all":
            counted = counted | (torch.arange(ids.shape[1], device=ids.device) < _RELEASED_LENGTH)
        states = self.encoder(ids)  # (B, layers, L, width)
        weights = counted[:, None, :, None].to(states.dtype)
        return ((states * weights).sum(dim=2) / weights.sum(dim=2)).mean(dim=1)


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.GELU(), nn.Linear(outputs, outputs)
    )  # fmt: skip


def _pooled(widths: Sequence[int]) -> nn.Sequential:
    """3×3 convolutions with ReLU on a picture (B, 3, H, W), and the mean over it: (B, widths[-1])."""
    convolutions = [
        layer for a, b in pairwise((3, *widths)) for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Fusion(nn.Module):
    """Equation 1: the picture's row i refines the sentence's, t' = t + g([t; i]).

    Args:
        width: of t.
        image_widths: channels of the image encoder; the last is the width of i.
    """

    def __init__(self, width: int, image_widths: Sequence[int]) -> None:
        super().__init__()
        self.image_encoder = _pooled(image_widths)
        self.mlp = _mlp(width + image_widths[-1], width)

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """T (B, width) and the picture (B, 3, H, W) in 0..1 to t' (B, width)."""
        return t + self.mlp(torch.cat((t, self.image_encoder(x)), dim=1))


class Generator(nn.Module):
    """The pseudo-image: t' as a map, and three transposed convolutions of stride 2.

    Args:
        size: rows and columns of the map, an eighth of the picture's at training.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(1, 16, 4, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, t: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """T' (B, size²) to x̂ (B, 3, H, W) in 0..1, of ``shape`` (H, W)."""
        latent = t.reshape(-1, 1, self.size, self.size)
        grid = [n // _GENERATOR_SCALE for n in shape]
        return self.layers(F.interpolate(latent, grid, mode="bilinear", align_corners=False))


class UNet(nn.Module):
    """A U-Net of MONAI's parts: two convolutions a level, batch norm, maximum, transposed convolution.

    Args:
        in_channels: of the input.
        widths: channels of each level, from the picture's size down.
        dropout: in every convolution.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        parts = {"act": ("relu", {"inplace": True}), "norm": "batch", "bias": False, "dropout": dropout}
        levels = list(pairwise(widths))
        self.first = TwoConv(2, in_channels, widths[0], **parts)
        self.down = nn.ModuleList(Down(2, fine, coarse, **parts) for fine, coarse in levels)
        self.up = nn.ModuleList(UpCat(2, coarse, fine, fine, **parts, is_pad=False) for fine, coarse in levels[::-1])
        self.out = nn.Conv2d(widths[0], 1, kernel_size=1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Equation 5, F: (B, in_channels, H, W) to (B, widths[0], H, W)."""
        maps = [self.first(_channels_last(x))]
        for down in self.down:
            maps.append(down(maps[-1]))
        f = maps.pop()
        for up in self.up:
            f = up(f, maps.pop())
        return f


class Projection(nn.Module):
    """The IAC head: mean over the map, a linear layer, layer norm."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, width), nn.LayerNorm(width))

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        """Features (B, channels, H, W) to p (B, width)."""
        return self.layers(f.mean(dim=(2, 3)))


class BiCLIP(TextNetwork):
    """BiCLIP. Height and width must be multiples of 16 (2 to the number of the U-Net's levels less one; at least 8).

    Args:
        text_encoder: frozen here; the layers that it gives are averaged (released code: the first, second, last).
        default_text: ids of the default sentence.
        in_channels: channels of the image, 1 or 3, in 0..1.
        latent_size: side of t' as a map: an eighth of the pictures' in training.
        widths: channels of the U-Net's levels.
        image_widths: channels of the image encoder of the fusion.
        cycle_widths: channels of the image-to-text head.
        consistency_width: of p_w and p_s.
        fusion: whether the picture refines the sentence's row (eq. 1).
        cycle: whether t̂ is made in training (eq. 2).
        consistency: whether there is a strong view in training (eq. 6).
        pool: of :class:`SentenceMean`.
        geometry: A_g.
        dropout: of the U-Net.
    """

    def __init__(
        self,
        text_encoder: BertText,
        default_text: Sequence[int],
        in_channels: int = 1,
        latent_size: int = 28,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        image_widths: Sequence[int] = (64, 256),
        cycle_widths: Sequence[int] = (32, 64),
        consistency_width: int = 256,
        fusion: bool = True,
        cycle: bool = True,
        consistency: bool = True,
        pool: str = "valid",
        geometry: RandomGeometry | None = None,
        dropout: float = 0.0,
    ) -> None:
        divisible_by = max(_GENERATOR_SCALE, 2 ** (len(widths) - 1))
        super().__init__(in_channels, divisible_by, default_text, text_encoder.vocab_size, text_encoder.max_length)
        width = latent_size**2
        self.text_encoder = FrozenText(SentenceMean(text_encoder, pool))
        self.projection = _mlp(text_encoder.width, width)
        self.fusion = Fusion(width, image_widths) if fusion else None
        self.generator = Generator(latent_size)
        self.cycle = nn.Sequential(*_pooled(cycle_widths), nn.Linear(cycle_widths[-1], width)) if cycle else None
        self.geometry = geometry or RandomGeometry()
        self.normalise = ImageNetNormalise()
        self.unet = UNet(6, widths, dropout)
        self.consistency = Projection(widths[0], consistency_width) if consistency else None

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """``"pred"``, logits (B, 1, H, W); in train mode of the warped picture, and what the loss needs beside it.

        That is: ``theta`` (B, 2, 3); ``image`` (B, 3, H, W) and ``generated`` x̂ (B, 3, H, W), both before the warp;
        ``text`` t and ``cycle`` t̂ (B, latent_size²) with cycle; ``weak`` p_w and ``strong`` p_s (B,
        consistency_width) with consistency.
        """
        x = _channels_last(image.expand(-1, 3, -1, -1))  # (B, 3, H, W), 0..1
        t = self.projection(self.text_encoder(text))  # (B, latent_size²)
        refined = t if self.fusion is None else self.fusion(t, x)
        generated = self.generator(refined, x.shape[-2:])  # (B, 3, H, W)
        if not self.training:
            return {"pred": self.unet.out(self.unet.features(_joined(self.normalise(x), generated)))}
        theta = self.geometry(x)
        picture, pseudo = warp(torch.cat((x.float(), generated.float()), dim=1), theta).split(3, dim=1)
        weak = self.unet.features(_joined(self.normalise(picture), pseudo))  # f_w (B, widths[0], H, W)
        out = {"pred": self.unet.out(weak), "theta": theta, "image": x, "generated": generated}
        if self.cycle is not None:
            out |= {"text": t, "cycle": self.cycle(_channels_last(generated))}
        if self.consistency is not None:
            # weak first, also here: autocast keeps weights as it first cast them, and without a graph if that was under
            # no_grad
            out["weak"] = self.consistency(weak)
            with torch.no_grad():
                view = Appearance.draw(picture).apply(picture)
                out["strong"] = self.consistency(self.unet.features(_joined(self.normalise(view), pseudo)))
        return out


def _joined(picture: torch.Tensor, pseudo: torch.Tensor) -> torch.Tensor:
    """Equation 4: a view of the picture and N_p of the pseudo-image, (B, 6, H, W)."""
    return torch.cat((picture, (pseudo - 0.5) / 0.25), dim=1)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in the order in memory that convolutions are a third faster with."""
    return x if is_exporting() else x.contiguous(memory_format=torch.channels_last)
