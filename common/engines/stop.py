"""Early stopping that a resumed run carries on with."""

from __future__ import annotations

from typing import Any

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
