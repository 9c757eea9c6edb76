"""Gradient reversal (Ganin & Lempitsky, ICML 2015, arXiv 1409.7495): the identity, but its gradient is turned."""

from __future__ import annotations

from typing import Any

import torch


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: float) -> torch.Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.weight * gradient, None


def reverse_gradient(x: torch.Tensor, weight: float) -> torch.Tensor:
    """``x``; what comes back through it is multiplied by −``weight``: who makes x climbs what the others descend."""
    return _Reversal.apply(x, weight)
