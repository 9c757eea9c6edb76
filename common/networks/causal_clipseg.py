"""CausalCLIPSeg: "Unlocking CLIP's Potential in Referring Medical Image Segmentation ..." (MICCAI 2024).

Paper: Chen et al., doi 10.1007/978-3-031-72384-1_8; released code: github.com/WUTCM-Lab/CausalCLIPSeg.

The paper's parts, in the code:
    CLIP's encoders, both trained ........... :mod:`common.networks.image.clip_resnet`, :mod:`common.networks.text`
    eq. 1, text-to-pixel decoding D(τ, F) ... :class:`Decoder`
    eq. 2, masks M_i and 1 − M_i ............ :class:`Masker`
    scales to one, and fused ................ :class:`Neck`, :class:`Fusion`, :mod:`common.networks.blocks.carafe`
    eq. 3 and 4, the min-max game ........... :mod:`common.losses.causal`

Maps F2, F3, F4 come to one grid as v3 = avgpool(F2), v4 = two convolutions of F3, v5 = CARAFE(F4). Each is masked,
F_i^c = M_i ⊙ v_i and F_i^s = (1 − M_i) ⊙ v_i, the three of a stream are concatenated and fused by one shared 1×1
convolution; D_c decodes F^c and D_s decodes F^s. A sentence comes in at the end alone, as the kernel and bias of D's
last convolution. Only D_c is computed in eval mode.

Where paper and released code differ, the code: scales first, then masks (the paper masks first); masks have a value for
each channel; fuller maskers and decoders than the paper's words. Its declared and unused layers (15 M) are left out.

Open in the paper, and what was chosen:
- How the game is played (nothing of it is in the released code): three modes, see :mod:`common.losses.causal`; "none"
  is the paper's ablation without the causal module: no maskers, no D_s, F^c of the maps as they are.
- The shared fusion's batch norm has one pair of weights, as in the released code, but statistics of each stream apart:
  in eval mode there is F^c alone, and means mixed with F^s's would not be those that it was trained with.
- Sentences are never cut (the paper cuts them after 20 tokens, 1.6 % of LViT's); the tokeniser's rows hold 48.
- With the compact BERT in CLIP's place, τ is the mean of its states, by which it was trained beforehand, times 1/16
  (``sentence_scale``). As long as it is (20) it makes kernels that saturate the first logits, and each step of Adam
  moves them by more than all else together; CLIP's own τ stays as it is.

Parameters at the paper's sizes: neck 36.618 M (28.381 M of them maskers) and two decoders of 4.789 M, together
46.195 M; D_s's are of training only. CLIP's encoders have 57.31 M and 63.43 M.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from common.networks.base import Insight, TextNetwork
from common.networks.blocks.carafe import Carafe
from common.networks.blocks.correlation import correlate
from common.networks.blocks.reversal import reverse_gradient
from common.networks.image import ClipResNet
from common.networks.text import BertText, ClipText

GAMES = ("none", "literal", "grl", "uniform")


def conv_norm_relu(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; the grid stays."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class CoordConv(nn.Module):
    """Convolution 3×3 that sees where it is (Liu et al. 2018, arXiv 1807.03247): columns and rows from −1 to 1.

    Args:
        channels: of the map and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_norm_relu(channels + 2, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) to the same shape."""
        batch, _, height, width = x.shape
        columns = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device).expand(batch, 1, height, width)
        rows = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device)[:, None].expand(batch, 1, height, width)
        return self.conv(torch.cat((x, columns, rows), dim=1))


class Masker(nn.Module):
    """Eq. 2, M = sigmoid(𝓕(F)): coordinate convolution, convolution, both once more.

    Args:
        channels: of the map and of the mask.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CoordConv(channels),
            conv_norm_relu(channels, channels),
            CoordConv(channels),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) to a mask in 0..1 of the same shape."""
        return self.layers(x).sigmoid()


class Fusion(nn.Module):
    """The maps of a stream to one: 1×1 convolution, batch norm, ReLU, shared by both streams but for the statistics.

    Args:
        in_channels: of the concatenated maps.
        channels: of the result.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.confounding_norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: torch.Tensor, confounding: bool = False) -> torch.Tensor:
        """(B, in_channels, h, w) to (B, channels, h, w)."""
        x = self.conv(x)
        if confounding:
            scale, shift = self.norm.weight[:, None, None], self.norm.bias[:, None, None]
            return (self.confounding_norm(x) * scale + shift).relu()
        return self.norm(x).relu()


