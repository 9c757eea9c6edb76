"""KAN layer: a learnt function for each pair of input and output channel (Liu et al. 2024, arXiv 2404.19756).

y_o = Σ_i [ w_oi SiLU(x_i) + a_oi Σ_g c_oig B_g(x_i) ], with eight cubic B-splines B_g on the uniform grid of step .4
that divides [−1, 1] into five. They sum to 1 on [−1, 1] and are 0 beyond ±2.2, so inputs belong into that range: put a
layer norm before the layer. Grid, the scale a of each pair and the initial distribution are those of U-KAN (arXiv
2406.02918).

A uniform cubic B-spline has a closed form, with u = |x − c_g| / .4 for the centre c_g = −1.4 + .4 g:

    B_g(x) = (max(2 − u, 0)³ − 4 max(1 − u, 0)³) / 6

KAN code usually builds the bases by Cox and de Boor's recursion and keeps every step of it for the backward pass:
hundreds of bytes for each number that goes in. Here SiLU and bases are made for a slice of rows at a time, which stays
in the cache, multiplied with the weights at once, and forgotten; the backward pass makes them anew. What is kept is x.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from common.networks.base import is_exporting

BASES = 8
STEP = 0.4
# u and 2 are multiplied by this, and the cube is already divided by 6
_K = 6 ** (-1 / 3)
# numbers of x in a slice: its bases fit into a core's cache; a GPU wants fewer and larger ones
_SLICE = {"cpu": 1 << 15}
_LARGE_SLICE = 1 << 21


def bspline(x: torch.Tensor) -> torch.Tensor:
    """The eight bases B_g(x): (..., n) to (..., 8, n), by abs, relu and products alone."""
    d = (x.unsqueeze(-2) - _centres(x)).abs() * (_K / STEP)
    outer, inner = F.relu(2 * _K - d), F.relu(_K - d)
    return outer * outer * outer - 4 * inner * inner * inner


class KANLinear(nn.Module):
    """(..., in_channels) to (..., out_channels): 10 · in · out parameters.

    Under autocast the bases are made in float32 (bfloat16 would make errors of 2e-2) and multiplied in half precision.

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.base = nn.Parameter(torch.empty(out_channels, in_channels))  # w
        self.spline = nn.Parameter(torch.empty(out_channels, BASES, in_channels))  # c
        self.scale = nn.Parameter(torch.empty(out_channels, in_channels))  # a
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-uniform w and a; c of the spline that is nearest to noise within ±.01 at the six grid points."""
        nn.init.kaiming_uniform_(self.base, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.scale, a=math.sqrt(5))
        points = torch.linspace(-1, 1, BASES - 2, device=self.spline.device)
        noise = torch.empty(self.out_channels, BASES - 2, self.in_channels, device=self.spline.device)
        nn.init.uniform_(noise, -0.01, 0.01)
        with torch.no_grad():
            self.spline.copy_(torch.linalg.pinv(bspline(points).T) @ noise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_channels) to (..., out_channels)."""
        if is_exporting():
            features = torch.cat((F.silu(x).unsqueeze(-2), bspline(x)), dim=-2)  # (..., 9, in)
            return F.linear(features.flatten(-2), _matrix(self.base, self.spline, self.scale))
        kind = x.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            rows = x.reshape(-1, self.in_channels)
            y = _KAN.apply(rows, self.base, self.spline, self.scale, half)
        return y.view(*x.shape[:-1], self.out_channels)


