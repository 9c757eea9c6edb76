"""What all networks share: the call, what it returns, checks of the input and of loaded weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from common.errors import UserError


class SegmentationNetwork(nn.Module, ABC):
    """``network(image, text=None)``: logits (B, 1, H, W) in eval mode, a dict with ``"pred"`` in train mode.

    A subclass implements :meth:`outputs`. Weights that do not fit are refused in one line, even by
    ``load_state_dict(strict=False)``: MONAI Label loads so, and a network that is half random would answer.

    Args:
        in_channels: channels of the image, 1 or 3.
        divisible_by: height and width must be multiples of this number of pixels.
    """

    def __init__(self, in_channels: int, divisible_by: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.divisible_by = divisible_by

    @abstractmethod
    def outputs(
        self, image: torch.Tensor, text: torch.Tensor | None, **extra: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """What the loss needs; at least ``"pred"``, the logits (B, 1, H, W)."""

    def forward(
        self, image: torch.Tensor, text: torch.Tensor | None = None, **extra: torch.Tensor | None
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Segment a batch.

        Args:
            image: (B, in_channels, H, W), float.
            text: (B, L) int64 ids padded with 0; None stands for the network's default sentence.
            extra: tensors that only a method's training needs, by the names of its ``extra_keys``.

        Returns:
            In eval mode logits (B, 1, H, W); in train mode a dict with ``"pred"``.

        Raises:
            UserError: the image or the ids have a wrong shape.
        """
        if not is_exporting():
            self.check_image(image)
        out = self.outputs(image, text, **extra)
        return out if self.training else out["pred"]

    def check_image(self, image: torch.Tensor) -> None:
        """Refuse an image of another layout than (B, in_channels, H, W) or of a size that does not divide."""
        name = type(self).__name__
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise UserError(
                f"{name}: the image has shape {tuple(image.shape)}, expected (batch, {self.in_channels}, "
                f"height, width); change the transforms or the network's in_channels"
            )
        height, width = image.shape[-2:]
        if height % self.divisible_by or width % self.divisible_by:
            raise UserError(
                f"{name}: the image is {height} x {width} pixels, but height and width must be divisible by "
                f"{self.divisible_by}; resize or pad it"
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # torch calls this for each module before it copies anything, and whatever `strict` says.
        fault = _misfit(self.state_dict(), {k[len(prefix) :]: v for k, v in state_dict.items()})
        if fault:
            raise UserError(
                f"these weights do not fit {type(self).__name__}: {fault}; use the weights that belong to "
                f"this config, or the config (and overlay) that they were trained with"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def is_exporting() -> bool:
    """Whether the network is being traced or exported; checks and caches must stay out of the graph."""
    return torch.jit.is_tracing() or torch.jit.is_scripting() or torch.compiler.is_compiling()


def _misfit(own: Mapping[str, torch.Tensor], given: Mapping[str, Any]) -> str:
    """How ``given`` differs from the state dict ``own``, in one line; "" if it fits."""
    missing = [key for key in own if key not in given]
    foreign = [key for key in given if key not in own]
    reshaped = [
        k for k, v in own.items() if isinstance(given.get(k), torch.Tensor) and given[k].shape != v.shape
    ]
    parts = [f"{len(keys)} {kind} (such as '{keys[0]}')" for kind, keys in
             (("keys missing", missing), ("foreign keys", foreign)) if keys]  # fmt: skip
    if reshaped:
        key = reshaped[0]
        parts.append(
            f"{len(reshaped)} of another shape (such as '{key}': {tuple(given[key].shape)}, "
            f"expected {tuple(own[key].shape)})"
        )
    return ", ".join(parts)
