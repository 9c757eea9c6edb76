"""Composite directional guidance: where the words' positions and the network's own attention agree.

Source: SSA, II.B, eq. 3 and 4. Order as in the paper: first the Gaussian prior of the position words
(:func:`common.prompts.zones.composite_prior`, warped with the image), then a box around the attention, then both
multiplied. Everything here is a constant for the gradient but the prediction in :func:`guide_loss`.

Open in the paper, and what was chosen: the box holds A_norm ≥ 0.5, grown by 10 % about its centre; one below 5 % of the
picture is no box but the whole picture; the prior keeps its place in the picture and is cut at the box (``relative``
lays it into the box instead: with a sentence about one side the box is one lung, and its left half is not what "left"
means); M_guide is scaled to a maximum of 1. The Gaussians' tails below 0.1 reach over to the other lung, and scaled
they would guide there: they are cut off in M_guide, and where prior and attention hardly meet anywhere (maximum below
0.1) there is no guide.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

BOX_LEVEL, BOX_GROWTH, BOX_LEAST = 0.5, 0.1, 0.05
MEETING = 0.1


class Guidance(NamedTuple):
    """The maps of eq. 3 and what they are made of, of a batch.

    Attributes:
        attention: A_norm (B, H, W), 0 to 1.
        named: (B, H, W) bool, the named places: the prior of the whole picture is 0.1 or more.
        box: (B, 4): top, left, bottom, right in pixels, the last two exclusive.
        prior: M_pri (B, H, W), the prior in the box.
        guide: M_guide (B, H, W), its maximum 1 or, where there is none, all 0.
        placed: (B,) bool, whether the sentence names a place.
        active: (B,) bool, whether there is a guide: it does, and the attention meets it.
    """

    attention: torch.Tensor
    named: torch.Tensor
    box: torch.Tensor
    prior: torch.Tensor
    guide: torch.Tensor
    placed: torch.Tensor
    active: torch.Tensor


def names_a_place(prior: torch.Tensor) -> torch.Tensor:
    """(B,) bool of priors (B, H, W): False where the prior is 1 everywhere, for the sentence has no position words."""
    return prior.amin(dim=(1, 2)) < 0.5


def normalise(attention: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A_norm (B, H, W): attention (B, h, w) made as large as the picture, then 0 to 1 image by image.

    Attention that is the same everywhere tells nothing: 1 everywhere.
    """
    large = F.interpolate(attention[:, None], size, mode="bilinear")[:, 0]  # (B, H, W)
    low, high = (large.flatten(1).aminmax(dim=1)[i][:, None, None] for i in (0, 1))
    flat = high - low <= 1e-6 * high.abs()
    return torch.where(flat, 1.0, (large - low) / torch.where(flat, 1.0, high - low))


def dynamic_box(attention: torch.Tensor) -> torch.Tensor:
    """The box (B, 4) around A_norm (B, H, W) ≥ 0.5: top, left, bottom, right in pixels."""
    _, height, width = attention.shape
    strong = attention >= BOX_LEVEL
    sides = []
    for axis, length in ((2, height), (1, width)):
        line = strong.any(dim=axis).to(attention.dtype)  # (B, length)
        first = line.argmax(dim=1)
        last = length - line.flip(1).argmax(dim=1)
        sides.append((first.to(attention.dtype), last.to(attention.dtype)))
    (top, bottom), (left, right) = sides
    small = (bottom - top) * (right - left) < BOX_LEAST * height * width
    grown = []
    for first, last, length in ((top, bottom, height), (left, right, width)):
        more = BOX_GROWTH / 2 * (last - first)
        grown.append(torch.where(small, 0.0, (first - more).clamp(min=0)))
        grown.append(torch.where(small, float(length), (last + more).clamp(max=length)))
    return torch.stack([grown[0], grown[2], grown[1], grown[3]], dim=1)


def into_box(prior: torch.Tensor, box: torch.Tensor, relative: bool = False) -> torch.Tensor:
    """M_pri: the prior (B, H, W) where the centre of a pixel lies in the box (B, 4), 0 elsewhere.

    Args:
        prior: of the whole picture.
        box: top, left, bottom, right in pixels.
        relative: shrink the prior of the whole picture into the box, instead of cutting it.
    """
    _, height, width = prior.shape
    row = torch.arange(height, device=prior.device, dtype=prior.dtype)[None, :, None] + 0.5
    column = torch.arange(width, device=prior.device, dtype=prior.dtype)[None, None, :] + 0.5
    top, left, bottom, right = (side[:, None, None] for side in box.to(prior.dtype).unbind(dim=1))
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    if relative:
        across = (2 * (column - left) / (right - left) - 1).expand_as(prior)
        down = (2 * (row - top) / (bottom - top) - 1).expand_as(prior)
        grid = torch.stack([across, down], dim=-1)  # (B, H, W, 2)
        prior = F.grid_sample(prior[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    return prior * inside


@torch.no_grad()
def guidance(attention: torch.Tensor, prior: torch.Tensor, box_relative: bool = False) -> Guidance:
    """Eq. 3, M_guide = A_norm ⊙ M_pri.

    Args:
        attention: of the words on the picture (B, h, w), ≥ 0.
        prior: of the position words (B, H, W); 1 everywhere if there are none.
        box_relative: lay the zones into the box.
    """
    with torch.autocast(device_type=attention.device.type, enabled=False):
        prior = prior.float()
        attention = normalise(attention.float(), prior.shape[-2:])
        box = dynamic_box(attention)
        local = into_box(prior, box, box_relative)
        guide = attention * local * (local >= MEETING)
        highest = guide.amax(dim=(1, 2))
        placed = names_a_place(prior)
        active = placed & (highest >= MEETING)
        guide = torch.where(active[:, None, None], guide / highest.clamp(min=MEETING)[:, None, None], 0.0)
        return Guidance(attention, prior >= MEETING, box, local, guide, placed, active)


def guide_loss(logits: torch.Tensor, guides: Guidance, beta: float = 0.5, suppress_only: bool = False) -> torch.Tensor:
    """Eq. 4, L_guide = BCE(P, P_refined), the mean over pixels and images; 0 for those without guide (or place).

    P_refined = stopgrad[(1 − β)P + β·M_guide]: its gradient to the logits is β(P − M_guide), that of β·BCE(P, M_guide).

    Args:
        logits: (B, 1, H, W); P is their sigmoid.
        guides: of :func:`guidance`.
        beta: share of the guide.
        suppress_only: P_refined = stopgrad[P·1(prior ≥ 0.1)] instead: nothing is added, only what lies outside the
            named places is taken away. The prior is the whole picture's: cut at the attention's box, it would take
            away lesions in named places that the attention misses.
    """
    with torch.autocast(device_type=logits.device.type, enabled=False):
        logits = logits[:, 0].float()
        found = logits.detach().sigmoid()
        mixed = (1 - beta) * found + beta * guides.guide
        refined = found * guides.named if suppress_only else mixed
        loss = F.binary_cross_entropy_with_logits(logits, refined, reduction="none").mean(dim=(1, 2))
        return (loss * (guides.placed if suppress_only else guides.active)).mean()
