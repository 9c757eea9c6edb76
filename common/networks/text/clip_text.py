"""CLIP's text transformer (Radford et al. 2021, arXiv 2103.00020, section 2.4); names of parameters are OpenAI's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from common.networks.clip_checkpoint import load_clip

# the text sides of OpenAI's RN101 and ViT-B/32 have the same sizes
ARCHITECTURES: dict[str, dict[str, Any]] = {
    name: {"vocab_size": 49_408, "max_length": 77, "width": 512, "heads": 8, "layers": 12, "output_dim": 512}
    for name in ("rn101", "vit-b-32")
}


class CausalAttention(nn.Module):
    """Self-attention in which a token sees itself and what stands before it; stacked projections as OpenAI's.

    Args:
        width: channels.
        heads: divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """(B, L, width) to (B, L, width); ``seen`` (L, L) bool, True where the row's token sees the column's."""
        stacked = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, L, 3·width)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in stacked.chunk(3, dim=2))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2))


class QuickGELU(nn.Module):
    """x·σ(1.702 x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x * (1.702 * x).sigmoid()


class Block(nn.Module):
    """Pre-norm attention and feed-forward.

    Args:
        width: channels; four times as many inside the feed-forward part.
        heads: of the attention.
        layers: of the transformer, on which initial weights depend.
    """

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        branch = (2 * width * layers) ** -0.5
        nn.init.normal_(self.attn.out_proj.weight, std=branch)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.mlp.c_proj.weight, std=branch)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """(B, L, width) to (B, L, width)."""
        x = x + self.attn(self.ln_1(x), seen)
        return x + self.mlp(self.ln_2(x))


class ClipText(nn.Module):
    """States of the words, and CLIP's one vector of a sentence.

    Tokens see only what stands before them, so that padding behind the end of text changes nothing.

    Args:
        architecture: "rn101" or "vit-b-32" (the text sides of those of OpenAI's), or a mapping with ``vocab_size``,
            ``max_length``, ``width``, ``heads``, ``layers`` and ``output_dim``.
        pretrained: a file of OpenAI's (``RN101.pt``), a folder with one, or a Hugging Face name such as
            "timm/resnet101_clip.openai" or "openai/clip-vit-base-patch32"; None for random weights.

    Attributes:
        width: channels of a state.
        sentence_width: channels of a sentence's vector.
        vocab_size: number of ids known.
        max_length: the longest sentence, tokens.

    Raises:
        UserError: no such architecture; the checkpoint is missing or does not fit.
    """

    def __init__(self, architecture: str | Mapping[str, Any] = "rn101", pretrained: str | None = None) -> None:
        super().__init__()
        if isinstance(architecture, str):
            if architecture not in ARCHITECTURES:
                known = ", ".join(ARCHITECTURES)
                raise UserError(f"text encoder: architecture '{architecture}', expected one of {known}, or its sizes")
            architecture = ARCHITECTURES[architecture]
        self.vocab_size, self.max_length = architecture["vocab_size"], architecture["max_length"]
        self.width, self.sentence_width = architecture["width"], architecture["output_dim"]
        layers = architecture["layers"]
        self.token_embedding = nn.Embedding(self.vocab_size, self.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(self.max_length, self.width))
        blocks = (Block(self.width, architecture["heads"], layers) for _ in range(layers))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.ln_final = nn.LayerNorm(self.width)
        self.text_projection = nn.Parameter(torch.randn(self.width, self.sentence_width) * self.width**-0.5)
        seen = torch.ones(self.max_length, self.max_length, dtype=torch.bool).tril()
        self.register_buffer("seen", seen, persistent=False)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        if pretrained is not None:
            load_clip(self, pretrained, prefix="")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L), padded with 0, to the last states (B, 1, L, width), normalised."""
        length = ids.shape[1]
        x = self.token_embedding(ids) + self.positional_embedding[:length]  # (B, L, width)
        for block in self.transformer["resblocks"]:
            x = block(x, self.seen[:length, :length])
        return self.ln_final(x)[:, None]

    def sentence(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L) to the projected state of the last token, which is the end of text: (B, sentence_width)."""
        states = self(ids)[:, 0]  # (B, L, width)
        last = (ids != 0).sum(dim=1) - 1  # (B,)
        end = states.gather(1, last[:, None, None].expand(-1, 1, self.width))[:, 0]  # (B, width)
        return end @ self.text_projection
