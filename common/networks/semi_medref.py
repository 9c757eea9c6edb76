"""Semi-MedRef: "Semi-Supervised Medical Referring Image Segmentation with Cross-Modal Alignment".

Paper: arXiv 2605.15720; released code: github.com/aierwaixi/Semi-MedRef.

The paper's parts, in the code:
    student f on MMI-UNet or GuideDecoder ......... :class:`SemiMedRefMMIUNet`, :class:`SemiMedRefGuideDecoder`
    embeddings û and ŵ of ITCL (section 2.4) ...... :class:`Embeddings`
    ITCL, Jaccard affinity (eq. 9) ................ :mod:`common.losses.itcl`
    L_sup, L_unsup, λ (eq. 2, 4, 5) ............... :class:`common.losses.SemiMedRefLoss`
    teacher, weak and strong views (eq. 3) ........ :class:`common.engines.MeanTeacherTrainer`
    T-PatchMix (eq. 6 to 8), PosAug ............... :class:`common.transforms.TPatchMix`,
                                                    :class:`common.transforms.RandPositionAugd`

At inference it is its backbone: embeddings are used in training only and nothing of them is exported. All views go
through one call, as several calls before one backward pass do not go with ``DistributedDataParallel``.

Of MMI-UNet û is the mean over the grid of the deepest out_v through a linear layer and a LayerNorm; of GuideDecoder
ConvNeXt's pooled output through a linear layer. ŵ is the mean over the text encoder's layers 1, 2 and the last and over
the sentence, through the two layers of the backbones' released projection head. Chosen otherwise than there: padding is
left out of the mean.

Parameters at the paper's sizes: those of the backbone, 1.182 M for ŵ, and for û 0.592 M (MMI-UNet) or 0.591 M.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from common.errors import UserError
from common.networks.guide_decoder import GuideDecoder
from common.networks.mmi_unet import MMIUNet
from common.networks.text import BertText

LAYERS = (1, 2, -1)


class Embeddings(nn.Module):
    """û and ŵ before they are normalised.

    Args:
        image_width: channels of an image's vector.
        text_width: channels of a word.
        width: channels of both embeddings.
        image_norm: end û in a LayerNorm.
    """

    def __init__(self, image_width: int, text_width: int, width: int, image_norm: bool) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(image_width, width), nn.LayerNorm(width) if image_norm else nn.Identity())
        self.text = nn.Sequential(nn.Linear(text_width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))

    def forward(
        self, image: torch.Tensor, states: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """An image's vector (B, image_width), states (B, layers, L, text_width), mask (B, L): two of (B, width)."""
        weight = mask[:, :, None].to(states.dtype)  # (B, L, 1)
        words = (states.mean(dim=1) * weight).sum(dim=1) / weight.sum(dim=1)  # (B, text_width)
        return self.image(image), self.text(words)


class _Student:
    """What Semi-MedRef adds to a backbone in training: embeddings, and further views in the same call."""

    embeddings: Embeddings

    def outputs(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        strong: torch.Tensor | None = None,
        strong_text: torch.Tensor | None = None,
        weak: torch.Tensor | None = None,
        weak_text: torch.Tensor | None = None,
        **passed: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Logits, and in train mode what :class:`common.losses.SemiMedRefLoss` needs.

        Args:
            image: labelled (B, C, H, W), or any in eval mode.
            text: their ids (B, L).
            strong: strong views of unlabelled images (b, C, H, W).
            strong_text: their ids (b, L).
            weak: weak views of them, if they are to be aligned.
            weak_text: their ids (b, L).
            passed: what the loss needs and the network does not: handed through.

        Returns:
            ``"pred"``; in train mode also ``"image_embedding"`` and ``"text_embedding"`` (B, D), ``"strong_pred"``
            (b, 1, H, W), ``"weak_image_embedding"`` and ``"weak_text_embedding"`` (b, D), and ``passed``.
        """
        if not self.training:
            return super().outputs(image, text)
        found, pred = self.seen(image, text, True)
        out = dict(zip(("image_embedding", "text_embedding"), found, strict=True)) | {"pred": pred}
        if strong is not None:
            out["strong_pred"] = super().outputs(strong, strong_text)["pred"]
        if weak is not None:
            found, _ = self.seen(weak, weak_text, False)
            out |= dict(zip(("weak_image_embedding", "weak_text_embedding"), found, strict=True))
        return out | passed


class SemiMedRefMMIUNet(_Student, MMIUNet):
    """The student on MMI-UNet; its text encoder must give the states of three layers (``layers``).

    Args:
        align_width: channels of the embeddings.
        backbone: arguments of :class:`common.networks.mmi_unet.MMIUNet`.
    """

    def __init__(self, *, align_width: int = 768, **backbone: Any) -> None:
        super().__init__(**backbone)
        encoder = _layers_of(self.text_encoder.encoder)
        self.embeddings = Embeddings(self.image_encoder.widths[3], encoder.width, align_width, image_norm=True)

    def seen(
        self, image: torch.Tensor, text: torch.Tensor, segment: bool
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
        """Both embeddings, and logits if ``segment``."""
        fused = self.fuse(image, text)
        pooled = fused.image[3].mean(dim=(-2, -1))
        found = self.embeddings(pooled, self.text_encoder(text), fused.mask)
        return found, self.decode(fused.image) if segment else None


class SemiMedRefGuideDecoder(_Student, GuideDecoder):
    """The student on GuideDecoder; its text encoder must give the states of three layers (``layers``).

    Args:
        align_width: channels of the embeddings.
        backbone: arguments of :class:`common.networks.guide_decoder.GuideDecoder`.
    """

    def __init__(self, *, align_width: int = 768, **backbone: Any) -> None:
        super().__init__(**backbone)
        encoder = _layers_of(self.text_encoder.encoder)
        self.embeddings = Embeddings(self.image_encoder.widths[3], encoder.width, align_width, image_norm=False)

    def seen(
        self, image: torch.Tensor, text: torch.Tensor, segment: bool
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
        """Both embeddings, and logits if ``segment``."""
        maps, states, mask = self.image_encoder(image), self.text_encoder(text), text != 0
        found = self.embeddings(self.image_encoder.pool(maps[3]), states, mask)
        return found, self.decode(maps, states[:, -1], mask) if segment else None


def _layers_of(encoder: BertText) -> BertText:
    """The encoder, if it gives the layers that ŵ is made of.

    Raises:
        UserError: it does not.
    """
    layers: Sequence[int] = encoder.layers
    if tuple(layers) != LAYERS:
        raise UserError(
            f"Semi-MedRef: the text encoder gives layers {list(layers)}, but sentences are compared by {list(LAYERS)}; "
            f"set network_def::text_encoder::layers to these"
        )
    return encoder
