"""Trained weights into a network, or one line that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from common.bundle import weights
from common.errors import UserError
from common.networks.checkpoints import read_weights

from .checkpoint import plain


def load_weights(network: torch.nn.Module, path: str | Path) -> None:
    """Load a state dict that training wrote; every key must be there and fit.

    Args:
        network: on its device already; may be wrapped for several GPUs.
        path: of ``model.pt``.

    Raises:
        UserError: no such file, no weights in it, or those of another network.
    """
    state = read_weights(Path(weights(path)))
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: is no state dict of a network; give the model.pt that training wrote")
    try:
        plain(network).load_state_dict(state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


class LoadWeights:
    """Load trained weights when the engine starts; whether there is a file is checked at once.

    MONAI's ``CheckpointLoader`` does the same, but prints dozens of lines of a file that holds no weights.

    Args:
        path: of ``model.pt``.
        network: gets them.

    Raises:
        UserError: there is no file.
    """

    def __init__(self, path: str | Path, network: torch.nn.Module) -> None:
        self.path, self.network = weights(path), network

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load them."""
        load_weights(self.network, self.path)
