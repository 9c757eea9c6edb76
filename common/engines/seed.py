"""Randomness of an epoch from (seed, rank, epoch) alone, so that a resumed run repeats the unbroken one."""

from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd


class SeedEachEpoch:
    """Reseed torch, NumPy, Python and the random transforms when an epoch starts, and begin the data anew.

    Workers of the data loader take their seeds from torch's generator when the loader is iterated; the loader is
    therefore iterated anew in every epoch, after the reseeding, also where an epoch is shorter or longer than the
    data. Attach it before every other handler that draws random numbers.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Reseed for ``engine.state.epoch`` and this process's rank."""
        # a loader's thread still makes batches of the epoch before; without its iterator it ends
        loader = engine.data_loader
        engine.set_data(())
        words = np.random.SeedSequence([self.seed, engine.state.rank, engine.state.epoch]).generate_state(4)
        torch.manual_seed(int(words[0]))
        np.random.seed(int(words[1]))
        random.seed(int(words[2]))
        set_rnd(loader.dataset, seed=int(words[3]))
        engine.set_data(loader)
