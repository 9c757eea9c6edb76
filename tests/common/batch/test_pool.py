"""Worker processes that a file ends, hangs or fills; a file costs itself at most."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from common.batch import pool as pools
from common.batch.job import Options, OutputLost
from common.batch.pool import Pool
from common.errors import UserError
from tests.common.batch.runs import PICTURE, go, rows, tree


class Calls:
    """In a worker, in a workshop's place: each call is told what to do."""

    def __init__(self, options):
        self.marks = options.output

    def end(self, name, data=None):
        """Ends its process, as a decoder's segmentation fault does."""
        with (self.marks / name).open("a") as file:
            file.write("x")
        os._exit(11)

    def end_once(self, name):
        if not (self.marks / name).exists():
            self.end(name)
        return name

    def hang(self, name, data=None):
        time.sleep(600)

    def work(self, name, data=None):
        (self.marks / name).touch()
        time.sleep(0.05)
        return name

    def full(self, name):
        raise OutputLost(name)


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A pool of ``workers`` processes that call :class:`Calls`."""
    monkeypatch.setattr(pools, "_begin", begin)
    made = []

    def make(workers):
        made.append(Pool(Options("", tmp_path), workers, lambda arguments, reason: (arguments[0], reason)))
        return made[-1]

    yield make
    for one in made:
        one.close()


REAL = pools._begin


def begin(options, niceness):
    """What a worker does first: :class:`Calls` for a workshop. By its name, since it is sent to another process."""
    pools.Workshop = Calls
    REAL(options, niceness)


ENDS = "ends the program that reads it: damaged, or too large for the memory"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_that_ends_its_process_costs_itself(pool, workers):
    made = pool(workers)
    calls = [("work", "a"), ("end", "b"), ("work", "c"), ("end_once", "d"), ("work", "e"), ("end", "f"), ("work", "g")]
    tasks = [made.submit(*call) for call in calls]
    first, second = tasks[:3], tasks[3:]
    assert made.collect(first) == ["a", ("b", ENDS), "c"]
    later = [made.submit("work", "h")]
    assert made.collect(second) == ["d", "e", ("f", ENDS), "g"]
    assert made.collect(later) == ["h"]


def test_a_call_done_again_has_a_process_of_its_own(pool):
    """What comes behind it in the pool may be the next one that ends its process: it must not count for this one."""
    made = pool(1)
    first = [made.submit("end", "a"), made.submit("work", "b", 1)]
    made.collect(first[:1])
    second = [made.submit("end", "c"), made.submit("end", "d")]
    time.sleep(0.3)
    assert made.collect(first[1:]) == ["b"]
    assert made.collect(second) == [("c", ENDS), ("d", ENDS)]


def test_a_process_that_is_killed_from_outside_costs_nothing(pool):
    made = pool(1)
    tasks = [made.submit("work", str(number)) for number in range(20)]
    (process,) = made.processes.executor._processes.values()
    threading.Timer(0.3, process.kill).start()
    assert made.collect(tasks) == [str(number) for number in range(20)]


def test_a_process_that_ends_while_much_waits_for_it(pool):
    """Images wait in a pipe that nobody reads any more."""
    made, much = pool(1), np.zeros(2**22, np.uint8)
    tasks = [made.submit("end", "a", much), *(made.submit("work", str(number), much) for number in range(6))]
    assert made.collect(tasks) == [("a", ENDS), *map(str, range(6))]


def test_a_call_that_hangs_is_ended(pool, monkeypatch):
    monkeypatch.setattr(pools, "LONGEST", 0.01)
    made = pool(1)
    made.ready.result()
    monkeypatch.setattr(pools, "LONGEST", 1.0)
    tasks = [made.submit("hang", "a"), made.submit("work", "b")]
    before = list(made.processes.executor._processes)
    assert made.collect(tasks) == [("a", "takes longer than 0 minutes"), "b"]
    for number in before:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_what_a_call_raises_is_raised(pool):
    made = pool(1)
    with pytest.raises(OutputLost, match="a"):
        made.collect([made.submit("full", "a")])
    assert made.collect([made.submit("work", "b")]) == ["b"]


def fails(options, niceness):
    """A worker that cannot begin."""
    raise MemoryError


def test_processes_that_cannot_start_are_no_files_fault(pool, monkeypatch):
    made = pool(1)
    monkeypatch.setattr(pools, "_begin", fails)
    made.processes.end()
    made._start()
    with pytest.raises(UserError, match="worker processes cannot be started"):
        made.collect([made.submit("work", "a")])


def test_ctrl_c_is_not_the_workers(pool):
    made = pool(1)
    made.ready.result()
    tasks = [made.submit("work", str(number)) for number in range(5)]
    for process in made.processes.executor._processes.values():
        os.kill(process.pid, signal.SIGINT)
    assert made.collect(tasks) == list("01234")
    assert made.started == 1


def test_workers_write_what_one_process_writes(tmp_path, bright):
    root = tmp_path / "in"
    root.mkdir()
    for number in range(5):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(root / f"{number}.png")
    (root / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert go(bright, root, tmp_path / "a", batch_size=2, workers=2).code == 1
    assert go(bright, root, tmp_path / "b", batch_size=2).code == 1
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_worker_killed_in_the_middle_of_a_run(tmp_path, bright):
    """Each of the run's workers is killed once; nothing is lost."""
    root = tmp_path / "in"
    root.mkdir()
    for number in range(12):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(root / f"{number:02}.png")
    killed, real = set(), Pool.collect

    def collect(self, tasks):
        if len(killed) < 3 and self.processes is not None:
            for process in list((self.processes.executor._processes or {}).values()):
                killed.add(process.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        return real(self, tasks)

    Pool.collect = collect
    try:
        assert go(bright, root, tmp_path / "a", batch_size=2, workers=1).code == 0
    finally:
        Pool.collect = real
    assert len(killed) >= 3
    go(bright, root, tmp_path / "b", batch_size=2)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert len(rows(tmp_path / "a")) == 12
