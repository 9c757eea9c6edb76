import json
import os
import shutil
import sys
import time
from dataclasses import replace

import pytest

from common.benchmark import grid
from common.benchmark.cells import OWN, Cell, from_json
from common.benchmark.grid import Place, ended, launch, places, prepare, run_grid
from common.benchmark.work import claimed, finished
from common.errors import UserError

CELLS = [Cell("unet", (), "qata", seed) for seed in range(4)]
WORKER = """
import hashlib, json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
kind = json.loads((folder / "cell.json").read_text())["seed"]
(folder / "threads").write_text(os.environ["OMP_NUM_THREADS"])
if kind == 1:
    os.kill(os.getpid(), 9)
if kind == 2:
    (folder / "status.json").write_text(json.dumps({"state": "failed", "error": "x.png: is no picture"}))
    sys.exit(2)
train = folder / "train"
train.mkdir()
(train / "model.json").write_text("{}")
(train / "trained.json").write_text("{}")
scores = folder / "scores" / "own"
scores.mkdir(parents=True)
(scores / "summary.json").write_text("{}")
sidecar = hashlib.sha256(b"{}").hexdigest()
(scores / "score.json").write_text(json.dumps({"score": {}, "sidecar": sidecar}))
(folder / "status.json").write_text(json.dumps({"state": "done"}))
"""


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(grid, "command", lambda folder, data: [sys.executable, "-c", WORKER, str(folder)])


def test_a_cell_that_fails_or_dies_is_a_row_and_the_others_go_on(tmp_path, fake):
    folders = prepare(tmp_path, CELLS)
    lines = []
    state = run_grid(folders, {"qata": tmp_path}, places(2, 3), lines.append)
    assert list(state.values()) == ["done", "failed", "failed", "done"]
    errors = [json.loads((f / "status.json").read_text()).get("error") for f in folders]
    assert errors[2] == "x.png: is no picture"
    assert "signal SIGKILL" in errors[1]
    assert "memory?" in errors[1]
    assert any("x.png: is no picture" in line for line in lines)
    assert {(f / "threads").read_text() for f in folders if (f / "threads").exists()} == {"3"}
    # a second run has nothing to do; failed cells want to be asked for
    assert run_grid(folders, {"qata": tmp_path}, places(1), lines.append) == state
    began = len(lines)
    run_grid(folders, {"qata": tmp_path}, places(1), lines.append, retry=True)
    assert sum("of 2" in line for line in lines[began:]) == 2


def test_data_that_is_not_at_hand_is_said(tmp_path, fake):
    folders = prepare(tmp_path, [*CELLS[:1], replace(CELLS[0], dataset="mosmed")])
    assert list(run_grid(folders, {"qata": tmp_path}, places(1), lambda _: None).values()) == ["done", "no data"]


def test_a_cell_that_another_command_has_is_left_to_it(tmp_path, fake):
    folders = prepare(tmp_path, CELLS[:1])
    with claimed(next(iter(folders))) as mine:
        assert mine
        assert list(run_grid(folders, {"qata": tmp_path}, places(1), lambda _: None).values()) == ["elsewhere"]
    assert list(run_grid(folders, {"qata": tmp_path}, places(1), lambda _: None).values()) == ["done"]
    assert ended(tmp_path, grid.ELSEWHERE, 0.0) == "elsewhere"


def test_more_evaluations_are_asked_for_in_the_same_folder(tmp_path, fake):
    folders = prepare(tmp_path, CELLS[:1])
    run_grid(folders, {"qata": tmp_path}, places(1), lambda _: None)
    (folder,) = folders
    more = replace(CELLS[0], evaluations=(OWN, "mirrored"))
    assert prepare(tmp_path, [more]) == {folder: more}
    assert from_json((folder / "cell.json").read_text()) == more
    assert finished(folder, CELLS[0])
    assert not finished(folder, more)


def test_what_another_command_asked_for_stays(tmp_path):
    one, two = replace(CELLS[0], evaluations=(OWN, "mirrored")), replace(CELLS[0], evaluations=(OWN, "blur3"))
    prepare(tmp_path, [one])
    ((folder, cell),) = prepare(tmp_path, [two]).items()
    assert cell.evaluations == (OWN, "blur3", "mirrored")
    assert from_json((folder / "cell.json").read_text()) == cell


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"workers": 0}, {"threads": -2}])
def test_numbers_of_workers_and_threads(wrong):
    with pytest.raises(UserError, match="give 1 or more"):
        places(**wrong)


def test_scores_of_other_rows_or_of_other_weights_do_not_count(tmp_path, fake):
    folders = prepare(tmp_path, CELLS[:1])
    run_grid(folders, {"qata": tmp_path}, places(1), lambda _: None)
    (folder,) = folders
    assert finished(folder, CELLS[0])
    assert not finished(folder, replace(CELLS[0], score={"split": "test"}))
    # copied somewhere, with other times and without the weights
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(copy / "train" / "model.json", (2**31, 2**31))
    assert finished(copy, CELLS[0])
    (copy / "train" / "model.json").write_text('{"value": 1}')
    assert not finished(copy, CELLS[0])
    (copy / "train" / "model.json").unlink()
    assert not finished(copy, CELLS[0])


def test_an_interrupt_ends_the_processes(tmp_path, monkeypatch):
    sleeper = (
        "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], 'pid').write_text(str(os.getpid())); time.sleep(60)"
    )
    monkeypatch.setattr(grid, "command", lambda folder, data: [sys.executable, "-c", sleeper, str(folder)])
    folders = prepare(tmp_path, CELLS[:1])
    (folder,) = folders

    def stop(seconds):
        if (folder / "pid").is_file() and (folder / "pid").read_text():
            raise KeyboardInterrupt
        real(seconds)

    real = time.sleep
    monkeypatch.setattr(grid.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        run_grid(folders, {"qata": tmp_path}, places(1), lambda _: None)
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)
    assert not (folder / "status.json").exists()


def test_one_place_a_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in places()] == ["3", "5"]
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in places(3)] == ["3", "5", "3"]


def test_a_deadline_reaches_the_process(tmp_path, monkeypatch):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'args').write_text(' '.join(sys.argv[2:]))"
    monkeypatch.setattr(grid, "command", lambda folder, data: [sys.executable, "-c", code, str(folder)])
    launch(tmp_path, tmp_path, Place("here", {}), 1234.4).wait()
    assert (tmp_path / "args").read_text() == "--deadline 1234"
