"""What a training run says of itself: progress with the time left, loss terms, gradient norm, a history file."""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from tqdm import tqdm

from common.errors import UserError
from common.files import write_text


class Progress:
    """One bar over the whole run with the time left (and the loss, in training); a line a minute without a terminal.

    Ignite's ``ProgressBar`` counts an epoch at a time, so its time left is not the run's.

    Args:
        description: what stands before the bar.
    """

    def __init__(self, description: str = "training") -> None:
        self.description = description
        self.bar: tqdm | None = None
        self.shown = 0.0  # when a loss was

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator; only the first process draws."""
        if engine.state.rank == 0:
            # at the first epoch, not at the start: a resumed run then knows where it stands
            engine.add_event_handler(Events.EPOCH_STARTED, self.open)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)
            engine.add_event_handler(Events.COMPLETED, self.close)

    def open(self, engine: Engine) -> None:
        """Draw the bar, once a run."""
        if self.bar is None:
            seconds = 0.5 if sys.stderr.isatty() else 60.0
            self.bar = tqdm(
                total=engine.state.epoch_length * engine.state.max_epochs, initial=engine.state.iteration,
                desc=self.description, unit="step", mininterval=seconds, maxinterval=seconds, dynamic_ncols=True,
            )  # fmt: skip

    def __call__(self, engine: Engine) -> None:
        """One step further."""
        output = engine.state.output
        # not every step's: a GPU would have to be waited for
        if "loss" in output[0] and time.monotonic() - self.shown >= self.bar.mininterval:
            self.shown = time.monotonic()
            self.bar.set_postfix(loss=f"{float(output[0]['loss'].detach()):.4f}", refresh=False)
        self.bar.update()

    def close(self, engine: Engine) -> None:
        """Leave the finished bar on the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class LossTerms:
    """Call the loss's ``set_epoch`` when an epoch starts, and average its ``terms`` over the epoch.

    The mean of each term is put into ``engine.state.metrics`` as ``loss/<term>`` at the end of the epoch, where the
    TensorBoard and MLflow handlers find it; the mean loss itself as ``loss``.

    Args:
        loss: ``loss(output, target) -> scalar``; may have ``terms``, a dict of scalars of the last call, and
            ``set_epoch(epoch)``, counted from 0.
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.sums: dict[str, torch.Tensor] = {}
        self.steps = 0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Begin an epoch."""
        self.sums, self.steps = {}, 0
        if hasattr(self.loss, "set_epoch"):
            self.loss.set_epoch(engine.state.epoch - 1)

    def add(self, engine: Engine) -> None:
        """Add one step; tensors stay on their device, so that a GPU need not wait."""
        terms = {f"loss/{name}": value for name, value in getattr(self.loss, "terms", {}).items()}
        for name, value in {"loss": engine.state.output["loss"], **terms}.items():
            value = torch.as_tensor(value).detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1
        # a list, as MONAI's handlers expect (`from_engine`, also in the settings of `--tracking mlflow`): trainers
        # here do not decollate, and a dictionary's loss would reach them as a tuple
        engine.state.output = [engine.state.output]

    def finish(self, engine: Engine) -> None:
        """Publish the means.

        Raises:
            UserError: the loss is not finite, before this epoch overwrites the last checkpoint.
        """
        if not torch.isfinite(self.sums["loss"]):
            raise UserError(
                f"the loss is not finite in epoch {engine.state.epoch}: lower --learning_rate or set --max_norm 1.0, "
                f"and continue from the epoch before with --resume true"
            )
        for name, value in self.sums.items():
            engine.state.metrics[name] = float(value / self.steps)


class GradientNorm:
    """The global L2 norm of the gradient at every step, unscaled first, averaged over the epoch; clipped on request.

    MONAI's trainer uses a ``GradScaler`` whenever AMP is on, with bfloat16 too; the scaler remembers that it has
    unscaled and does not do it twice.

    Args:
        max_norm: clip to this norm; None does not clip.
    """

    def __init__(self, max_norm: float | None = None) -> None:
        self.max_norm = max_norm
        self.total: torch.Tensor | float = 0.0
        self.steps = 0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Begin an epoch."""
        self.total, self.steps = 0.0, 0

    def add(self, engine: Engine) -> None:
        """Measure, and clip if asked to."""
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        parameters = [p for p in engine.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if self.max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        self.total = self.total + norm.detach().double()
        self.steps += 1

    def finish(self, engine: Engine) -> None:
        """Publish the mean."""
        engine.state.metrics["gradient_norm"] = float(self.total / self.steps)


class History:
    """One row an epoch in ``history.csv``: losses, gradient norm, learning rate, validation metrics, seconds.

    The rows are part of the last checkpoint and the file is written anew from them, so that a resumed run has the
    history of the whole training.

    Args:
        path: the CSV file.
        optimizer: whose first group's learning rate is recorded.
        evaluator: the engine whose metrics are recorded when it has run in this epoch.
    """

    def __init__(self, path: str | Path, optimizer: torch.optim.Optimizer, evaluator: Engine) -> None:
        self.path, self.optimizer, self.evaluator = Path(path), optimizer, evaluator
        self.rows: list[dict[str, Any]] = []
        self.began = self.rate = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after validation, losses and gradient norm."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def start(self, engine: Engine) -> None:
        """Remember when the epoch began and with which learning rate."""
        self.began, self.rate = time.perf_counter(), self.optimizer.param_groups[0]["lr"]

    def __call__(self, engine: Engine) -> None:
        """Add the epoch's row and write the file (first process)."""
        row = {"epoch": engine.state.epoch, "steps": engine.state.iteration, "lr": self.rate}
        row |= dict(engine.state.metrics)
        if self.evaluator.state.epoch == engine.state.epoch:
            row |= {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        self.rows.append(row | {"seconds": round(time.perf_counter() - self.began, 2)})
        if engine.state.rank == 0:
            self.write()

    def write(self) -> None:
        """Write all rows; a column is empty where an epoch has no value for it."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """All rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the rows of an interrupted run."""
        self.rows = list(state["rows"])