def _matrix(base: torch.Tensor, spline: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What features (R, 9·in) are multiplied with: (out, 9·in)."""
    return torch.cat((base[:, None], spline * scale[:, None]), dim=1).flatten(1)


def _centres(x: torch.Tensor) -> torch.Tensor:
    """Of the bases, −1.4 to 1.4: (8, 1)."""
    return ((torch.arange(BASES, dtype=x.dtype, device=x.device) - (BASES - 1) / 2) * STEP)[:, None]


class _Workspace:
    """Memory for one slice of rows, taken once: on a CPU, new memory for each step costs as much as the step.

    Args:
        x: rows (R, n).
        slots: how many of (r, 8, n).
    """

    def __init__(self, x: torch.Tensor, slots: int) -> None:
        self.count = max(1, _SLICE.get(x.device.type, _LARGE_SLICE) // x.shape[1])
        size = min(self.count, len(x)), BASES, x.shape[1]
        kind = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
        self._slots = torch.empty(slots, *size, **kind)
        self._wide = torch.empty(2, size[0], BASES + 1, size[2], **kind)
        self._centres = _centres(self._slots) * (-_K / STEP)
        self._twice = torch.tensor(2 * _K, **kind)

    def slices(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rows (R, ...) in slices."""
        return x.split(self.count)

    def windows(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of x (r, n): (x − c_g)/STEP, max(2 − u, 0) and max(1 − u, 0), times _K, and free slots; (r, 8, n) each."""
        d, outer, inner, *free = self._slots[:, : len(x)]
        torch.add(self._centres, x[:, None], alpha=_K / STEP, out=d)
        torch.abs(d, out=inner)
        torch.sub(self._twice, inner, out=outer).clamp_min_(0)
        torch.sub(outer, _K, out=inner).clamp_min_(0)
        return [d, outer, inner, *free]

    def wide(self, x: torch.Tensor) -> torch.Tensor:
        """Two of (r, 9, n)."""
        return self._wide[:, : len(x)]


class _KAN(torch.autograd.Function):
    """``features(x) @ matrixᵀ`` of rows (R, in), where features are SiLU and bases, (R, 9·in), a slice at a time."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, base: torch.Tensor, spline: torch.Tensor, scale: torch.Tensor, half: torch.dtype
    ) -> torch.Tensor:
        ctx.save_for_backward(x, base, spline, scale)
        ctx.half = half
        y = torch.empty(len(x), len(base), dtype=half, device=x.device)
        matrix = _matrix(base, spline, scale).to(half).T
        work = _Workspace(x, 3)
        for rows, part in zip(work.slices(x), work.slices(y), strict=True):
            rows = _widened(rows)
            features = work.wide(rows)[0]
            features[:, 0] = F.silu(rows)
            d, outer, inner = work.windows(rows)
            cubes = torch.mul(outer, outer, out=d).mul_(outer)
            torch.mul(inner, inner, out=outer)
            torch.addcmul(cubes, outer, inner, value=-4, out=features[:, 1:])
            torch.mm(features.flatten(1).to(half), matrix, out=part)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, base, spline, scale = ctx.saved_tensors
        need_x, *need = ctx.needs_input_grad[:4]
        matrix = _matrix(base, spline, scale).to(ctx.half) if need_x else None
        grad_x = torch.empty_like(x) if need_x else None
        total = spline.new_zeros(len(base), (BASES + 1) * x.shape[1]) if any(need) else None
        work = _Workspace(x, 5)
        for number, (rows, part) in enumerate(zip(work.slices(x), work.slices(grad), strict=True)):
            rows = _widened(rows)
            sigmoid = rows.sigmoid()
            d, outer, inner, squares, small = work.windows(rows)
            features, above = work.wide(rows)
            torch.mul(outer, outer, out=squares)
            torch.mul(inner, inner, out=small)
            if total is not None:
                torch.mul(rows, sigmoid, out=features[:, 0])
                torch.addcmul(outer.mul_(squares), small, inner, value=-4, out=features[:, 1:])
                total += part.T @ features.flatten(1).to(ctx.half)
            if need_x:
                # dB/dx = −sign(x − c) (max(2 − u, 0)² − 4 max(1 − u, 0)²) / (2·STEP)
                slope = squares.sub_(small, alpha=4).mul_(d.sign_())
                above.copy_((part @ matrix).view_as(above))
                silu = sigmoid * (1 + rows * (1 - sigmoid))
                splines = slope.mul_(above[:, 1:]).sum(dim=1).mul_(-3 * _K / STEP)
                work.slices(grad_x)[number].copy_(splines.addcmul_(silu, above[:, 0]))
        if total is None:
            return grad_x, None, None, None, None
        total = total.view(-1, BASES + 1, x.shape[1])
        return grad_x, total[:, 0], total[:, 1:] * scale[:, None], (total[:, 1:] * spline).sum(dim=1), None


def _widened(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()
