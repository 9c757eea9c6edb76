"""Multi-head attention that exports: by ``scaled_dot_product_attention``, padded tokens masked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError


class MultiHeadAttention(nn.Module):
    """softmax(QKᵀ/√d + mask)·V in ``heads`` heads, then a projection (Vaswani et al. 2017, eq. 1 and 3.2.2).

    Parameters and their initial distribution are those of ``nn.MultiheadAttention``, which does not export.

    Args:
        width: channels of queries, keys and values.
        heads: divides ``width``.
        dropout: probability for each attention weight in train mode.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"attention: {width} channels cannot be split into {heads} heads; change 'heads'")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight, gain=0.5**0.5)  # as of the stacked (3·width, width) matrix
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        target: torch.Tensor,
        source: torch.Tensor,
        mask: torch.Tensor | None = None,
        return_weights: bool = False,
        values: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from ``target`` to ``source``.

        Args:
            target: (B, N, width), gives the queries.
            source: (B, M, width), gives keys and values.
            mask: (B, M) bool, True where a source token is to be seen; None sees all.
            return_weights: also compute the weights explicitly (slower, more memory).
            values: (B, M, width) from which values are made, if not from ``source``: positions, for one, are added to
                queries and keys alone.

        Returns:
            (B, N, width), and the weights (B, heads, N, M) before dropout, or None.
        """
        values = source if values is None else values
        q, k, v = (self._split(x) for x in (self.query(target), self.key(source), self.value(values)))
        seen = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, M)
        dropout = self.dropout if self.training else 0.0
        if return_weights:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # (B, heads, N, M)
            if seen is not None:
                scores = scores.masked_fill(~seen, float("-inf"))
            weights = scores.softmax(dim=-1)
            x = F.dropout(weights, dropout) @ v
        else:
            weights = None
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)  # (B, heads, N, d)
        return self.out(x.transpose(1, 2).flatten(2)), weights

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d)
