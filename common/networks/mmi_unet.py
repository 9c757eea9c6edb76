"""MMI-UNet: "Visual-Textual Matching Attention for Lesion Segmentation in Chest Images" (MICCAI 2024).

Paper: Bui et al., doi 10.1007/978-3-031-72114-4_67; released code: github.com/nguyenpbui/MMI-UNet (V2).

The paper's parts, in the code:
    image and words meet after each stage ....................... :class:`Bridger`
    self-attention, cross-attention, feed-forward of one side ... :class:`Interactor`
    ConvNeXt-T, trained ......................................... :mod:`common.networks.image.convnext`
    CXR-BERT, frozen, last states T ............................. :mod:`common.networks.text`
    U-Net decoder, subpixel upsampling .......................... :mod:`common.networks.blocks.upsampling`

At stage ℓ, with map x_ℓ and words s_ℓ (s₁ = T): out_v, out_t = Bridger(x_ℓ, s_ℓ); stage ℓ+1 gets out_v + x_ℓ;
s_{ℓ+1} = T + out_t; the decoder gets the four out_v.

Open in the paper, and what was chosen: the sum out_v + x_ℓ (so 2x_ℓ + ...) and T + out_t, no position
codes, and the initial distributions are the released code's. Padded words are masked in every attention
(the released code lets them take part): logits do not depend on the length of padding. Output padding at
the deepest Bridger is the released code's for 224² (7 → 3 → 7), here for every odd grid; a grid of one row
or column (the deepest at 32²) has no half, and its Bridger hands on what it got. Logits, where that code
gives sigmoids.

Parameters at the paper's sizes: Bridgers 21.804 M, up path 5.035 M, head 0.332 M, ConvNeXt-T 27.820 M;
54.99 M. As in the released code, 5.52 M of them get no gradient from the segmentation: what makes the
words of the last Bridger (``text_interactor``, ``text_out``; SSA uses these words) and ConvNeXt's last
norm (``pool``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from common.errors import UserError
from common.networks.base import TextNetwork, is_exporting
from common.networks.blocks.attention import MultiHeadAttention
from common.networks.blocks.upsampling import SubpixelHead, UpBlock
from common.networks.image import ConvNeXt
from common.networks.text import BertText, FrozenText


class Interactor(nn.Module):
    """One side looks at itself, then at the other: post-norm self-attention, cross-attention, feed-forward.

    Args:
        width: channels of both sides.
        heads: of both attentions.
        feedforward: hidden channels of the feed-forward part (ReLU).
        dropout: on attention weights, hidden channels and each branch.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(width, heads, dropout)
        self.cross_attention = MultiHeadAttention(width, heads, dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        other: torch.Tensor,
        mask: torch.Tensor | None = None,
        other_mask: torch.Tensor | None = None,
        return_weights: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Update ``x`` (B, N, width) by ``other`` (B, M, width).

        Args:
            x: the side that is updated.
            other: the side that it looks at.
            mask: (B, N) bool, True at the tokens of ``x`` that count.
            other_mask: (B, M) bool, True at the tokens of ``other`` that count.
            return_weights: also give the weights of the cross-attention.

        Returns:
            (B, N, width), and weights (B, heads, N, M) or None.
        """
        update, _ = self.self_attention(x, x, mask)
        x = self.norms[0](x + self.dropout(update))
        update, weights = self.cross_attention(x, other, other_mask, return_weights)
        x = self.norms[1](x + self.dropout(update))
        return self.norms[2](x + self.dropout(self.feedforward(x))), weights


class Looks(NamedTuple):
    """Cross-attention in one Bridger, before dropout, by word and cell of the half grid.

    Attributes:
        of_cells: of I_v, how each cell looks at the words: (B, heads, L, h//2, w//2), sums to 1 over the words.
        of_words: of I_t, how each word looks at the cells: the same shape, sums to 1 over the cells.
    """

    of_cells: torch.Tensor
    of_words: torch.Tensor


class Bridger(nn.Module):
    """Image and words inform each other at half the stage's grid, and return by residuals.

    Args:
        width: channels of the map, and of both sides where they meet.
        text_width: channels of the words.
        heads: of every attention.
        feedforward: hidden channels of the Interactors.
        dropout: of the Interactors.
    """

    def __init__(self, width: int, text_width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.image_in = nn.Conv2d(width, width, kernel_size=2, stride=2, bias=False)
        self.image_norm = nn.LayerNorm(width)
        self.image_interactor = Interactor(width, heads, feedforward, dropout)
        # Output padding gives back the last row and column of an odd grid; `forward` cuts an even one.
        self.image_out = nn.ConvTranspose2d(width, width, kernel_size=2, stride=2, output_padding=1, bias=False)
        self.text_in = nn.Linear(text_width, width)
        self.text_norm = nn.LayerNorm(width)
        self.text_interactor = Interactor(width, heads, feedforward, dropout)
        self.text_out = nn.Linear(width, text_width)
        for name, layer in self.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                if not name.endswith(("query", "key", "value")):
                    nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(
        self, image: torch.Tensor, words: torch.Tensor, mask: torch.Tensor, return_looks: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, Looks | None]:
        """Let them meet.

        Args:
            image: map x (B, width, h, w). With one row or column (not while exporting) it comes back as it is.
            words: s (B, L, text_width).
            mask: (B, L) bool, True at words, False at padding.
            return_looks: also give both cross-attentions.

        Returns:
            out_v (B, width, h, w), out_t (B, L, text_width), and the cross-attentions or None.
        """
        height, width = image.shape[-2:]
        if not is_exporting() and min(height, width) < 2:
            return image, words, None
        grid = self.image_in(image)  # (B, width, h//2, w//2)
        v = self.image_norm(grid.flatten(2).transpose(1, 2))  # (B, (h//2)(w//2), width)
        t = self.text_norm(self.text_in(words))  # (B, L, width)
        v_new, of_cells = self.image_interactor(v, t, other_mask=mask, return_weights=return_looks)
        t_new, of_words = self.text_interactor(t, v, mask=mask, return_weights=return_looks)
        back = self.image_out(v_new.transpose(1, 2).unflatten(2, grid.shape[-2:]))[..., :height, :width]
        looks = None
        if return_looks:
            looks = Looks(*(w.unflatten(3, grid.shape[-2:]) for w in (of_cells.transpose(2, 3), of_words)))
        return image + back, words + self.text_out(t_new), looks


@dataclass
class Fused:
    """What the encoder gives, stage by stage.

    Attributes:
        image: out_v of each Bridger, (B, widths[i], h_i, w_i).
        words: out_t of each Bridger, (B, L, text width).
        looks: where asked for, by stage (1 to 4): its cross-attentions.
        mask: (B, L) bool, True at words.
    """

    image: list[torch.Tensor] = field(default_factory=list)
    words: list[torch.Tensor] = field(default_factory=list)
    looks: dict[int, Looks] = field(default_factory=dict)
    mask: torch.Tensor | None = None


class MMIUNet(TextNetwork):
    """MMI-UNet. Height and width must be multiples of the image encoder's stride (ConvNeXt-T: 32).

    Args:
        image_encoder: trained with the rest.
        text_encoder: frozen here; its last states are used.
        default_text: ids of the default sentence.
        in_channels: channels of the image, 1 or 3.
        heads: of every attention in the Bridgers.
        feedforward: hidden channels of the Interactors.
        dropout: of the Interactors.
    """

    def __init__(
        self,
        image_encoder: ConvNeXt,
        text_encoder: BertText,
        default_text: Sequence[int],
        in_channels: int = 1,
        heads: int = 8,
        feedforward: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(
            in_channels, image_encoder.stride, default_text, text_encoder.vocab_size, text_encoder.max_length
        )
        widths = image_encoder.widths
        self.image_encoder = image_encoder
        self.text_encoder = FrozenText(text_encoder)
        self.bridgers = nn.ModuleList(
            Bridger(width, text_encoder.width, heads, feedforward, dropout) for width in widths
        )
        self.up_path = nn.ModuleList(UpBlock(widths[i], widths[i - 1]) for i in (3, 2, 1))
        self.head = SubpixelHead(widths[0], image_encoder.patch_size)

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """``{"pred": logits (B, 1, H, W)}``."""
        return {"pred": self.decode(self.fuse(image, text).image)}

    def fuse(self, image: torch.Tensor, text: torch.Tensor, look_stages: Sequence[int] = ()) -> Fused:
        """Image (B, C, H, W) and ids (B, L) through encoder and Bridgers; cross-attentions of these stages kept."""
        states = self.text_encoder(text)[:, -1]  # T (B, L, text width)
        fused = Fused(mask=text != 0)
        words, x = states, self.image_encoder.stem(image)
        for number, (stage, bridger) in enumerate(zip(self.image_encoder.stages, self.bridgers, strict=True), 1):
            x = stage(x)
            out_v, out_t, looks = bridger(x, words, fused.mask, number in look_stages)
            fused.image.append(out_v)
            fused.words.append(out_t)
            if looks is not None:
                fused.looks[number] = looks
            x, words = out_v + x, states + out_t
        return fused

    def decode(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """The four out_v to logits (B, 1, H, W)."""
        x = maps[3]
        for up, skip in zip(self.up_path, (maps[2], maps[1], maps[0]), strict=True):
            x = up(x, skip)
        return self.head(x)

    @torch.no_grad()
    def word_attention(self, image: torch.Tensor, text: torch.Tensor | None = None, stage: int = 2) -> torch.Tensor:
        """Where in the picture each word is looked at: its column of I_v's cross-attention in one Bridger.

        In I_v each cell of the picture spreads its look over the words; that is what changes the picture's map, and
        so the mask. (In I_t words look at cells; after training all of them look at the same ones.)

        Args:
            image: (B, in_channels, H, W).
            text: ids (B, L); None for the default sentence.
            stage: 1 to 4; the second has 14² cells at 224².

        Returns:
            (B, L, h, w), the mean over heads; each word's sums to 1 over the picture, that of padding is 0.

        Raises:
            UserError: no such stage, or image or ids do not fit.
        """
        looks = self.looks(image, self.prompt(text, image), stage).of_cells.mean(dim=1)  # (B, L, h, w)
        return looks / looks.sum(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(looks.dtype).tiny)

    def looks(self, image: torch.Tensor, text: torch.Tensor, stage: int) -> Looks:
        """The cross-attentions of one Bridger, 1 to 4.

        Raises:
            UserError: no such stage, or the image does not fit or is too small for it.
        """
        if stage not in (1, 2, 3, 4):
            raise UserError(f"{type(self).__name__}: stage {stage} of the Bridgers, expected 1 to 4")
        self.check_image(image)
        return self.looked(self.fuse(image, text, (stage,)), stage, image)

    def looked(self, fused: Fused, stage: int, image: torch.Tensor) -> Looks:
        """The cross-attentions of a stage that were kept, if the image was large enough for it."""
        if stage not in fused.looks:
            raise UserError(
                f"{type(self).__name__}: the image has {image.shape[-2]} x {image.shape[-1]} pixels, too few for the "
                f"attention of stage {stage}"
            )
        return fused.looks[stage]
