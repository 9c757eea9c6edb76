"""A time budget on cells whose processes only write what a training would."""

import json
import sys
import time
from dataclasses import replace

import pytest

from common.benchmark import grid, train_all
from common.benchmark.cells import Cell
from common.benchmark.grid import places, prepare
from common.benchmark.train_all import job_of, steps_done

from .conftest import TINY

# ten epochs of 0.15 s; stops at its deadline, goes on from its history, scores when trained
WORKER = """
import json, pathlib, sys, time
folder, deadline = pathlib.Path(sys.argv[1]), float(sys.argv[3])
cell = json.loads((folder / "cell.json").read_text())
if cell["seed"] == 7:
    sys.exit(3)
train = folder / "train"
train.mkdir(exist_ok=True)
path = train / "history.csv"
rows = path.read_text().splitlines() if path.exists() else ["epoch,steps,seconds,images_per_second,data_share"]
while len(rows) < 11:
    if time.time() + 0.15 > deadline:
        (folder / "status.json").write_text(json.dumps({"state": "unfinished"}))
        sys.exit(0)
    time.sleep(0.15)
    rows.append(f"{len(rows)},{len(rows)},0.15,{10 * len(rows)},0.25")
    path.write_text("\\n".join(rows))
(train / "model.pt").write_text("")
(train / "trained.json").write_text("{}")
(folder / "scores" / "own").mkdir(parents=True)
(folder / "scores" / "own" / "summary.json").write_text("{}")
(folder / "scores" / "own" / "score.json").write_text("{}")
(folder / "status.json").write_text(json.dumps({"state": "done"}))
"""
BASE = Cell("unet", ("demo",), "qata", 0, override={**TINY.override, "max_epochs": 10})


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(grid, "command", lambda folder, data: [sys.executable, "-c", WORKER, str(folder)])
    # of a program that starts in no time
    plan = train_all.Plan
    monkeypatch.setattr(train_all, "Plan", lambda jobs: plan(jobs, start_seconds=0.2, margin=0.2, speed=10))


def test_a_job_is_the_steps_of_its_configuration(tmp_path, qata_phantoms):
    folders = prepare(
        tmp_path, [BASE, replace(BASE, override={"max_epochs": 3, "epoch_length": None, "batch_size": 4})]
    )
    first, second = (job_of(folder, cell, qata_phantoms) for folder, cell in folders.items())
    assert (first.steps, first.epoch_steps, first.size, first.batch_size) == (10, 1, (64, 64), 2)
    assert (second.steps, second.epoch_steps) == (3 * 8, 8)  # 32 images in batches of 4


def test_all_are_done_when_there_is_time_and_a_failed_one_stops_nobody(tmp_path, fake, qata_phantoms):
    folders = prepare(tmp_path, [BASE, replace(BASE, seed=7), replace(BASE, seed=1), replace(BASE, dataset="mosmed")])
    lines = []
    state = train_all.train_all(folders, {"qata": qata_phantoms}, places(2, 1), 1.0, lines.append)
    assert list(state.values()) == ["done", "failed", "done", "no data"]
    assert any("100 images/s, waiting for data 25 %" in line for line in lines)
    assert any("exit code 3" in line for line in lines)


def test_the_budget_holds_and_what_is_left_is_gone_on_with(tmp_path, fake, qata_phantoms):
    folders = prepare(tmp_path, [replace(BASE, seed=seed) for seed in range(4)])
    data = {"qata": qata_phantoms}
    began = time.monotonic()
    state = train_all.train_all(folders, data, places(1, 1), 3.2 / 60, lambda _: None)
    assert time.monotonic() - began < 3.2 + 1.5  # a process that starts late, on a busy machine
    first, *_, last = state.values()
    assert first == "done"  # the most valuable one
    assert last == "left"
    kept = [steps_done(folder) for folder in folders]
    assert kept[0] == 10
    assert 0 < sum(kept[1:]) < 30  # the rest of the time was used
    again = train_all.train_all(folders, data, places(1, 1), 1.0, lambda _: None)
    assert set(again.values()) == {"done"}
    assert all(steps_done(folder) == 10 for folder in folders)


def test_what_is_done_is_not_begun(tmp_path, fake, qata_phantoms):
    folders = prepare(tmp_path, [BASE])
    train_all.train_all(folders, {"qata": qata_phantoms}, places(1, 1), 1.0, lambda _: None)
    lines = []
    state = train_all.train_all(folders, {"qata": qata_phantoms}, places(1, 1), 1.0, lines.append)
    assert (list(state.values()), lines) == (["done"], [])
    (folder,) = folders
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
