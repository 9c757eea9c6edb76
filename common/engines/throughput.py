"""How fast training is, and for how much of its time it waits for data."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from ignite.engine.events import EventEnum


class UnlabelledEvents(EventEnum):
    """What a trainer with a loader of unlabelled images fires when it asks for a batch of them, and has it."""

    BATCH_STARTED = "unlabelled_batch_started"
    BATCH_COMPLETED = "unlabelled_batch_completed"


class Throughput:
    """Images a second and the share of the time that is waited for data, averaged over the training steps of an epoch.

    In ``engine.state.metrics`` with the last step of an epoch:

    - ``images_per_second``: images that a step learns from, unlabelled ones too (each once, however many views of it
      there are), of all processes together;
    - ``data_share``: the part of the time, 0 to 1, between the request of a batch and its arrival, of the unlabelled
      ones too. On a GPU it is the time in which the GPU has no other work than that which makes the batch: what it has
      still to do from the step before does not count.

    Time runs from the request of the first batch to the end of the last step, without validation and saving. The first
    ``warm_up`` steps of a program (compilation, choice of algorithms, memory) do not count, but never more than half an
    epoch. An epoch that is left before its end has no values.

    A GPU is asked by events in its queue and waited for at the end of the epoch only.

    Args:
        warm_up: steps that do not count.
    """

    def __init__(self, warm_up: int = 10) -> None:
        self.warm_up = warm_up
        self.left = warm_up  # of the steps that do not count
        self.images = 0
        self.began: Any = None
        self.asked: Any = None
        self.waits: list[tuple[Any, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        pairs = [(Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED), *getattr(engine, "further_batches", ())]
        for asked, arrived in pairs:
            engine.add_event_handler(asked, self.ask)
            engine.add_event_handler(arrived, self.arrive)

    def start(self, engine: Engine) -> None:
        """Begin an epoch."""
        self.left = min(self.left, engine.state.epoch_length // 2)
        self.images, self.began, self.waits = 0, None, []

    def ask(self, engine: Engine) -> None:
        """A batch is asked for."""
        if not self.left:
            self.asked = self._now(engine)
            self.began = self.asked if self.began is None else self.began

    def arrive(self, engine: Engine) -> None:
        """It is there."""
        if not self.left:
            self.waits.append((self.asked, self._now(engine)))

    def __call__(self, engine: Engine) -> None:
        """One step further; after the last, publish."""
        if self.left:
            self.left -= 1
        else:
            self.images += len(engine.state.batch["image"]) + getattr(engine.state, "unlabelled_images", 0)
        if engine.state.iteration % engine.state.epoch_length == 0:
            ended = self._now(engine)
            if isinstance(ended, torch.cuda.Event):
                ended.synchronize()
            seconds = self._between(self.began, ended)
            processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
            engine.state.metrics["images_per_second"] = round(processes * self.images / seconds, 2)
            waited = sum(self._between(asked, arrived) for asked, arrived in self.waits)
            engine.state.metrics["data_share"] = round(waited / seconds, 4)

    @staticmethod
    def _now(engine: Engine) -> Any:
        """A moment: of the clock, or on a GPU of its queue."""
        if engine.state.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(engine.state.device))
        return event

    @staticmethod
    def _between(first: Any, second: Any) -> float:
        """Seconds between two moments."""
        return first.elapsed_time(second) / 1000 if isinstance(first, torch.cuda.Event) else second - first
