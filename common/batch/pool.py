"""Worker processes that a damaged file may end without ending the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as LateError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from common.batch.job import Options, Workshop

LONGEST = 900.0  # seconds one file may take: a decoder that hangs is ended
_LATE = f"takes longer than {LONGEST / 60:.0f} minutes"
_shop: Workshop | None = None


def _begin(options: Options, parent: int, niceness: int) -> None:
    """What each worker does first."""
    import torch

    # Ctrl-C is the parent's to answer; a parent that was killed takes its workers along
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    os.nice(niceness)
    global _shop
    _shop = Workshop(options)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _call(method: str, arguments: tuple[Any, ...]) -> Any:
    assert _shop is not None
    return getattr(_shop, method)(*arguments)


class Task:
    """A call that was handed to the pool, and what is needed to hand it in again."""

    def __init__(self, method: str, arguments: tuple[Any, ...], future: Future, pool: int) -> None:
        self.method, self.arguments, self.future, self.pool = method, arguments, future, pool


class Pool:
    """Calls of a :class:`~common.batch.job.Workshop`'s methods, in processes of their own or in this one.

    Args:
        options: of the run.
        workers: processes; 0 calls in this process, where a decoder that crashes ends the run.
        lost: called with a task's arguments whose process it ended twice or that took too long; gives the result.
    """

    def __init__(self, options: Options, workers: int, lost: Callable[[tuple[Any, ...], str], Any]) -> None:
        self.options, self.workers, self.lost = options, workers, lost
        self.shop = Workshop(options) if workers == 0 else None
        self.started = 0  # how often processes were started
        self.executor = self._start() if workers else None
        if self.executor is not None:
            self.executor.submit(os.getpid)  # else the first process starts with the first call

    def _start(self) -> ProcessPoolExecutor:
        # spawned, not forked: torch's threads do not survive a fork
        self.started += 1
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, _begin, (self.options, os.getpid(), 5))

    def submit(self, method: str, *arguments: Any) -> Task:
        """Begin a call."""
        future: Future = Future()
        if self.shop is not None:
            try:
                future.set_result(getattr(self.shop, method)(*arguments))
            except Exception as error:
                future.set_exception(error)
        else:
            future = self._submit(method, arguments)
        return Task(method, arguments, future, self.started)

    def _submit(self, method: str, arguments: tuple[Any, ...]) -> Future:
        assert self.executor is not None
        try:
            return self.executor.submit(_call, method, arguments)
        except BrokenProcessPool as error:
            broken: Future = Future()
            broken.set_exception(error)
            return broken

    def collect(self, tasks: Sequence[Task]) -> list[Any]:
        """Results of tasks, in order; after a crash each is done again alone, and the one that crashes again is lost.

        Raises:
            Exception: what a call raised.
        """
        results: list[Any] = []
        for task in tasks:
            try:
                results.append(task.future.result(LONGEST))
            except (BrokenProcessPool, CancelledError):
                # one of the files in work ended its process, and all of them with it: each once more, alone
                if task.pool == self.started:
                    self._restart()
                results.append(self._alone(task))
            except LateError:
                self._restart()
                results.append(self.lost(task.arguments, _LATE))
        return results

    def _alone(self, task: Task) -> Any:
        try:
            return self._submit(task.method, task.arguments).result(LONGEST)
        except BrokenProcessPool:
            self._restart()
            return self.lost(task.arguments, "ends the program that reads it: damaged, or too large for the memory")
        except LateError:
            self._restart()
            return self.lost(task.arguments, _LATE)

    def _restart(self) -> None:
        assert self.executor is not None
        self._end()
        self.executor = self._start()

    def _end(self) -> None:
        assert self.executor is not None
        for process in list((self.executor._processes or {}).values()):
            process.kill()
        self.executor.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End the workers."""
        if self.executor is not None:
            self._end()
