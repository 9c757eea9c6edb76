"""The batches of a run on the machines of a Ray cluster; the folders are seen by all of them.

Each actor has its own network and does whole batches, the same ones as on one machine, so what is written is the same
to the last byte (given the same ``--threads`` and kind of device). The batch of a worker that is lost is done again by
another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from common.batch.engine import Batch, Finished, load_model, local_engine
from common.batch.job import Options, OutputLost
from common.errors import UserError

_RETRIES = 3


class _Worker:
    """An actor: a local engine whose decoder runs in a process of its own, so that no file ends the actor."""

    def __init__(self, options: Options, device: str | None, threads: int) -> None:
        self.engine = local_engine(options, load_model(options, device, threads), workers=1)

    def run(self, batch: Batch) -> Finished:
        """One batch."""
        return next(self.engine.run(iter([batch])))


class RayEngine:
    """As :class:`common.batch.engine.Engine`, on a cluster.

    It is the one that ``RAY_ADDRESS`` names or this process is connected to, else one is started on this machine.

    Args:
        options: of the run; its paths must mean the same on every machine.
        device: of the network on each worker.
        threads: of the network on a CPU; as many CPUs are asked of Ray.
        said: called with a line for the user.

    Raises:
        UserError: Ray is not installed, or has no worker to give.
    """

    def __init__(
        self, options: Options, device: str | None, threads: int, said: Callable[[str], None] = lambda line: None
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UserError("--engine ray: Ray is not installed; pip install -r requirements-ray.txt") from error
        self.ray, self.said = ray, said
        self.started = not ray.is_initialized()
        if self.started:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        have = ray.cluster_resources()
        gpus = 1 if device != "cpu" and have.get("GPU") else 0
        each = max(1, threads)
        count = int(have["GPU"]) if gpus else int(have.get("CPU", 0) // each)
        if count < 1:
            raise UserError(f"--engine ray: the cluster has no worker with {each} CPUs; lower --threads")
        said(f"{count} workers on {len(ray.nodes())} machines")
        actor = ray.remote(num_cpus=each, num_gpus=gpus, max_restarts=-1, max_task_retries=_RETRIES)(_Worker)
        self.actors = [actor.remote(options, device, threads) for _ in range(count)]

    def run(self, batches: Iterable[Batch], stopping: Callable[[], bool] = lambda: False) -> Iterator[Finished]:
        """Segment batches, as each is done; errors are those of :meth:`common.batch.engine.Engine.run`."""
        source = iter(batches)
        busy: dict[Any, Any] = {}

        def give(actor: Any) -> None:
            batch = None if stopping() else next(source, None)
            if batch is not None:
                busy[actor.run.remote(batch)] = actor

        for actor in self.actors:
            give(actor)
        while busy:
            (done,), _ = self.ray.wait(list(busy), num_returns=1)
            actor = busy.pop(done)
            try:
                finished = self.ray.get(done)
            except self.ray.exceptions.RayTaskError as error:
                cause = error.cause
                if isinstance(cause, OutputLost | UserError):
                    raise cause from None
                raise
            except self.ray.exceptions.RayError as error:
                raise UserError(
                    f"--engine ray: a batch ended its worker {_RETRIES + 1} times ({type(error).__name__}: memory?); "
                    f"lower --batch-size and run the same command again"
                ) from error
            give(actor)
            yield finished

    def close(self) -> None:
        """Give the workers back."""
        for actor in self.actors:
            self.ray.kill(actor)
        if self.started:
            self.ray.shutdown()
