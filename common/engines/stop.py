"""Ends of a training before its last epoch: early stopping that a resumed run carries on with, and a time limit."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping


class EarlyStop:
    """Ignite's ``EarlyStopping`` on a metric of the evaluator, attached to the trainer after its validation.

    MONAI's ``EarlyStopHandler`` wants the trainer before it exists and has no state to save.

    Args:
        evaluator: the engine whose ``state.metrics`` holds ``metric`` (greater is better).
        metric: its name.
        patience: validations without gain after which training stops; 0 never stops.
        min_delta: a gain of less is none.
        interval: epochs between validations.
    """

    def __init__(
        self, evaluator: Engine, metric: str, patience: int, min_delta: float = 0.0, interval: int = 1
    ) -> None:
        self.evaluator, self.metric, self.patience = evaluator, metric, patience
        self.min_delta, self.interval = min_delta, interval
        self.stopping: EarlyStopping | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if not self.patience:
            return
        self.stopping = EarlyStopping(
            patience=self.patience,
            score_function=lambda evaluator: evaluator.state.metrics[self.metric],
            trainer=engine,
            min_delta=self.min_delta,
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        """Compare the evaluator's last value with the best so far."""
        self.stopping(self.evaluator)

    def state_dict(self) -> dict[str, Any]:
        """The counter and the best score."""
        return dict(self.stopping.state_dict()) if self.stopping else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved counter."""
        if self.stopping and state:
            self.stopping.load_state_dict(state)


class TimeLimit:
    """Stop when the time is up, so that ``--resume true`` goes on as if nothing had happened.

    Before an epoch: if there is no time for another one as long as the longest so far (the first, in which a program
    warms up, counts only until there is a second), training stops with the last checkpoint just written. Within an
    epoch that takes longer than expected: after the step in which the time is up. Nothing of that epoch is kept; it is
    done again when the run is resumed. Several processes stop before an epoch only, all at the word of the first.

    Ignite's ``TimeLimit`` stops within an epoch always.

    Args:
        seconds: from the start of training (not of the program, which reads and caches the data first); None for no
            limit.
        deadline: the moment, in seconds since 1970, at which all must be over whenever training started; None for
            none. Whichever is first counts.
    """

    def __init__(self, seconds: float | None = None, deadline: float | None = None) -> None:
        self.seconds, self.deadline = seconds, deadline
        self.until = float("inf")  # on the monotonic clock
        self.began: list[float] = []  # when each epoch did

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if self.seconds is None and self.deadline is None:
            return
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.before_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.after_step)

    def start(self, engine: Engine) -> None:
        """Set the clock."""
        left = [self.seconds] if self.seconds is not None else []
        left += [self.deadline - time.time()] if self.deadline is not None else []
        self.until = time.monotonic() + min(left)
        self.began = []

    def before_epoch(self, engine: Engine) -> None:
        """Stop if there is no time for another epoch."""
        now = time.monotonic()
        self.began.append(now)
        lengths = [after - before for before, after in zip(self.began, self.began[1:], strict=False)]
        longest = max(lengths[1:] or lengths, default=0.0)
        if self._agreed(now + longest > self.until, engine):
            self._stop(engine, f"the time is up after epoch {engine.state.epoch - 1}")

    def after_step(self, engine: Engine) -> None:
        """Stop if the time is up and the epoch is not at its end."""
        within = engine.state.iteration % engine.state.epoch_length != 0
        if within and time.monotonic() > self.until and not _several():
            self._stop(engine, f"the time is up within epoch {engine.state.epoch}, which is not kept")

    @staticmethod
    def _stop(engine: Engine, why: str) -> None:
        logging.getLogger("time_limit").info("%s: --resume true goes on from there", why)
        engine.terminate()

    @staticmethod
    def _agreed(up: bool, engine: Engine) -> bool:
        """What the first process says."""
        if not _several():
            return up
        word = torch.tensor(int(up), device=engine.state.device)
        dist.broadcast(word, 0)
        return bool(word)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