class Streams(NamedTuple):
    """What the neck makes of a picture.

    Attributes:
        causal: F^c, (B, C, h, w).
        confounding: F^s, or None where it was not asked for.
        masks: M of the three scales, each (B, C, h, w); empty without the causal module.
    """

    causal: torch.Tensor
    confounding: torch.Tensor | None
    masks: list[torch.Tensor]


class Neck(nn.Module):
    """Three maps to one grid, each split by its mask, fused.

    Args:
        widths: channels of F2, F3 and F4; the first and last are C, the neck's.
        masked: whether there are maskers.

    Raises:
        UserError: F2 and F4 have different channels.
    """

    def __init__(self, widths: Sequence[int], masked: bool) -> None:
        super().__init__()
        channels = widths[0]
        if widths[2] != channels:
            raise UserError(
                f"CausalCLIPSeg: the image encoder's maps have {channels} channels at an 8th and {widths[2]} at the "
                f"end, and both must be the neck's; set its output_dim to {channels}"
            )
        self.middle = nn.Sequential(conv_norm_relu(widths[1], channels), conv_norm_relu(channels, channels))
        self.carafe = Carafe(channels)
        self.maskers = nn.ModuleList(Masker(channels) for _ in range(3 if masked else 0))
        self.fusion = Fusion(3 * channels, channels)

    def forward(self, maps: Sequence[torch.Tensor], confounding: bool = False) -> Streams:
        """F2 (B, C, 2h, 2w), F3 (B, C', h, w), F4 (B, C, h/2, w/2); ``confounding`` asks for F^s too."""
        second, third, fourth = maps
        scales = [F.avg_pool2d(second, 2), self.middle(third), self.carafe(fourth)]  # v, each (B, C, h, w)
        if not self.maskers:
            return Streams(self.fusion(torch.cat(scales, dim=1)), None, [])
        masks = [masker(v) for masker, v in zip(self.maskers, scales, strict=True)]
        split = [mask * v for mask, v in zip(masks, scales, strict=True)]
        causal = self.fusion(torch.cat(split, dim=1))
        if not confounding:
            return Streams(causal, None, masks)
        split = [(1 - mask) * v for mask, v in zip(masks, scales, strict=True)]
        return Streams(causal, self.fusion(torch.cat(split, dim=1), confounding=True), masks)


