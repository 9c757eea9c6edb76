"""BERT text encoders of ``transformers``: the compact one of this package, CXR-BERT and other BERT-base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel

from common.errors import UserError
from common.networks.checkpoints import load_pretrained

# CXR-BERT (arXiv 2204.09817) is a BERT-base with its own 30,522 WordPieces, which are transformers' defaults;
# of its two heads (masked words, projection to 128) none is used here, so no remote code is needed.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "compact": {
        "vocab_size": 1024,
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "intermediate_size": 512,
        "max_position_embeddings": 64,
    },
    "bert-base": {},
}


class BertText(nn.Module):
    """States of the words from chosen layers of a BERT.

    Args:
        architecture: "compact", "bert-base", or fields of ``transformers.BertConfig``.
        pretrained: "compact", a folder, or a Hugging Face name such as
            "microsoft/BiomedVLP-CXR-BERT-specialized"; None for random weights (to be loaded later).
        layers: which states to give: 0 the embeddings, i those after layer i, −1 the last.
        dropout: probability in train mode; without effect where the encoder is frozen.

    Attributes:
        width: channels of a state.
        sentence_width: channels of a sentence's vector.
        vocab_size: number of ids known.
        max_length: the longest sentence, tokens.

    Raises:
        UserError: no such architecture; the checkpoint is missing or does not fit.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any] = "compact",
        pretrained: str | None = None,
        layers: Sequence[int] = (-1,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(architecture, str):
            if architecture not in ARCHITECTURES:
                known = ", ".join(ARCHITECTURES)
                raise UserError(
                    f"text encoder: architecture '{architecture}', expected one of {known}, or fields of BertConfig"
                )
            architecture = ARCHITECTURES[architecture]
        config = BertConfig(
            **{
                **architecture,
                "hidden_dropout_prob": dropout,
                "attention_probs_dropout_prob": dropout,
                "attn_implementation": "sdpa",
            }
        )
        self.width = self.sentence_width = config.hidden_size
        self.vocab_size: int = config.vocab_size
        self.max_length: int = config.max_position_embeddings
        self.layers = tuple(layers)
        self.bert = BertModel(config, add_pooling_layer=False)
        if pretrained is not None:
            load_pretrained(self.bert, pretrained, prefix="bert.")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L), padded with 0, to states (B, len(layers), L, width); padding is seen by no word."""
        mask = (ids != 0)[:, None, None, :]  # (B, 1, 1, L)
        # Layer by layer: BertModel.forward asks of the mask whether it is all True, which does not export.
        states = [self.bert.embeddings(input_ids=ids)]  # (B, L, width)
        for layer in self.bert.encoder.layer:
            states.append(layer(states[-1], mask))
        return torch.stack([states[i] for i in self.layers], dim=1)

    def sentence(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L) to the mean of the last chosen states over the tokens (B, width); the compact one learnt by it."""
        mask = (ids != 0)[..., None]  # (B, L, 1)
        return (self(ids)[:, -1] * mask).sum(dim=1) / mask.sum(dim=1)
