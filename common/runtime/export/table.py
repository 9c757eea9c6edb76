"""A network with a table of its sentences' states in the place of the text encoder: BERT never runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError


class _Rows(nn.Module):
    """States of sentences that are in a table, found by their ids."""

    ids: torch.Tensor
    states: torch.Tensor

    def __init__(self, ids: torch.Tensor, states: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("ids", ids)
        self.register_buffer("states", states)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, L), L the table's, to states (B, ..., L, width); NaN where the table has no such sentence."""
        same = (ids[:, None] == self.ids[None]).all(dim=2)  # (B, N)
        states = self.states[same.to(torch.int64).argmax(dim=1)]
        found = same.any(dim=1).reshape(-1, *[1] * (states.ndim - 1))
        return torch.where(found, states, torch.full_like(states, float("nan")))


class TableNetwork(nn.Module):
    """``network(image, text)`` for the sentences of a table; logits of any other sentence are NaN.

    Args:
        network: trained, with a ``text_encoder`` that gives of ids (B, L) one tensor of states; it is not changed.
        ids: of the sentences, as long as they are.

    Raises:
        UserError: the network has no such text encoder.
    """

    def __init__(self, network: nn.Module, ids: Sequence[Sequence[int]]) -> None:
        super().__init__()
        encoder = getattr(network, "text_encoder", None)
        if encoder is None:
            raise UserError("--prompts table: the bundle's network has no text encoder; leave the option out")
        self.length = max(len(row) for row in ids)
        rows = torch.tensor([[*row, *[0] * (self.length - len(row))] for row in ids])
        with torch.no_grad():
            states = torch.cat([encoder(part) for part in rows.split(64)])
        # all of the network but the encoder, which may be the largest part
        memo = {id(encoder): _Rows(rows, states.clone())}
        self.network = copy.deepcopy(network, memo).eval()

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1, H, W) of image and ids (B, any length, padded with 0)."""
        row = F.pad(text, (0, self.length))[:, : self.length]
        # a sentence that is longer than the table's is none of them, even if it begins like one
        whole = (text != 0).sum(dim=1) == (row != 0).sum(dim=1)
        logits = self.network(image, row)
        return torch.where(whole[:, None, None, None], logits, torch.full_like(logits, float("nan")))
