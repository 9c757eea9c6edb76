"""A frozen text encoder that encodes each distinct sentence once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from common.networks.base import is_exporting


class FrozenText(nn.Module):
    """Encode with fixed weights, in eval mode, and remember: 7,145 QaTa images share about 300 sentences.

    A sentence is encoded alone, without autocast, at the length to which its row is padded: its states
    depend on no other sentence of the batch. They may differ in the last bits from encoding the whole
    batch, as tracing and exporting do, where nothing is remembered. Loading weights and ``.to()`` of this
    module or one around it forget everything; state dicts, copies and pickles hold no sentences.

    Args:
        encoder: ids (B, L) to states (B, ...); its parameters are frozen here.
        max_sentences: the least recently used is forgotten beyond it.
    """

    def __init__(self, encoder: nn.Module, max_sentences: int = 4096) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.max_sentences = max_sentences
        self._states: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The encoder's states of each row of ids (B, L), without gradient."""
        if is_exporting():
            return self.encoder(ids)
        return torch.cat([self._encode(tuple(row), ids.device) for row in ids.tolist()])

    def train(self, mode: bool = True) -> FrozenText:
        """As of every module, but the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forget(self) -> None:
        """Forget all sentences."""
        self._states.clear()

    def _encode(self, row: tuple[int, ...], device: torch.device) -> torch.Tensor:
        if row not in self._states:
            with torch.no_grad(), torch.autocast(device_type=device.type, enabled=False):
                self._states[row] = self.encoder(torch.tensor([row], device=device))
            if len(self._states) > self.max_sentences:
                self._states.popitem(last=False)
        self._states.move_to_end(row)
        return self._states[row]

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> FrozenText:
        self.forget()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_states": OrderedDict()}