class Decoder(nn.Module):
    """Eq. 1: S = W_τ ∗ up(F) + b_τ, with kernel and bias that are a linear map of the sentence.

    Args:
        in_channels: of F.
        channels: after the first and the second upsampling; the second are those of W_τ.
        text_width: of τ.
        scale: the picture's size over the map's, a multiple of 4; the last step up is by 4.
        kernel: K, odd.
    """

    def __init__(
        self, in_channels: int, channels: tuple[int, int], text_width: int, scale: int, kernel: int = 3
    ) -> None:
        super().__init__()
        self.kernel = kernel
        first, second = channels
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=scale // 4, mode="bilinear"),
            conv_norm_relu(in_channels, first),
            nn.Upsample(scale_factor=4, mode="bilinear"),
            conv_norm_relu(first, second),
            nn.Conv2d(second, second, kernel_size=1),
        )
        self.text = nn.Linear(text_width, second * kernel**2 + 1)

    def forward(self, x: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        """F (B, in_channels, h, w) and τ (B, text_width) to logits (B, 1, scale·h, scale·w)."""
        maps = self.up(x)  # (B, channels[1], H, W)
        made = self.text(sentence)  # (B, channels[1]·K² + 1)
        kernels = made[:, :-1].unflatten(1, (maps.shape[1], self.kernel, self.kernel))
        return correlate(maps, kernels, made[:, -1])


class Sentences(nn.Module):
    """τ: a text encoder of which nothing but one vector of a sentence is used.

    Args:
        encoder: with ``sentence(ids)``.
        scale: of that vector.
    """

    def __init__(self, encoder: BertText | ClipText, scale: float) -> None:
        super().__init__()
        self.encoder, self.scale = encoder, scale

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L) to (B, text width)."""
        if self.training:
            # padding that all rows share changes nothing but costs half of the encoder's step
            ids = ids[:, : int((ids != 0).sum(dim=1).max())]
        return self.scale * self.encoder.sentence(ids)


class CausalCLIPSeg(TextNetwork):
    """CausalCLIPSeg. Height and width must be multiples of the image encoder's stride (RN101: 32).

    Args:
        image_encoder: trained with the rest.
        text_encoder: trained with the rest.
        default_text: ids of the default sentence.
        in_channels: channels of the image, 1 or 3.
        decoder_channels: after the first and the second upsampling of each decoder; None for the neck's and half of
            them, as in the paper.
        game: "literal", "grl" or "uniform", see :mod:`common.losses.causal`, whose ``mode`` it must be; "none" leaves
            the causal module out.
        weight: λ, by which "grl" multiplies the reversed gradient of F^s and τ.
        sentence_scale: by which the text encoder's vector of a sentence is multiplied.
        dropout: of τ.

    Raises:
        UserError: no such game; the encoder's channels do not fit.
    """

    def __init__(
        self,
        image_encoder: ClipResNet,
        text_encoder: BertText | ClipText,
        default_text: Sequence[int],
        in_channels: int = 1,
        decoder_channels: tuple[int, int] | None = None,
        game: str = "literal",
        weight: float = 0.05,
        sentence_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels, image_encoder.stride, default_text, text_encoder.vocab_size, text_encoder.max_length
        )
        if game not in GAMES:
            raise UserError(f"CausalCLIPSeg: game '{game}', expected one of {', '.join(GAMES)}")
        self.game, self.weight = game, weight
        self.image_encoder = image_encoder
        self.text_encoder = Sentences(text_encoder, sentence_scale)
        self.neck = Neck(image_encoder.widths, masked=game != "none")
        width, scale = image_encoder.widths[0], image_encoder.stride // 2
        channels = (width, width // 2) if decoder_channels is None else tuple(decoder_channels)
        self.decoders = nn.ModuleDict(
            {
                name: Decoder(width, channels, text_encoder.sentence_width, scale)
                for name in ("causal", "confounding")[: 1 if game == "none" else 2]
            }
        )
        self.dropout = nn.Dropout(dropout)

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """``{"pred": logits of D_c}`` (B, 1, H, W); in train mode also ``"confounding"``, those of D_s."""
        sentence = self.dropout(self.text_encoder(text))  # τ (B, text width)
        playing = self.training and self.game != "none"
        streams = self.neck(self.image_encoder(image), confounding=playing)
        found = {"pred": self.decoders["causal"](streams.causal, sentence)}
        if playing:
            confounding = streams.confounding
            if self.game == "grl":
                confounding, sentence = (reverse_gradient(x, self.weight) for x in (confounding, sentence))
            found["confounding"] = self.decoders["confounding"](confounding, sentence)
        return found

    @torch.no_grad()
    def insights(self, image: torch.Tensor, text: torch.Tensor, prior: torch.Tensor) -> list[Insight]:
        """How the picture is split, and what each decoder makes of its part; nothing without the causal module.

        Args:
            image: (B, in_channels, H, W).
            text: ids (B, L).
            prior: not used.

        Raises:
            UserError: image or ids do not fit.
        """
        if self.game == "none":
            return []
        self.check_image(image)
        sentence = self.text_encoder(self.prompt(text, image))
        streams = self.neck(self.image_encoder(image), confounding=True)
        causal = torch.stack([mask.mean(dim=1) for mask in streams.masks], dim=1)  # (B, 3, h, w)
        decoded = [
            self.decoders[name](stream, sentence).sigmoid()
            for name, stream in (("causal", streams.causal), ("confounding", streams.confounding))
        ]
        scales = ("F2", "F3", "F4")
        return [
            Insight("causal masks M: the share of each scale's features that the answer is made of, mean over channels",
                    tuple(f"M of {scale}" for scale in scales), causal),
            Insight("confounding masks 1 - M: the share that the answer must do without",
                    tuple(f"1 - M of {scale}" for scale in scales), 1 - causal),
            Insight("probability of a lesion, by decoder: the causal one gives the answer, the confounding one is of "
                    "training only", ("of the causal features", "of the confounding features"),
                    torch.cat(decoded, dim=1)),
        ]  # fmt: skip
