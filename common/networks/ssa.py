"""SSA: "Spatial-aware Symmetric Alignment for Text-guided Medical Image Segmentation".

Paper: Liao, Liu, Geng; no code was released. Baseline: :mod:`common.networks.mmi_unet`.

The paper's parts, in the code:
    baseline, U-Net-based [6, 7] ................. :class:`common.networks.mmi_unet.MMIUNet`, the first of the two
    bi-aggregated features f_img, f_txt (II.A) ... :meth:`SSA.tokens`
    InfoNCE, L_global ............................ :mod:`common.losses.contrastive`
    cost M, Sinkhorn, L_local (eq. 1) ............ :mod:`common.losses.transport`
    attention A, from which A_norm is made ....... :meth:`SSA.attention`
    Gaussian prior of the words .................. :func:`common.prompts.zones.composite_prior`
    A_norm, box, M_guide, L_guide (eq. 3, 4) ..... :mod:`common.losses.guidance`
    L_align (eq. 2) and the total ................ :class:`common.losses.SSALoss`

Open in the paper, and what was chosen. f_img and f_txt are what the deepest Bridger gives: image tokens that have
aggregated the words, words that have aggregated the image; each goes through a linear layer to 256 channels and a
LayerNorm (``align_stage`` takes another Bridger). Words are the valid tokens without the two special ones. A is the
cross-attention with which the words look at the cells in the second Bridger (14² of them at 224²), the mean over
heads and words; averaged over all words, the attention of the cells (a softmax over words) would be constant.
``attention_of="cells"`` takes it all the same, averaged over the words without the special tokens: how much of its look
a cell spends on them. After training it lies nearer to the lesions than the words' own.

All of it is used in training only: in eval mode the network is MMI-UNet, and so is what is exported. Parameters at the
paper's sizes: MMI-UNet's 54.99 M and 0.395 M of the two projections.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from common.errors import UserError
from common.losses.guidance import guidance, into_box
from common.networks.base import Insight
from common.networks.mmi_unet import Fused, Looks, MMIUNet


class SSA(MMIUNet):
    """MMI-UNet that in training also gives the tokens to be aligned and the words' attention.

    Args:
        align_stage: of the Bridger whose outputs are aligned, 1 to 4 (at the paper's sizes 56², 28², 14², 7² tokens).
        align_width: channels in which they are compared.
        attention_stage: of the Bridger whose attention guides.
        attention_of: "words" or "cells", whose look is the attention that guides.
        baseline: arguments of :class:`common.networks.mmi_unet.MMIUNet`.
    """

    def __init__(
        self,
        *,
        align_stage: int = 4,
        align_width: int = 256,
        attention_stage: int = 2,
        attention_of: Literal["words", "cells"] = "words",
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        for name, stage in (("align_stage", align_stage), ("attention_stage", attention_stage)):
            if stage not in (1, 2, 3, 4):
                raise UserError(f"SSA: {name} is {stage}, expected 1 to 4")
        if attention_of not in ("words", "cells"):
            raise UserError(f"SSA: attention_of is '{attention_of}', expected words or cells")
        self.align_stage, self.attention_stage, self.attention_of = align_stage, attention_stage, attention_of
        widths = self.image_encoder.widths[align_stage - 1], self.text_encoder.encoder.width
        self.image_projection, self.text_projection = (
            nn.Sequential(nn.Linear(width, align_width), nn.LayerNorm(align_width)) for width in widths
        )

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits, and in train mode what :class:`common.losses.SSALoss` needs.

        Returns:
            ``"pred"`` logits (B, 1, H, W); in train mode also ``"text"``, the ids (B, L), ``"words"`` (B, L) bool, True
            at words, ``"image_tokens"`` (B, N, align_width), ``"word_tokens"`` (B, L, align_width) and ``"attention"``
            (B, h, w), that of the words on the picture, or of its cells on the words.
        """
        if not self.training:
            return super().outputs(image, text)
        fused = self.fuse(image, text, (self.attention_stage,))
        words = words_of(text)
        image_tokens, word_tokens = self.tokens(fused)
        looks = self.looked(fused, self.attention_stage, image)
        return {
            "pred": self.decode(fused.image),
            "text": text,
            "words": words,
            "image_tokens": image_tokens,
            "word_tokens": word_tokens,
            "attention": self._look(looks, words),
        }

    def tokens(self, fused: Fused) -> tuple[torch.Tensor, torch.Tensor]:
        """f_img (B, N, align_width) and f_txt (B, L, align_width), padding and special tokens still among the words."""
        grid = fused.image[self.align_stage - 1].flatten(2).transpose(1, 2)  # (B, N, width)
        return self.image_projection(grid), self.text_projection(fused.words[self.align_stage - 1])

    @torch.no_grad()
    def attention(self, image: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """A, as the guidance of the training gets it: (B, h, w), ≥ 0; for :mod:`common.runtime.explain`.

        Args:
            image: (B, in_channels, H, W).
            text: ids (B, L); None for the default sentence.
        """
        text = self.prompt(text, image)
        return self._look(self.looks(image, text, self.attention_stage), words_of(text))

    def _look(self, looks: Looks, words: torch.Tensor) -> torch.Tensor:
        """A (B, h, w) of a Bridger's attentions and the words (B, L)."""
        return mean_look(looks.of_words if self.attention_of == "words" else looks.of_cells, words)

    @torch.no_grad()
    def insights(self, image: torch.Tensor, text: torch.Tensor, prior: torch.Tensor) -> list[Insight]:
        """How the guidance of the training comes about (the paper's Figure 4), with the loss's default options."""
        found = guidance(self.attention(image, text), prior)
        steps = {
            "raw attention, 0 to 1": found.attention,
            "prior of the position words": prior,
            "prior in the attention's box": found.prior,
            "guidance": found.guide,
        }
        whose = {"words": "all words", "cells": "the picture's cells to all words"}[self.attention_of]
        return [
            Insight(
                f"what guided the training: attention of {whose} x prior of the position words in its box (white)"
                + ("" if found.active.all() else "; here they do not meet, or no place is named: no guidance"),
                tuple(steps),
                torch.stack(list(steps.values()), dim=1),
                into_box(torch.ones_like(prior), found.box),
            )
        ]


def words_of(text: torch.Tensor) -> torch.Tensor:
    """Where ids (B, L) are words: neither padding nor the first and the last token, which are the special ones.

    A sentence of special tokens alone keeps them: a mask is never empty.
    """
    valid = text != 0
    words = valid.clone()
    words[:, 0] = False
    words[:, :-1] &= valid[:, 1:]
    words[:, -1] = False
    return torch.where(words.any(dim=1, keepdim=True), words, valid)


def mean_look(looks: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Attention (B, heads, L, h, w) of all words, averaged over heads and over ``words`` (B, L): (B, h, w)."""
    weight = words.to(looks.dtype)[:, :, None, None]  # (B, L, 1, 1)
    return (looks.mean(dim=1) * weight).sum(dim=1) / weight.sum(dim=1)
