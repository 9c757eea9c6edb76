"""Entropic optimal transport between two sets of tokens, by Sinkhorn's iteration in the log domain.

Source: SSA (eq. 1 and II.A; ε = 0.03, at most 100 iterations, threshold 0.01); Cuturi, "Sinkhorn Distances" (2013).

The paper does not say which quantity the threshold is for. In FOA-Attack, which it cites, it is the mean change of an
unnormalised scaling vector, small from the second iteration on, far from the plan; here it is the relative error of
the row sums, sample by sample. exp(−M/ε) spans 1e-29 to 1: half precision holds little of it, so that all of this
runs in float32 (float64 if given) outside autocast, on logarithms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cosine_cost(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """M_ij = 1 − cos(f_img,i, f_txt,j), eq. 1: (B, N, D) and (B, L, D) to (B, N, L)."""
    return 1 - F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).transpose(1, 2)


@torch.no_grad()
def sinkhorn(
    cost: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    epsilon: float = 0.03,
    max_iterations: int = 100,
    tolerance: float = 1e-2,
) -> torch.Tensor:
    """The plan T ≥ 0 that minimises Σ T⊙M − ε·H(T) with the given sums.

    f ← ε log μ − ε LSE_j((g − M)/ε), g ← ε log ν − ε LSE_i((f − M)/ε), T = exp((f + g − M)/ε). A sample stops when
    max_i |Σ_j T_ij/μ_i − 1| < tolerance, whatever the others of its batch do.

    Args:
        cost: M (B, N, L), float32 or float64.
        rows: μ (B, N), each > 0, sums to 1.
        columns: ν (B, L), sums to 1; 0 where there is no token.
        epsilon: weight of the entropy.
        max_iterations: of both updates.
        tolerance: relative error of a row's sum.

    Returns:
        T (B, N, L). The columns' sums are exact, the rows' up to the tolerance.
    """
    kernel = -cost / epsilon  # (B, N, L)
    log_rows, log_columns = rows.log(), columns.log()  # −∞ where there is no token
    f = torch.zeros_like(log_rows)
    g = torch.zeros_like(log_columns).masked_fill(columns == 0, float("-inf"))  # both in units of ε
    done = torch.zeros(len(cost), 1, dtype=torch.bool, device=cost.device)
    for iteration in range(max_iterations):
        reach = torch.logsumexp(kernel + g[:, None, :], dim=2)  # (B, N)
        if iteration:
            error = ((f + reach - log_rows).exp() - 1).abs().amax(dim=1, keepdim=True)
            done = done | (error < tolerance)
            if done.all():
                break
        f = torch.where(done, f, log_rows - reach)
        g = torch.where(done, g, log_columns - torch.logsumexp(kernel + f[:, :, None], dim=1))
    return (f[:, :, None] + g[:, None, :] + kernel).exp()


def transport_loss(
    image: torch.Tensor,
    text: torch.Tensor,
    words: torch.Tensor,
    epsilon: float = 0.03,
    max_iterations: int = 100,
    tolerance: float = 1e-2,
) -> torch.Tensor:
    """L_local = Σ_ij T_ij M_ij, the mean over the batch.

    All image tokens weigh alike, and all words. With such sums the plans from image to text and from text to image
    are each other's transpose once they have converged, so that "both directions" are one loss: one is computed. T is
    a constant: the gradient flows through M.

    Args:
        image: f_img (B, N, D).
        text: f_txt (B, L, D).
        words: (B, L) bool, True at the words that take part; at least one a sentence.
        epsilon: as of :func:`sinkhorn`.
        max_iterations: as of :func:`sinkhorn`.
        tolerance: as of :func:`sinkhorn`.
    """
    with torch.autocast(device_type=image.device.type, enabled=False):
        exact = torch.promote_types(image.dtype, torch.float32)
        cost = cosine_cost(image.to(exact), text.to(exact))
        rows = torch.full(cost.shape[:2], 1 / cost.shape[1], dtype=exact, device=cost.device)
        columns = words.to(exact) / words.sum(dim=1, keepdim=True)
        plan = sinkhorn(cost.detach(), rows, columns, epsilon, max_iterations, tolerance)
        return (plan * cost).sum(dim=(1, 2)).mean()
