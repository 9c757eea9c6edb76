"""A short time on a machine, used to the last minute.

The most valuable trainings come first; what is left of the time goes to one that is continued another time. Each cell
runs in a process of its own, with the moment at which all must be over; see :mod:`common.benchmark.plan` for which
comes next and :class:`common.engines.TimeLimit` for how a training stops.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from common.benchmark.cells import Cell
from common.benchmark.grid import Place, end, ended, launch, reason
from common.benchmark.plan import Job, Plan
from common.benchmark.work import TRAINED, read_json, standing, training, training_rows
from common.bundle import bundle_folder
from common.report.curves import read_history
from common.runtime.workflow import merged_config

_GPU = 40.0  # times faster than the table, as long as nothing is known; too high a guess is corrected by the first job
_GRACE = 60.0  # s after its deadline that a process has to write its last checkpoint before it is ended


def job_of(folder: Path, cell: Cell, data: Path) -> Job:
    """What a cell's training is to the plan: its steps, from its configuration and the number of its images."""
    configs, settings = training(cell)
    config = merged_config(bundle_folder(cell.bundle), configs, settings)
    batch = config["batch_size"]
    length = config["epoch_length"]
    if length is None:
        length = max(1, len(training_rows(cell, data, config)) // batch)
    job = Job(
        folder.name, cell.bundle, tuple(config["image_size"]), config["max_epochs"] * length, length, batch
    )  # fmt: skip
    job.done = steps_done(folder)
    return job


def history(folder: Path) -> list[dict[str, str]]:
    """Rows of the training's ``history.csv``; none before its first epoch."""
    train = folder / "train"
    return read_history(train) if (train / "history.csv").is_file() else []


def steps_done(folder: Path) -> int:
    """Steps that are kept."""
    rows = history(folder)
    return int(rows[-1]["steps"]) if rows else 0


def train_all(
    folders: Mapping[Path, Cell],
    data: Mapping[str, Path],
    where: Sequence[Place],
    minutes: float,
    said: Callable[[str], None] = print,
    retry: bool = False,
) -> dict[Path, str]:
    """Train and score cells, the first ones first, for so many minutes.

    Args:
        folders: of :func:`common.benchmark.grid.prepare`, the most valuable first.
        data: a data set's name -> its folder; cells of others are left out.
        where: places, one cell at a time at each.
        minutes: in all, start and evaluations included.
        said: called with a line for the user.
        retry: run those again that have failed.

    Returns:
        How each cell stands: done, unfinished (to be gone on with), failed, no data, or left (no time).
    """
    until = time.time() + 60 * minutes
    state = {folder: standing(folder, cell, data, retry) for folder, cell in folders.items()}
    named = {folder.name: folder for folder in folders}
    # the plan's table is of CPUs; what is measured on this machine soon takes its place
    plan = Plan(
        [job_of(f, c, data[c.dataset]) for f, c in folders.items() if state[f] == "left"],
        speed=_GPU if torch.cuda.is_available() else 1.0,
    )
    for job in plan.jobs:
        folder = named[job.name]
        if read_json(folder / "train" / TRAINED):
            job.steps = job.done + 1  # trained already: its evaluations are left, which take no more than a step
    busy: dict[Place, tuple[Job, subprocess.Popen[bytes], float, int]] = {}
    free = list(where)
    try:
        while busy or (free and plan.next(until - time.time())):
            for place in list(free):
                chosen = plan.next(until - time.time())
                if chosen is None:  # now; when another job is over, more may be known, or free
                    continue
                job, limit = chosen
                plan.drop(job)  # while it runs, nobody else takes it
                folder = named[job.name]
                left = f", {(until - time.time()) / 60:.1f} minutes left"
                said(f"{place.name}: {job.name}, {job.done} of {job.steps} steps done{left}")
                process = launch(folder, data[folders[folder].dataset], place, time.time() + limit)
                busy[place] = job, process, time.monotonic(), steps_done(folder)
                free.remove(place)
            time.sleep(0.2)
            for place, (job, process, began, before) in list(busy.items()):
                folder = named[job.name]
                if process.poll() is None:
                    if time.time() > until + _GRACE:
                        end([process])
                    continue
                del busy[place]
                free.append(place)
                seconds = time.monotonic() - began
                state[folder] = ended(folder, process.returncode, seconds)
                said(f"{state[folder]}: {job.name} ({seconds:.0f} s){_speed(folder)}{reason(folder, state[folder])}")
                rows = [row for row in history(folder) if int(row["steps"]) > before]
                if rows:
                    inside = sum(float(row["seconds"]) for row in rows)
                    plan.learn(job, inside / (steps_done(folder) - before), max(0.0, seconds - inside))
                if state[folder] == "unfinished" and rows:
                    plan.progress(job, steps_done(folder))
                    plan.dropped.discard(job.name)
    finally:
        end([process for _, process, _, _ in busy.values()])
    return state


def _speed(folder: Path) -> str:
    """Images a second and the share of waiting for data in the last epoch."""
    rows = [row for row in history(folder) if row.get("images_per_second")]
    if not rows:
        return ""
    last = rows[-1]
    return (
        f", {float(last['images_per_second']):.0f} images/s, waiting for data {100 * float(last['data_share']):.0f} %"
    )
