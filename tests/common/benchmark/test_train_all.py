"""A time budget on cells whose processes only write what a training would."""

import hashlib
import json
from dataclasses import replace

import pytest

from common.benchmark import train_all
from common.benchmark.cells import Cell
from common.benchmark.grid import places, prepare
from common.benchmark.train_all import job_of, steps_done

from .conftest import TINY

START, EPOCH = 2.0, 3.0  # s of a clock of our own: before the first epoch, and an epoch


class Clock:
    """What the module under test takes for the module ``time``."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    monotonic = time

    def sleep(self, seconds):
        self.now += seconds


SIDECAR = hashlib.sha256(b"{}").hexdigest()


class Process:
    """A cell's process: ten epochs from where its history ends; it stops at its deadline and scores when trained."""

    returncode = None

    def __init__(self, clock, folder, deadline):
        self.clock, self.folder, self.deadline = clock, folder, deadline
        self.next = clock.now + START + EPOCH
        self.fails = json.loads((folder / "cell.json").read_text())["seed"] == 7
        (folder / "status.json").unlink(missing_ok=True)
        (folder / "train").mkdir(exist_ok=True)

    def poll(self):
        path = self.folder / "train" / "history.csv"
        rows = path.read_text().splitlines() if path.exists() else ["epoch,steps,seconds,images_per_second,data_share"]
        if self.fails:
            self.returncode = 3
        elif self.next > self.deadline:
            if self.clock.now >= self.deadline:
                self._end("unfinished")
        elif self.clock.now >= self.next:
            rows.append(f"{len(rows)},{len(rows)},{EPOCH},{10 * len(rows)},0.25")
            path.write_text("\n".join(rows))
            self.next += EPOCH
            if len(rows) == 11:
                (self.folder / "train" / "model.json").write_text("{}")
                (self.folder / "train" / "trained.json").write_text("{}")
                (self.folder / "scores" / "own").mkdir(parents=True)
                (self.folder / "scores" / "own" / "summary.json").write_text("{}")
                of = {"score": json.loads((self.folder / "cell.json").read_text())["score"], "sidecar": SIDECAR}
                (self.folder / "scores" / "own" / "score.json").write_text(json.dumps(of))
                self._end("done")
        return self.returncode

    def _end(self, state):
        (self.folder / "status.json").write_text(json.dumps({"state": state}))
        self.returncode = 0


BASE = Cell("unet", ("demo",), "qata", 0, override={**TINY.override, "max_epochs": 10})


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(train_all, "time", clock)
    monkeypatch.setattr(train_all, "launch", lambda folder, data, place, deadline: Process(clock, folder, deadline))
    monkeypatch.setattr(train_all, "end", lambda processes: None)
    return clock


def test_a_job_is_the_steps_of_its_configuration(tmp_path, qata_phantoms):
    folders = prepare(
        tmp_path, [BASE, replace(BASE, override={"max_epochs": 3, "epoch_length": None, "batch_size": 4})]
    )
    first, second = (job_of(folder, cell, qata_phantoms) for folder, cell in folders.items())
    assert (first.steps, first.epoch_steps, first.size, first.batch_size) == (10, 1, (64, 64), 2)
    assert (second.steps, second.epoch_steps) == (3 * 8, 8)  # 32 images in batches of 4


def test_all_are_done_when_there_is_time_and_a_failed_one_stops_nobody(tmp_path, clock, qata_phantoms):
    folders = prepare(tmp_path, [BASE, replace(BASE, seed=7), replace(BASE, seed=1), replace(BASE, dataset="mosmed")])
    lines = []
    state = train_all.train_all(folders, {"qata": qata_phantoms}, places(2, 1), 10, lines.append)
    assert list(state.values()) == ["done", "failed", "done", "no data"]
    assert any("100 images/s, waiting for data 25 %" in line for line in lines)
    assert any("exit code 3" in line for line in lines)


def test_the_budget_holds_and_what_is_left_is_gone_on_with(tmp_path, clock, qata_phantoms):
    folders = prepare(tmp_path, [replace(BASE, seed=seed) for seed in range(4)])
    data = {"qata": qata_phantoms}
    began = clock.now
    state = train_all.train_all(folders, data, places(1, 1), 1.5, lambda _: None)
    assert clock.now - began <= 90
    # 32 s, then another one; of the third what time is left for
    assert list(state.values()) == ["done", "done", "unfinished", "left"]
    kept = [steps_done(folder) for folder in folders]
    assert kept[:2] == [10, 10]
    assert 0 < kept[2] < 10
    assert kept[3] == 0
    again = train_all.train_all(folders, data, places(1, 1), 10, lambda _: None)
    assert set(again.values()) == {"done"}
    assert all(steps_done(folder) == 10 for folder in folders)


def test_what_is_done_is_not_begun(tmp_path, clock, qata_phantoms):
    folders = prepare(tmp_path, [BASE])
    train_all.train_all(folders, {"qata": qata_phantoms}, places(1, 1), 10, lambda _: None)
    lines = []
    state = train_all.train_all(folders, {"qata": qata_phantoms}, places(1, 1), 10, lines.append)
    assert (list(state.values()), lines) == (["done"], [])
    (folder,) = folders
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


def test_a_place_for_which_there_was_nothing_is_asked_again(tmp_path, clock, qata_phantoms, monkeypatch):
    real, asked = train_all.Plan.next, []

    def next_job(self, remaining):
        asked.append(remaining)
        return None if len(asked) == 3 else real(self, remaining)  # what the second place is told at first

    monkeypatch.setattr(train_all.Plan, "next", next_job)
    folders = prepare(tmp_path, [BASE, replace(BASE, seed=1)])
    lines = []
    state = train_all.train_all(folders, {"qata": qata_phantoms}, places(2, 1), 10, lines.append)
    assert set(state.values()) == {"done"}
    assert sum(line.startswith("worker 1: ") for line in lines) == 1


def test_failed_ones_are_not_tried_again_at_every_call(tmp_path, clock, qata_phantoms):
    folders = prepare(tmp_path, [replace(BASE, seed=7)])
    data = {"qata": qata_phantoms}
    train_all.train_all(folders, data, places(1, 1), 10, lambda _: None)
    lines = []
    assert list(train_all.train_all(folders, data, places(1, 1), 10, lines.append).values()) == ["failed"]
    assert not lines
    train_all.train_all(folders, data, places(1, 1), 10, lines.append, retry=True)
    assert lines


def test_the_steps_of_a_part_of_the_masks_are_its_own(tmp_path, qata_phantoms):
    override = {"max_epochs": 3, "epoch_length": None, "batch_size": 2, "fraction": 0.25}
    ((folder, cell),) = prepare(tmp_path, [replace(BASE, fraction=0.25, override=override)]).items()
    assert job_of(folder, cell, qata_phantoms).epoch_steps == 4  # 8 of 32 images
