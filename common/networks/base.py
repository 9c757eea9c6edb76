"""What all networks share: the call, what it returns, checks of the input and of loaded weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from common.errors import UserError


@dataclass(frozen=True)
class Insight:
    """Maps of a method's own, for ``python -m tools explain``: what a network's ``insights`` gives a list of.

    ``insights(image, text, prior)`` gets a batch as :meth:`SegmentationNetwork.forward` does, and the prior (B, H, W)
    of the sentence's position words, 1 everywhere if it has none.

    Attributes:
        heading: what the maps show.
        names: of each map.
        values: (B, N, H, W), 0 to 1, in the network's grid.
        outline: (B, H, W), what is above 0.5 is outlined in every map; None outlines nothing.
    """

    heading: str
    names: tuple[str, ...]
    values: torch.Tensor
    outline: torch.Tensor | None = None


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
            UserError: the image or the ids do not fit.
        """
        if not is_exporting():
            self.check_image(image)
        out = self.outputs(image, self.prompt(text, image), **extra)
        return out if self.training else out["pred"]

    def prompt(self, text: torch.Tensor | None, image: torch.Tensor) -> torch.Tensor | None:
        """The ids that :meth:`outputs` gets; a network with text puts its default sentence for None here."""
        return text

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
        fault = self.misfit({k[len(prefix) :]: v for k, v in state_dict.items()})
        if fault:
            raise UserError(
                f"these weights do not fit {type(self).__name__}: {fault}; use the weights that belong to "
                f"this config, or the config (and overlay) that they were trained with"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def misfit(self, given: Mapping[str, Any]) -> str:
        """Why the state dict ``given`` is none of this network's, in one line; "" if it is."""
        return _misfit(self.state_dict(), given)


class TextNetwork(SegmentationNetwork):
    """A network that needs a sentence: checks the ids, and stands in ``default_text`` for a missing one.

    ``default_text`` is in the state dict, and loading compares it: a vocabulary in other order would give the words
    other ids, and the network would mark the other lung. It holds no padding, for that says nothing of a vocabulary.

    Args:
        in_channels: channels of the image, 1 or 3.
        divisible_by: height and width must be multiples of this number of pixels.
        default_text: ids of the bundle's default sentence, special tokens included.
        vocab_size: ids must be below it.
        max_length: the longest row of ids that the text encoder has positions for.
    """

    default_text: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        divisible_by: int,
        default_text: Sequence[int],
        vocab_size: int,
        max_length: int,
    ) -> None:
        super().__init__(in_channels, divisible_by)
        self.vocab_size = vocab_size
        self.max_length = max_length
        default = torch.tensor([list(default_text)], dtype=torch.int64, device="cpu")  # (1, L)
        self.check_text(default, 1)
        self.register_buffer("default_text", default[default != 0][None])

    def prompt(self, text: torch.Tensor | None, image: torch.Tensor) -> torch.Tensor:
        """``text``, checked, or the default sentence once for each image: (B, L)."""
        if text is None:
            return self.default_text.expand(image.shape[0], -1)
        if not is_exporting():
            self.check_text(text, image.shape[0])
        return text

    def misfit(self, given: Mapping[str, Any]) -> str:
        """As of every network; and whether the default sentence had the same ids where ``given`` was trained."""
        theirs = given.get("default_text")
        if not isinstance(theirs, torch.Tensor):
            return super().misfit(given)
        fault = super().misfit({**given, "default_text": self.default_text})
        if not fault and theirs.flatten().tolist() != self.default_text.flatten().tolist():
            fault = (
                f"the weights were trained with another vocabulary: their ids of the default sentence are "
                f"{theirs.flatten().tolist()}, this tokeniser's {self.default_text.flatten().tolist()}"
            )
        return fault

    def check_text(self, text: torch.Tensor, batch: int) -> None:
        """Refuse ids that are no (batch, L) int64, too long, of another vocabulary, or padding only."""
        name = type(self).__name__
        if text.ndim != 2 or text.shape[0] != batch or text.dtype != torch.int64:
            raise UserError(
                f"{name}: the token ids are {text.dtype} of shape {tuple(text.shape)}, expected torch.int64 "
                f"of shape ({batch}, length); tokenise with the bundle's own transform"
            )
        if text.shape[1] > self.max_length:
            raise UserError(
                f"{name}: sentences of {text.shape[1]} tokens, but the text encoder has {self.max_length} "
                f"positions; lower the tokeniser's length"
            )
        if text.min() < 0 or text.max() >= self.vocab_size:
            raise UserError(
                f"{name}: token ids from {text.min()} to {text.max()}, but the text encoder knows 0 to "
                f"{self.vocab_size - 1}; use the tokeniser that belongs to it"
            )
        if not (text != 0).any(dim=1).all():
            raise UserError(f"{name}: a sentence without a token (its ids are all 0, the padding); give it words")


def is_exporting() -> bool:
    """Whether the network is being traced or exported; checks and caches must stay out of the graph."""
    return torch.jit.is_tracing() or torch.jit.is_scripting() or torch.compiler.is_compiling()


def _misfit(own: Mapping[str, torch.Tensor], given: Mapping[str, Any]) -> str:
    """How ``given`` differs from the state dict ``own``, in one line; "" if it fits."""
    missing = [key for key in own if key not in given]
    foreign = [key for key in given if key not in own]
    reshaped = [k for k, v in own.items() if isinstance(given.get(k), torch.Tensor) and given[k].shape != v.shape]
    parts = [f"{len(keys)} {kind} (such as '{keys[0]}')" for kind, keys in
             (("keys missing", missing), ("foreign keys", foreign)) if keys]  # fmt: skip
    if reshaped:
        key = reshaped[0]
        parts.append(
            f"{len(reshaped)} of another shape (such as '{key}': {tuple(given[key].shape)}, "
            f"expected {tuple(own[key].shape)})"
        )
    return ", ".join(parts)
