"""Worker processes that a damaged file may end without ending the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as LateError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from common.batch.job import Options, Workshop
from common.errors import UserError

LONGEST = 900.0  # seconds one file may take: a decoder that hangs is ended
_TRIES = 2  # of a file alone: what ended its process may have been another program's hunger for memory
_ENDS = "ends the program that reads it: damaged, or too large for the memory"
_shop: Workshop | None = None


def _begin(options: Options, niceness: int) -> None:
    """What each worker does first."""
    import torch

    # a run that was killed takes its workers along
    threading.Thread(target=_leave, daemon=True).start()
    torch.set_num_threads(1)
    os.nice(niceness)
    global _shop
    _shop = Workshop(options)


def _leave() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
    os._exit(1)


def _call(method: str, arguments: tuple[Any, ...]) -> Any:
    assert _shop is not None
    return getattr(_shop, method)(*arguments)


class Task:
    """A call that was handed to the pool, and what is needed to hand it in again."""

    def __init__(self, method: str, arguments: tuple[Any, ...], future: Future, pool: int) -> None:
        self.method, self.arguments, self.future, self.pool = method, arguments, future, pool


class _Processes:
    """So many workers, that start when there is something to do; once one is lost they are all."""

    def __init__(self, options: Options, workers: int) -> None:
        # forked from a server that has imported everything and has no threads, which do not survive a fork: the first
        # worker takes seconds, others and those after a crash next to none
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["common.batch.job"])
        self.executor = ProcessPoolExecutor(workers, context, _begin, (options, 5))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Begin a call."""
        # what is blocked here stays so in the process that this may start: Ctrl-C is for this one to answer
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            return self.executor.submit(function, *arguments)
        except BrokenProcessPool as error:
            broken: Future = Future()
            broken.set_exception(error)
            return broken
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self) -> None:
        """End them at once."""
        for process in list((self.executor._processes or {}).values()):
            process.kill()
        self.executor.shutdown(wait=True, cancel_futures=True)


class Pool:
    """Calls of a :class:`~common.batch.job.Workshop`'s methods, in processes of their own or in this one.

    Args:
        options: of the run.
        workers: processes; 0 calls in this process, where a decoder that crashes ends the run.
        lost: called with the arguments of a task that ended its process or took too long; gives the result.
    """

    def __init__(self, options: Options, workers: int, lost: Callable[[tuple[Any, ...], str], Any]) -> None:
        self.options, self.workers, self.lost = options, workers, lost
        self.shop = Workshop(options) if workers == 0 else None
        self.started = 0  # how often processes were started
        self.processes: _Processes | None = None
        self.ready: Future = Future()
        self.one: _Processes | None = None  # where a file is alone
        if workers:
            self._start()
        else:
            self.ready.set_result(None)

    def _start(self) -> None:
        self.started += 1
        self.processes = _Processes(self.options, self.workers)
        self.ready = self.processes.submit(os.getpid)  # else the first process starts with the first call

    def submit(self, method: str, *arguments: Any) -> Task:
        """Begin a call."""
        if self.processes is not None:
            return Task(method, arguments, self.processes.submit(_call, method, arguments), self.started)
        future: Future = Future()
        try:
            future.set_result(getattr(self.shop, method)(*arguments))
        except Exception as error:
            future.set_exception(error)
        return Task(method, arguments, future, self.started)

    def collect(self, tasks: Sequence[Task]) -> list[Any]:
        """Results of tasks, in order; after a crash each is done again alone, and what crashes there too is lost.

        Raises:
            Exception: what a call raised.
        """
        results: list[Any] = []
        for task in tasks:
            self.ready.exception()  # the time that processes take to start is not a file's
            try:
                results.append(task.future.result(LONGEST))
            except (BrokenProcessPool, CancelledError):
                # one of the files in work ended its process, and all of them with it
                if task.pool == self.started:
                    self._restart()
                results.append(self._alone(task))
            except LateError:
                self._restart()
                results.append(self.lost(task.arguments, _late()))
        return results

    def _alone(self, task: Task) -> Any:
        """The result of a task that no other one can disturb: in the pool may be the next file that ends it."""
        reason = ""
        for _ in range(_TRIES):
            if self.one is None:
                self.one = _Processes(self.options, 1)
                if (error := self.one.submit(os.getpid).exception()) is not None:
                    # no file is to blame
                    raise UserError("worker processes cannot be started (memory?); give --workers 0") from error
            try:
                return self.one.submit(_call, task.method, task.arguments).result(LONGEST)
            except (BrokenProcessPool, LateError) as error:
                self.one.end()
                self.one = None
                reason = _late() if isinstance(error, LateError) else _ENDS
                if isinstance(error, LateError):
                    break
        return self.lost(task.arguments, reason)

    def _restart(self) -> None:
        self._end()
        self._start()

    def _end(self) -> None:
        if self.processes is not None:
            self.processes.end()

    def close(self) -> None:
        """End the workers."""
        self._end()
        if self.one is not None:
            self.one.end()


def _late() -> str:
    return f"takes longer than {LONGEST / 60:.0f} minutes"
