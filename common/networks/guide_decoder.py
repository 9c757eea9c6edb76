"""GuideDecoder: "Ariadne's Thread: Using Text Prompts to Improve Segmentation of Infected Areas ..." (MICCAI 2023).

Paper: Zhong et al., arXiv 2307.03942; released code: github.com/Junelin2333/LanGuideMedSeg-MICCAI2023.

The paper's parts, in the code:
    ConvNeXt-T, trained ................................. :mod:`common.networks.image.convnext`
    CXR-BERT, frozen, last states ....................... :mod:`common.networks.text`
    f_t' = σ(Conv(f_t) W_T), the text projection ........ :class:`Guides`
    f_i' = f_i + LN(MHSA(f_i)) .......................... :meth:`GuideLayer.forward`, its first half
    f_c = f_i' + α LN(MHCA(f_i', f_t')) ................. :meth:`GuideLayer.forward`, its second half
    upsampling, concatenation with the skip, Conv ....... ``monai.networks.blocks.UnetrUpBlock``
    subpixel upsampling to the mask ..................... :class:`common.networks.blocks.upsampling.SubpixelHead`

From the deepest map up, three times: the sentence guides the map, then it joins the skip of the encoder's next stage.

Open in the paper, and what was chosen: norms before both attentions, one head in the first and four in the second,
sinusoid positions of the flattened grid and of the guides added to queries and keys alone, GELU and leaky ReLU as σ,
(24, 12, 9) guides and batch norm in the up path are the released code's. α starts at 1.421 there and at 0.01 in the
copies of MMI-UNet and Semi-MedRef (``scale``). The convolution runs over the words as channels, which fixes their
number: 24 in the released code, which cuts longer sentences; here ``text_length``, the length of the tokeniser's rows,
so that none is cut. States of padded words are zeros (in the released code the encoder's states of padding): logits do
not depend on the length of padding. Positions are computed for any grid, not for 224² alone. Logits, where that code
gives sigmoids.

Parameters at the paper's sizes, with 24 words: guide layers 7.249 M, up path 6.776 M, head 0.332 M, ConvNeXt-T
27.820 M; 42.178 M. ConvNeXt's last norm (``pool``) gets no gradient. The released code's two projection heads, which
the segmentation does not use, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import UnetrUpBlock
from torch import nn

from common.errors import UserError
from common.networks.base import TextNetwork
from common.networks.blocks.attention import MultiHeadAttention
from common.networks.blocks.upsampling import SubpixelHead
from common.networks.image import ConvNeXt
from common.networks.text import BertText, FrozenText


class Guides(nn.Module):
    """Words to guides: GELU(Conv1d over the words), then leaky ReLU(Linear over the channels).

    Args:
        text_length: the most words.
        number: of guides.
        text_width: channels of a word.
        width: channels of a guide.
    """

    def __init__(self, text_length: int, number: int, text_width: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(text_length, number)  # the 1×1 convolution with words as channels
        self.project = nn.Linear(text_width, width)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Words (B, L, text_width) and ``mask`` (B, L), True at words, to guides (B, number, width)."""
        words = words * mask[..., None].to(words.dtype)
        # by index: a slice of what may be all of it does not export
        weight = self.mix.weight.index_select(1, torch.arange(words.shape[1], device=words.device))  # (number, L)
        mixed = weight @ words + self.mix.bias[:, None]  # (B, number, text_width)
        return F.leaky_relu(self.project(F.gelu(mixed)))


class GuideLayer(nn.Module):
    """Cells of a map look at each other, then at the guides.

    Args:
        width: channels of the map.
        guides: number of them.
        text_length: the most words.
        text_width: channels of a word.
        scale: α at the start.
        dropout: on attention weights.
    """

    def __init__(
        self, width: int, guides: int, text_length: int, text_width: int, scale: float, dropout: float
    ) -> None:
        super().__init__()
        self.guides = Guides(text_length, guides, text_width, width)
        self.self_in, self.self_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = MultiHeadAttention(width, 1, dropout)
        self.cross_in, self.cross_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, 4, dropout)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """A map (B, width, h, w), words (B, L, text_width) and their mask (B, L) to a map of the same shape."""
        cells = x.flatten(2).transpose(1, 2)  # (B, hw, width)
        places = positions(cells)
        normed = self.self_in(cells)
        update, _ = self.self_attention(normed + places, normed + places, values=normed)
        cells = cells + self.self_out(update)
        guides = self.guides(words, mask)
        query = self.cross_in(cells) + places
        update, _ = self.cross_attention(query, guides + positions(guides), values=guides)
        cells = cells + self.scale * self.cross_out(update)
        return cells.transpose(1, 2).unflatten(2, x.shape[-2:])


def positions(tokens: torch.Tensor) -> torch.Tensor:
    """Sinusoid codes (N, C) for tokens (B, N, C), C even (Vaswani et al. 2017, 3.5).

    Channel 2i of token n is sin(n / 10000^(2i/C)), channel 2i + 1 the cosine.
    """
    width = tokens.shape[2]
    rates = torch.exp(torch.arange(0, width, 2, device=tokens.device) * (-math.log(10_000.0) / width))  # (C/2,)
    angles = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * rates  # (N, C/2)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1).to(tokens.dtype)


class GuideDecoder(TextNetwork):
    """GuideDecoder. Height and width must be multiples of the image encoder's stride (ConvNeXt-T: 32).

    Args:
        image_encoder: trained with the rest.
        text_encoder: frozen here; its last states are used.
        default_text: ids of the default sentence.
        in_channels: channels of the image, 1 or 3.
        text_length: the most words of a sentence, the length of the tokeniser's rows.
        guides: number of guides at the deepest map and at the two above.
        scale: α at the start.
        dropout: on attention weights.

    Raises:
        UserError: a width of the image encoder's last three stages cannot be split into four heads.
    """

    def __init__(
        self,
        image_encoder: ConvNeXt,
        text_encoder: BertText,
        default_text: Sequence[int],
        in_channels: int = 1,
        text_length: int = 48,
        guides: Sequence[int] = (24, 12, 9),
        scale: float = 1.421,
        dropout: float = 0.0,
    ) -> None:
        if text_length > text_encoder.max_length:
            raise UserError(
                f"GuideDecoder: text_length is {text_length}, but the text encoder has {text_encoder.max_length} "
                f"positions; lower text_length"
            )
        super().__init__(in_channels, image_encoder.stride, default_text, text_encoder.vocab_size, text_length)
        widths = image_encoder.widths
        self.image_encoder = image_encoder
        self.text_encoder = FrozenText(text_encoder)
        self.guide_layers = nn.ModuleList(
            GuideLayer(width, number, text_length, text_encoder.width, scale, dropout)
            for width, number in zip(widths[:0:-1], guides, strict=True)
        )
        self.up_path = nn.ModuleList(
            UnetrUpBlock(2, widths[i], widths[i - 1], 3, 2, norm_name="batch") for i in (3, 2, 1)
        )
        self.head = SubpixelHead(widths[0], image_encoder.patch_size)

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """``{"pred": logits (B, 1, H, W)}``."""
        return {"pred": self.decode(self.image_encoder(image), self.text_encoder(text)[:, -1], text != 0)}

    def decode(self, maps: Sequence[torch.Tensor], words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The encoder's four maps, words (B, L, text width) and their mask (B, L) to logits (B, 1, H, W)."""
        x = maps[3]
        for layer, up, skip in zip(self.guide_layers, self.up_path, (maps[2], maps[1], maps[0]), strict=True):
            x = up(layer(x, words, mask), skip)
        return self.head(x)
