"""How a sentence reaches the network in MONAI's engines and in MONAI Label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from common.errors import UserError


class TextInferer(Inferer):
    """Call ``network(image, text)`` and return its logits.

    The ids come from the keyword ``text`` (an evaluator with ``PrepareBatchExtraInput({"text":
    "text"})``), else from ``inputs.meta["text"]`` (MONAI Label hands the inferer the image and nothing
    else); without either the network uses its default sentence. The network gets a plain tensor: it needs
    no meta data, and some of what a network does fails on a ``MetaTensor``.
    """

    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor | dict[str, torch.Tensor]],
        *args: Any,
        text: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Run the network.

        Args:
            inputs: images (B, C, H, W).
            network: called as ``network(image, text=ids, ...)``.
            args: handed on, after the image.
            text: ids (B, L), (L,) for one image, or None; between B and L there may be axes of 1.
            kwargs: handed on.

        Returns:
            Logits (B, 1, H, W), float32 also where the network computed in half precision: what is made of them is
            then the same wherever it is made. Of a network in train mode its ``"pred"``.

        Raises:
            UserError: the ids are not one row an image. One row is never split: its parts would be sentences that
                nobody wrote. Or the network gives no logits of the image's size: a pretraining's, say, whose vectors
                would be stretched to a mask.
        """
        if text is None and isinstance(inputs, MetaTensor):
            text = inputs.meta.get("text")
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if text is not None:
            text = self._rows(text, image)
        out = network(image, *args, text=text, **kwargs)
        logits = out["pred"] if isinstance(out, dict) else out
        if logits.shape != (image.shape[0], 1, *image.shape[2:]):
            raise UserError(
                f"TextInferer: the network gives {tuple(logits.shape)} for images of {tuple(image.shape)}, and no "
                f"logits of a mask; leave an overlay of pretraining out, and give weights of a segmentation"
            )
        return logits.float()

    @staticmethod
    def _rows(text: Any, image: torch.Tensor) -> torch.Tensor:
        """The ids as a plain int64 tensor (B, L) beside the image."""
        ids = torch.as_tensor(text, dtype=torch.int64, device=image.device)
        if isinstance(ids, MetaTensor):
            ids = ids.as_tensor()
        rows, length = (1, ids.numel()) if ids.ndim < 2 else (ids.shape[0], ids.shape[-1])
        if ids.numel() == 0 or rows != image.shape[0] or ids.numel() != rows * length:
            raise UserError(
                f"TextInferer: token ids of shape {tuple(ids.shape)} for {image.shape[0]} images; give one row of ids "
                f"an image"
            )
        return ids.reshape(rows, -1)
