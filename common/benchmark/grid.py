"""The cells of a benchmark, each in a process of its own, spread over GPUs, cores or a Ray cluster.

A cell that fails, or whose process dies, is a row of the results with its reason; the others go on. Two commands may
work on one folder at a time: a cell is done by the one that claims it first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.benchmark.cells import Cell
from common.benchmark.work import asked, claimed, read_json, standing
from common.errors import UserError
from common.files import write_text

CELLS = "cells"
ELSEWHERE = 75  # exit code of a cell's process that found the cell claimed
_STOP = 20.0  # s between a polite end of a cell's process and a hard one


@dataclass(frozen=True, eq=False)
class Place:
    """Where one cell at a time runs: environment variables of its process. Each is a place of its own."""

    name: str
    variables: Mapping[str, str]


def places(workers: int | None = None, threads: int | None = None) -> list[Place]:
    """A place for each GPU, or on a CPU ``workers`` of them with ``threads`` each.

    Args:
        workers: processes at once; None is one a GPU, and one on a CPU.
        threads: of each; None shares the cores.

    Raises:
        UserError: one of them is below 1.
    """
    import torch

    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give 1 or more")

    gpus = torch.cuda.device_count()
    count = workers or gpus or 1
    each = threads or max(1, len(os.sched_getaffinity(0)) // count)
    common = {"OMP_NUM_THREADS": str(each), "PYTHONUNBUFFERED": "1"}
    if not gpus:
        return [Place(f"worker {n}", common) for n in range(count)]
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    return [Place(f"GPU {shown[n % gpus]}", common | {"CUDA_VISIBLE_DEVICES": shown[n % gpus]}) for n in range(count)]


def prepare(output: Path, cells: Sequence[Cell]) -> dict[Path, Cell]:
    """The folders of cells under ``output``, each with its ``cell.json``; what was asked for earlier stays."""
    found = {}
    for cell in cells:
        folder = output / CELLS / cell.name
        path = folder / "cell.json"
        cell = asked(folder, cell)
        text = cell.as_json()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
        found[folder] = cell
    return found


def command(folder: Path, data: Path) -> list[str]:
    """What runs one cell."""
    return [sys.executable, "-m", "tools", "benchmark", "--cell", str(folder), "--data", str(data)]


def run_grid(
    folders: Mapping[Path, Cell],
    data: Mapping[str, Path],
    where: Sequence[Place],
    said: Callable[[str], None] = print,
    retry: bool = False,
) -> dict[Path, str]:
    """Run what is not finished.

    Args:
        folders: of :func:`prepare`, in order.
        data: a data set's name -> its folder; a cell of another one is not run.
        where: places to run at.
        said: called with a line for the user.
        retry: run those again that have failed.

    Returns:
        How each cell stands: done, failed, no data, or elsewhere (another command has it).

    Raises:
        KeyboardInterrupt: after the processes have ended; what they did is kept.
    """
    state = {folder: standing(folder, cell, data, retry) for folder, cell in folders.items()}
    waiting = [folder for folder, word in state.items() if word == "left"]
    total, source = len(waiting), iter(enumerate(waiting, start=1))
    busy: dict[Place, tuple[Path, subprocess.Popen[bytes], float]] = {}
    try:
        for place in where:
            _start(place, source, total, folders, data, busy, state, said)
        while busy:
            time.sleep(0.2)
            for place, (folder, process, began) in list(busy.items()):
                if process.poll() is None:
                    continue
                del busy[place]
                state[folder] = ended(folder, process.returncode, time.monotonic() - began)
                said(
                    f"{state[folder]}: {folder.name} ({time.monotonic() - began:.0f} s){reason(folder, state[folder])}"
                )
                _start(place, source, total, folders, data, busy, state, said)
    finally:
        end([process for _, process, _ in busy.values()])
    return state


def _start(
    place: Place,
    source: Iterator[tuple[int, Path]],
    total: int,
    folders: Mapping[Path, Cell],
    data: Mapping[str, Path],
    busy: dict[Place, tuple[Path, subprocess.Popen[bytes], float]],
    state: dict[Path, str],
    said: Callable[[str], None],
) -> None:
    """Start the next cell at a place that is free, if there is one."""
    for number, folder in source:
        with claimed(folder) as mine:
            if not mine:
                state[folder] = "elsewhere"
                continue
        said(f"{number} of {total}, {place.name}: {folder.name}")
        busy[place] = folder, launch(folder, data[folders[folder].dataset], place), time.monotonic()
        return


def launch(folder: Path, data: Path, place: Place, deadline: float | None = None) -> subprocess.Popen[bytes]:
    """Start the process of a cell; what it prints goes to ``cell.log``.

    Args:
        folder: of the cell.
        data: the data set's folder.
        place: where it runs.
        deadline: seconds since 1970 at which it must be over; it is continued another time.
    """
    (folder / "status.json").unlink(missing_ok=True)
    until = [] if deadline is None else ["--deadline", f"{deadline:.0f}"]
    with (folder / "cell.log").open("ab") as log:
        return subprocess.Popen(
            [*command(folder, data), *until], stdout=log, stderr=subprocess.STDOUT,
            env=os.environ | place.variables, start_new_session=True,
        )  # fmt: skip


def ended(folder: Path, code: int, seconds: float) -> str:
    """How a cell ended; a process that said nothing is a failure, with what is known of it."""
    state = read_json(folder / "status.json").get("state")
    if code == ELSEWHERE:
        return "elsewhere"
    if state is None:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = f"its process ended with {how} and left no word; see {folder.name}/cell.log"
        if code == -signal.SIGKILL:
            why += " (memory?)"
        state = "failed"
        write_text(
            folder / "status.json", json.dumps({"state": state, "seconds": round(seconds, 1), "error": why}) + "\n"
        )
    return state


def reason(folder: Path, state: str) -> str:
    """What a failed cell says, to be put behind its name."""
    return f": {read_json(folder / 'status.json').get('error', '')}" if state == "failed" else ""


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes and what they started: politely, then not."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    until = time.monotonic() + _STOP
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # impatient: a second Ctrl-C
            until = 0.0
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_on_ray(
    folders: Mapping[Path, Cell],
    data: Mapping[str, Path],
    threads: int,
    said: Callable[[str], None] = print,
    retry: bool = False,
) -> dict[Path, str]:
    """As :func:`run_grid`, each cell a task of a Ray cluster whose machines see the folders under the same paths.

    Args:
        folders: of :func:`prepare`, in order.
        data: a data set's name -> its folder.
        threads: CPUs that a cell asks for on a machine without GPU.
        said: called with a line for the user.
        retry: run those again that have failed.

    Raises:
        UserError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray: Ray is not installed; pip install -r requirements-ray.txt") from error
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    gpus = 1 if ray.cluster_resources().get("GPU") else 0

    def one(folder: str, cell: Cell, place: Mapping[str, str]) -> str:
        lines: list[str] = []
        where = Place("a worker", place)
        state = run_grid({Path(folder): cell}, data, [where], lines.append, retry)
        return state[Path(folder)]

    task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=3)(one)
    variables = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    waiting: dict[Any, Path] = {}
    state: dict[Path, str] = {}
    try:
        for folder, cell in folders.items():
            waiting[task.remote(str(folder.resolve()), cell, variables)] = folder
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            folder = waiting.pop(done)
            try:
                state[folder] = ray.get(done)
            except ray.exceptions.RayError as error:
                state[folder] = "failed"
                said(f"{folder.name}: its worker was lost ({type(error).__name__}); run the same command again")
            said(f"{state[folder]}: {folder.name}{reason(folder, state[folder])}")
    finally:
        if started:
            ray.shutdown()
    return {folder: state[folder] for folder in folders}
