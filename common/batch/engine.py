"""Batches through the network, while the next ones are decoded and the last ones written."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.batch.job import COLUMNS, Job, Options, Prepared
from common.batch.pool import Pool, Task
from common.bundle import bundle_folder
from common.errors import UserError
from common.runtime.model import Model

LOG = logging.getLogger("segment")
AHEAD = 2  # batches that are decoded while one is in the network, and as many that are written: bounds the memory


@dataclass
class Batch:
    """Images that go through the network together.

    Attributes:
        number: its place in the run.
        jobs: the images.
        done: rows of images that are refused: they go nowhere, but have their place.
    """

    number: int
    jobs: list[Job]
    done: list[dict[str, Any]]


@dataclass
class Finished:
    """A batch's rows, in the order of its jobs, and the seconds each step of an image took."""

    batch: Batch
    rows: list[dict[str, Any]]
    seconds: list[dict[str, float]]


class Engine:
    """A bundle's network and the processes around it.

    Args:
        model: the network.
        pool: processes that decode and write; without any it is done in this one, one thing after the other.
        said: called with a line for the user.
    """

    def __init__(self, model: Model, pool: Pool, said: Callable[[str], None] = lambda line: None) -> None:
        self.model, self.pool, self.said = model, pool, said
        self.ahead = AHEAD if pool.workers else 0

    def run(self, batches: Iterable[Batch], stopping: Callable[[], bool] = lambda: False) -> Iterator[Finished]:
        """Segment batches, in order; once ``stopping`` says so, those that are begun are ended and no others begun.

        Raises:
            OutputLost: the output folder cannot be written to.
        """
        source = iter(batches)
        decoding: deque[tuple[Batch, list[Task]]] = deque()
        writing: deque[tuple[Batch, list[Prepared], dict[int, Task], float]] = deque()
        more = True
        while more or decoding or writing:
            while more and len(decoding) <= self.ahead:
                batch = None if stopping() else next(source, None)
                if batch is None:
                    more = False
                else:
                    decoding.append((batch, [self.pool.submit("prepare", job) for job in batch.jobs]))
            if decoding:
                batch, tasks = decoding.popleft()
                writing.append(self._through(batch, self.pool.collect(tasks)))
            if writing and (len(writing) > self.ahead or not decoding):
                yield self._written(*writing.popleft())

    def close(self) -> None:
        """End the processes."""
        self.pool.close()

    def _through(self, batch: Batch, prepared: list[Prepared]) -> tuple[Batch, list[Prepared], dict[int, Task], float]:
        """A batch through the network; its images are handed on to be written."""
        at = [i for i, image in enumerate(prepared) if image.network is not None]
        start = time.perf_counter()
        logits = self._logits([prepared[i].network for i in at]) if at else np.empty(0)
        share = (time.perf_counter() - start) / max(1, len(at))
        tasks = {}
        for i, one in zip(at, logits, strict=False):
            prepared[i].network = None
            tasks[i] = self.pool.submit("finish", batch.jobs[i], prepared[i], one)
        return batch, prepared, tasks, share

    def _logits(self, inputs: Sequence[dict[str, Any] | None]) -> np.ndarray:
        """Logits (B, 1, H, W); where the GPU's memory does not hold the batch, of its halves."""
        data = [{key: torch.from_numpy(value) for key, value in one.items()} for one in inputs if one]
        try:
            return self.model.logits(data).numpy()
        except torch.cuda.OutOfMemoryError:
            if len(data) == 1:
                raise UserError("the GPU's memory does not hold one image; give --device cpu") from None
            torch.cuda.empty_cache()
            half = len(data) // 2
            self.said(f"the GPU's memory does not hold {len(data)} images at once: halves of {half} are tried")
            return np.concatenate([self._logits(inputs[:half]), self._logits(inputs[half:])])

    def _written(self, batch: Batch, prepared: list[Prepared], tasks: dict[int, Task], share: float) -> Finished:
        for i, image in zip(tasks, self.pool.collect(list(tasks.values())), strict=True):
            image.seconds["network"] = share
            prepared[i] = image
        for image in prepared:
            if image.trace:
                LOG.error("an image failed in a way that nobody foresaw", extra={"facts": {"where": image.trace}})
        return Finished(batch, [image.row for image in prepared], [image.seconds for image in prepared])


def local_engine(
    options: Options, model: Model, workers: int | None, said: Callable[[str], None] = lambda line: None
) -> Engine:
    """An engine with its processes; ``workers`` None chooses by the number of cores."""
    if workers is None:
        workers = max(1, min(8, (os.cpu_count() or 1) // 2))
    return Engine(model, Pool(options, workers, _lost), said)


def load_model(options: Options, device: str | None, threads: int) -> Model:
    """The network of a run; ``threads`` of a CPU, 0 leaves it to torch.

    Raises:
        UserError: as of :class:`common.runtime.model.Model`.
    """
    if threads:
        torch.set_num_threads(threads)
    return Model(bundle_folder(options.bundle), options.overlays, device, **dict(options.override))


def _lost(arguments: tuple[Any, ...], reason: str) -> Prepared:
    """The row of an image whose process ended or hung."""
    job: Job = arguments[0]
    LOG.error("an image %s", reason)
    row = dict.fromkeys(COLUMNS, "") | job.row | {"status": "failed", "verdict": "failed", "reason": reason}
    return Prepared(row)
